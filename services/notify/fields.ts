import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

/**
 * Reads the fields of a JSON object one by one and collects what is wrong with them, so that all faults are told at once. No
 * fault repeats a secret.
 */
export interface SecretSources {
  env: Readonly<Record<string, string | undefined>>;
  /** Throws when it cannot be read. */
  readFile(path: string): string;
}

export const systemSecrets: SecretSources = {
  env: process.env,
  readFile: (path) => readFileSync(resolve(path), 'utf8'),
};

export class Fields {
  readonly #of: Record<string, unknown>;
  readonly #where: string;
  readonly #faults: string[];
  readonly #sources: SecretSources;
  readonly #asked = new Set<string>();

  constructor(value: unknown, where: string, faults: string[], sources: SecretSources) {
    this.#where = where;
    this.#faults = faults;
    this.#sources = sources;
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    if (!isObject) faults.push(`${where} must be an object.`);
    this.#of = isObject ? (value as Record<string, unknown>) : {};
  }

  fault(name: string, sentence: string): void {
    this.#faults.push(`${this.#where}${this.#where === '' ? '' : '.'}${name} ${sentence}.`);
  }

  get names(): string[] {
    return Object.keys(this.#of);
  }

  raw(name: string): unknown {
    this.#asked.add(name);
    return Object.hasOwn(this.#of, name) ? this.#of[name] : undefined;
  }

  object(name: string): Fields | null {
    const value = this.raw(name);
    if (value === undefined || value === null) return null;
    return new Fields(value, this.#path(name), this.#faults, this.#sources);
  }

  objects(name: string): Fields[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) {
      this.fault(name, 'must be a list');
      return [];
    }
    return value.map((item, i) => new Fields(item, `${this.#path(name)}[${i}]`, this.#faults, this.#sources));
  }

  text(name: string, pattern: RegExp, form: string, fallback?: string): string {
    const value = this.raw(name);
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value === 'string' && value.length <= 2_000 && pattern.test(value)) return value;
    this.fault(name, value === undefined ? `is missing: ${form}` : `must be ${form}`);
    return '';
  }

  number(name: string, min: number, max: number, fallback: number): number {
    const value = this.raw(name);
    if (value === undefined) return fallback;
    if (typeof value === 'number' && value >= min && value <= max) return value;
    this.fault(name, `must be a number from ${min} to ${max}`);
    return fallback;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.raw(name);
    if (value === undefined || typeof value === 'boolean') return value ?? fallback;
    this.fault(name, 'must be true or false');
    return fallback;
  }

  /** Null where it is left out. */
  words(name: string, isKnown: (word: string) => boolean, form: string): string[] | null {
    const value = this.raw(name);
    if (value === undefined) return null;
    if (!Array.isArray(value) || value.length === 0 || value.length > 100) {
      this.fault(name, `must be a list of ${form}`);
      return [];
    }
    const bad = value.filter((word) => typeof word !== 'string' || word.length > 200 || !isKnown(word));
    if (bad.length > 0) this.fault(name, `must be a list of ${form}; ${JSON.stringify(bad[0])?.slice(0, 100)} is not`);
    return value.filter((word) => !bad.includes(word));
  }

  /** `{ "env": "NAME" }` or `{ "file": "/run/secrets/name" }`; never the secret itself. */
  secret(name: string): string {
    const value = this.raw(name);
    if (value === undefined) this.fault(name, 'is missing');
    else if (typeof value === 'string')
      this.fault(
        name,
        'must not stand in this file: name a variable { "env": … } or a file { "file": … } that holds it',
      );
    else return this.#secretOf(name, value);
    return '';
  }

  /** As it stands, or by name as a secret. `secret` says which. */
  maybeSecret(name: string): { value: string; secret: boolean } {
    const value = this.raw(name);
    if (typeof value === 'string') return { value, secret: false };
    return { value: this.secret(name), secret: true };
  }

  /** To be called last: names that nobody has asked for. */
  end(): void {
    for (const name of this.names) {
      if (!this.#asked.has(name)) this.fault(name, `is not known; there are ${[...this.#asked].join(', ')}`);
    }
  }

  #secretOf(name: string, value: unknown): string {
    const { env, file, ...more } = (value ?? {}) as Record<string, unknown>;
    const isOne = (typeof env === 'string') !== (typeof file === 'string') && Object.keys(more).length === 0;
    if (!isOne) {
      this.fault(name, 'must be { "env": "NAME" } or { "file": "PATH" }');
      return '';
    }
    let found = '';
    try {
      found = (typeof env === 'string' ? this.#sources.env[env] : this.#sources.readFile(file as string))?.trim() ?? '';
    } catch {
      this.fault(name, `names the file ${file}, which cannot be read`);
      return '';
    }
    const what =
      typeof env === 'string'
        ? `the environment variable ${env}, which is not set`
        : `the file ${file}, which is empty`;
    if (found === '') this.fault(name, `names ${what}`);
    return found;
  }

  #path(name: string): string {
    return this.#where === '' ? name : `${this.#where}.${name}`;
  }
}
