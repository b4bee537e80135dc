import { ALIASES, CATALOGUE, UNBUILT } from './catalogue.ts';
import { LIMITS } from './limits.ts';
import { nearest } from './nearest.ts';
import { type Setting, Unreadable } from './setting.ts';

/**
 * Reads the settings: environment over twinmesh.config.json over defaults.
 *
 *  1. Pure: the environment and the content of the file are handed in, nothing else is looked at.
 *  2. All faults are reported together.
 *  3. No fault repeats a value that may hold a secret (passwords, tokens, URLs).
 *  4. A name that is known but cannot be served is refused or noted, never passed over.
 */
export type Settings = Readonly<Omit<Declared, 'nodeId'>> & {
  readonly nodeId: string;
  /** What was set and has no effect, one sentence each, for the banner. */
  readonly notices: readonly string[];
};

type Catalogue = typeof CATALOGUE;
type Declared = {
  -readonly [Name in keyof Catalogue as Camel<Name>]: Catalogue[Name] extends Setting<infer T> ? T : never;
};

/** `MQTT_LISTEN_PORT` → `mqttListenPort`. */
type Camel<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Lowercase<Head>}${Pascal<Tail>}`
  : Lowercase<Name>;
type Pascal<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Capitalize<Lowercase<Head>>}${Pascal<Tail>}`
  : Capitalize<Lowercase<Name>>;

export type Environment = Readonly<Record<string, string | undefined>>;

/** Thrown with every fault found. `code` is that of docs/ERRORS.md. */
export class SettingsError extends Error {
  readonly code = 'bad_settings';
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(faults.join('\n'));
    this.name = 'SettingsError';
    this.faults = faults;
  }
}

export function camelCase(name: string): string {
  return name.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** What settings may need of the machine, handed in. */
export interface Machine {
  hostname: string;
  /** The text of a file that a NAME_FILE names; throws when it cannot be read. */
  readSecret(path: string): string;
}

const NO_MACHINE: Machine = {
  hostname: 'node-1',
  readSecret: () => {
    throw new Error('no files here');
  },
};

/** `configFile` is the text of twinmesh.config.json, where there is one. Throws SettingsError. */
export function loadSettings(env: Environment, configFile?: string, machine: Machine = NO_MACHINE): Settings {
  const faults: string[] = [];
  const notices: string[] = [];
  const file = readFile(configFile, faults);
  const values: Record<string, unknown> = {};

  // An empty variable counts as unset: compose files pass those.
  const own = (name: string): unknown => (env[name] !== undefined && env[name] !== '' ? env[name] : file[name]);
  const given = (name: string): unknown => own(name) ?? own(aliasOf(name));

  for (const [name, setting] of Object.entries(CATALOGUE) as [string, Setting<unknown>][]) {
    let raw = given(name);
    try {
      const path = setting.secret ? own(`${name}_FILE`) : undefined;
      if (path !== undefined && path !== null) raw = secretOf(name, raw, path, machine);
      values[camelCase(name)] = raw === undefined || raw === null ? setting.default : setting.read(raw);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      faults.push(`${name} ${error.message}.`);
      values[camelCase(name)] = setting.default;
    }
  }
  for (const [name, { part, answer }] of Object.entries(UNBUILT)) {
    if (given(name) === undefined) continue;
    if (answer === 'refuse') faults.push(`${name} is set, but ${part} is not available in this version. Unset it.`);
    if (answer === 'note') notices.push(`${name} has no effect: ${part} is not available in this version.`);
  }

  const declared = values as Declared;
  // A mesh has a fleet of its own unless somebody says otherwise.
  if (declared.natsUrl !== null && given('DEMO') === undefined) declared.demo = false;
  declared.nodeId ??= declared.natsUrl === null ? 'node-1' : nodeNameOf(machine.hostname);
  resolveParts(declared, faults, notices);
  for (const limit of LIMITS) {
    if (!limit.holds(declared)) faults.push(limit.otherwise(declared));
  }
  if (faults.length > 0) throw new SettingsError(faults);
  return Object.freeze({ ...declared, nodeId: declared.nodeId, notices: Object.freeze(notices) });
}

function aliasOf(name: string): string {
  return Object.entries(ALIASES).find(([, own]) => own === name)?.[0] ?? '';
}

/** Secrets mounted as files, as container platforms do. Throws Unreadable. */
function secretOf(name: string, raw: unknown, path: unknown, machine: Machine): string {
  if (raw !== undefined && raw !== null) throw new Unreadable(`and ${name}_FILE are both set; one of them has to go`);
  if (typeof path !== 'string') throw new Unreadable('_FILE must be text');
  let text: string;
  try {
    text = machine.readSecret(path).trim();
  } catch {
    throw new Unreadable(`cannot be read from the file that ${name}_FILE names`);
  }
  if (text === '') throw new Unreadable(`is empty in the file that ${name}_FILE names`);
  return text;
}

function nodeNameOf(hostname: string): string {
  return hostname.replace(/[^A-Za-z0-9._-]/g, '-').slice(0, 64) || 'node-1';
}

/** PG_* and MQTT_HOST become the URL they stand for; the URL wins where both are given. */
function resolveParts(values: Declared, faults: string[], notices: string[]): void {
  const pg = values.pgHost ?? values.pgUser ?? values.pgPassword ?? values.pgDatabase;
  if (values.databaseUrl !== null) {
    if (pg !== null) notices.push('PG_* have no effect: DATABASE_URL is set and wins.');
  } else if (values.pgHost !== null) {
    if (values.pgUser === null) faults.push('PG_USER is missing: PG_HOST needs it.');
    if (values.pgDatabase === null) faults.push('PG_DATABASE is missing: PG_HOST needs it.');
    const password = values.pgPassword ? `:${encodeURIComponent(values.pgPassword)}` : '';
    const user = encodeURIComponent(values.pgUser ?? '');
    const database = encodeURIComponent(values.pgDatabase ?? '');
    const socket = values.pgHost.startsWith('/');
    const host = socket ? encodeURIComponent(values.pgHost) : bracketed(values.pgHost);
    values.databaseUrl = `postgres://${user}${password}@${host}:${values.pgPort}/${database}`;
  } else if (pg !== null) {
    faults.push('PG_HOST is missing: PG_USER, PG_PASSWORD and PG_DATABASE mean nothing without it.');
  }
  if (values.mqttUrl !== null) {
    if (values.mqttHost !== null) notices.push('MQTT_HOST has no effect: MQTT_URL is set and wins.');
  } else if (values.mqttHost !== null) {
    values.mqttUrl = `mqtt://${bracketed(values.mqttHost)}:${values.mqttPort}`;
  }
  if (values.natsUrl !== null && values.mqttUrl === null && values.roles.includes('ingest'))
    notices.push(
      'MQTT is off: the embedded broker serves one node only. Set MQTT_URL to a broker that all nodes share.',
    );
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function readFile(configFile: string | undefined, faults: string[]): Record<string, unknown> {
  if (configFile === undefined) return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(configFile);
  } catch {
    // The parser's own message quotes the text around the fault, which may be a password.
    faults.push('twinmesh.config.json is not valid JSON.');
    return {};
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    faults.push('twinmesh.config.json must hold one object of settings.');
    return {};
  }
  const secrets = (Object.entries(CATALOGUE) as [string, Setting<unknown>][]).filter(([, setting]) => setting.secret);
  const known = [
    ...Object.keys(CATALOGUE),
    ...Object.keys(ALIASES),
    ...Object.keys(UNBUILT),
    ...secrets.map(([name]) => `${name}_FILE`),
  ];
  for (const key of Object.keys(parsed)) {
    if (known.includes(key)) continue;
    const near = nearest(asSetting(key), known);
    faults.push(`twinmesh.config.json: unknown key ${JSON.stringify(key)}${near ? `, did you mean ${near}?` : '.'}`);
  }
  return parsed as Record<string, unknown>;
}

/** `latenessMs` and `lateness-ms` as `LATENESS_MS`. */
function asSetting(key: string): string {
  return key
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toUpperCase()
    .replace(/[^A-Z0-9]+/g, '_');
}
