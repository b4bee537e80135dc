/**
 * What a setting is: where it belongs, its unit, its default, what follows from it, and how its value is read from the
 * environment (text) or from twinmesh.config.json (a JSON value). A reader throws `Unreadable` with the rest of the
 * sentence "NAME …"; it never repeats a value that may hold a secret.
 */
export interface Setting<T> {
  group: Group;
  /** What the value counts: ms, bytes, port, … Empty for text and choices. */
  unit: string;
  default: T;
  /** What it does and what follows from changing it, one or two sentences. */
  consequence: string;
  /** How the value is written, for the help: `on|off`, `1..4096`, `postgres://…`. */
  form: string;
  read(raw: unknown): T;
  /** Holds or may hold a password: it is never repeated, and NAME_FILE may name a file that holds it. */
  secret?: true;
}

export const GROUPS = [
  'mesh',
  'listening',
  'storage',
  'runtime',
  'ingest',
  'access',
  'models',
  'events',
  'archive',
  'observability',
  'demo',
] as const;
export type Group = (typeof GROUPS)[number];

export class Unreadable extends Error {}

type About<T> = [group: Group, fallback: T, consequence: string];

function textOf(raw: unknown): string {
  if (typeof raw !== 'string') throw new Unreadable('must be text');
  return raw.trim();
}

function numberOf(raw: unknown, what: string): number {
  const value = typeof raw === 'number' ? raw : /^[+-]?\d+(\.\d+)?$/.test(textOf(raw)) ? Number(raw) : Number.NaN;
  if (!Number.isFinite(value)) throw new Unreadable(`must be ${what}, not ${JSON.stringify(raw)}`);
  return value;
}

export function integer(
  unit: string,
  min: number,
  max: number,
  ...[group, fallback, consequence]: About<number>
): Setting<number> {
  return {
    group,
    unit,
    default: fallback,
    consequence,
    form: `${min}..${max}`,
    read(raw) {
      const value = numberOf(raw, 'a whole number');
      if (!Number.isInteger(value)) throw new Unreadable(`must be a whole number, not ${value}`);
      if (value < min || value > max) throw new Unreadable(`must lie between ${min} and ${max}, not ${value}`);
      return value;
    },
  };
}

export function decimal<D extends number | null>(
  unit: string,
  min: number,
  max: number,
  ...[group, fallback, consequence]: About<D>
): Setting<number | D> {
  return {
    group,
    unit,
    default: fallback,
    consequence,
    form: `${min}..${max}`,
    read(raw) {
      const value = numberOf(raw, 'a number');
      if (value < min || value > max) throw new Unreadable(`must lie between ${min} and ${max}, not ${value}`);
      return value;
    },
  };
}

/** A TCP port; 0 lets the system choose a free one, which the banner then shows. */
export function port(...about: About<number>): Setting<number> {
  return { ...integer('port', 0, 65_535, ...about), form: '0..65535, 0 = any free' };
}

export function flag(...[group, fallback, consequence]: About<boolean>): Setting<boolean> {
  return {
    group,
    unit: '',
    default: fallback,
    consequence,
    form: 'on|off',
    read(raw) {
      if (typeof raw === 'boolean') return raw;
      const value = textOf(raw).toLowerCase();
      if (['on', 'true', '1', 'yes'].includes(value)) return true;
      if (['off', 'false', '0', 'no'].includes(value)) return false;
      throw new Unreadable(`must be on or off, not ${JSON.stringify(raw)}`);
    },
  };
}

export function choice<const C extends string>(
  choices: readonly C[],
  ...[group, fallback, consequence]: About<NoInfer<C>>
): Setting<C> {
  return {
    group,
    unit: '',
    default: fallback,
    consequence,
    form: choices.join('|'),
    read(raw) {
      const value = textOf(raw).toLowerCase();
      const found = choices.find((c) => c === value);
      if (found === undefined) throw new Unreadable(`must be one of ${choices.join(', ')}, not ${JSON.stringify(raw)}`);
      return found;
    },
  };
}

export function text<D extends string | null>(
  form: string,
  pattern: RegExp,
  ...[group, fallback, consequence]: About<D>
): Setting<string | D> {
  return {
    group,
    unit: '',
    default: fallback,
    consequence,
    form,
    read(raw) {
      const value = textOf(raw);
      if (!pattern.test(value)) throw new Unreadable(`must be ${form}`);
      return value;
    },
  };
}

/** A URL that may carry a password: its value is never repeated. */
export function url(
  protocols: readonly string[],
  ...[group, fallback, consequence]: About<null>
): Setting<string | null> {
  const form = protocols.map((p) => `${p}//…`).join(' or ');
  return {
    group,
    unit: '',
    default: fallback,
    consequence,
    form,
    secret: true,
    read(raw) {
      const value = textOf(raw);
      checkUrl(value, protocols, form);
      return value;
    },
  };
}

/** Several servers of one cluster, separated by commas, each a URL that may carry a password. */
export function urls(
  protocols: readonly string[],
  ...[group, fallback, consequence]: About<null>
): Setting<string | null> {
  const form = `${protocols.map((p) => `${p}//…`).join(' or ')}, separated by commas`;
  return {
    group,
    unit: '',
    default: fallback,
    consequence,
    form,
    secret: true,
    read(raw) {
      const values = textOf(raw)
        .split(',')
        .map((value) => value.trim());
      for (const value of values) checkUrl(value, protocols, form);
      return values.join(',');
    },
  };
}

function checkUrl(value: string, protocols: readonly string[], form: string): void {
  const parsed = URL.canParse(value) ? new URL(value) : null;
  if (!parsed || !protocols.includes(parsed.protocol)) throw new Unreadable(`must be a URL of the form ${form}`);
  if (parsed.password !== '') refuseExample(decodeURIComponent(parsed.password));
}

/** A setting whose value is a secret and nothing else. */
export function hidden<T>(setting: Setting<T>): Setting<T> {
  return {
    ...setting,
    secret: true,
    read(raw) {
      const value = setting.read(raw);
      if (typeof value === 'string') refuseExample(value);
      return value;
    },
  };
}

/** What documents and templates put in the place of a secret. */
const EXAMPLES =
  /^(change-?_?me.*|example.*|password\d*|passwd|secret|your[-_ ].*|todo|x{3,}|\*{3,}|<.*>|\$\{.*\}|\.{3}|…)$/i;

function refuseExample(value: string): void {
  if (EXAMPLES.test(value)) throw new Unreadable('holds an example instead of a secret; make one of your own');
}

export function list(
  form: string,
  pattern: RegExp,
  ...[group, fallback, consequence]: About<readonly string[]>
): Setting<readonly string[]> {
  return {
    group,
    unit: '',
    default: fallback,
    consequence,
    form,
    read(raw) {
      const parts = Array.isArray(raw) ? raw.map(textOf) : textOf(raw).split(',');
      const values = parts.map((part) => part.trim()).filter((part) => part !== '');
      const bad = values.find((value) => !pattern.test(value));
      if (bad !== undefined) throw new Unreadable(`must be ${form}; ${JSON.stringify(bad)} is not`);
      return Object.freeze(values);
    },
  };
}
