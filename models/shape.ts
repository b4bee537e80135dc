import { TwinmeshError } from '../actors/protocol/errors.ts';

/**
 * Readers of JSON that somebody else wrote. Every fault is a sentence about its path; all of them are collected, and a value that
 * was not as it has to be reads as something of its type, so that the reading goes on.
 */
export class Faults {
  readonly found: string[] = [];
  readonly #what: string;

  constructor(what: string) {
    this.#what = what;
  }

  add(path: string, rest: string): void {
    if (this.found.length < 20) this.found.push(`${path} ${rest}`);
  }

  /** Throws bad_model with every fault found. */
  end(): void {
    if (this.found.length > 0) throw new TwinmeshError('bad_model', `${this.#what}: ${this.found.join('; ')}.`);
  }

  object(path: string, value: unknown): Record<string, unknown> {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
    this.add(path, 'must be an object');
    return {};
  }

  /** At most `most` items. */
  list(path: string, value: unknown, most: number): unknown[] {
    if (!Array.isArray(value)) this.add(path, 'must be an array');
    else if (value.length > most) this.add(path, `must not have more than ${most} items`);
    else return value;
    return [];
  }

  text(path: string, value: unknown, most = 2_000): string {
    if (typeof value === 'string' && value.length > 0 && value.length <= most) return value;
    this.add(path, `must be text of 1 to ${most} characters`);
    return '';
  }

  number(path: string, value: unknown, min = -Infinity, max = Infinity): number {
    if (typeof value === 'number' && Number.isFinite(value) && value >= min && value <= max) return value;
    const between = Number.isFinite(min) || Number.isFinite(max) ? ` between ${min} and ${max}` : '';
    this.add(path, `must be a finite number${between}`);
    return 0;
  }

  integer(path: string, value: unknown, min: number, max: number): number {
    const number = this.number(path, value, min, max);
    if (!Number.isInteger(number)) this.add(path, 'must be a whole number');
    return Math.trunc(number);
  }

  choice<const C extends string>(path: string, value: unknown, choices: readonly C[]): C {
    if (choices.includes(value as C)) return value as C;
    this.add(path, `must be one of ${choices.join(', ')}`);
    return choices[0];
  }

  /** Texts, each once. */
  names(path: string, value: unknown, most: number): string[] {
    const names = this.list(path, value, most).map((item, i) => this.text(`${path}[${i}]`, item, 200));
    if (new Set(names).size !== names.length) this.add(path, 'must not name anything twice');
    return names;
  }

  /** `[lo, hi]` with lo below hi. */
  span(path: string, value: unknown): [number, number] {
    const pair = this.list(path, value, 2);
    const [lo, hi] = [this.number(`${path}[0]`, pair[0]), this.number(`${path}[1]`, pair[1])];
    if (!(lo < hi)) this.add(path, 'must go from low to high');
    return [lo, hi];
  }
}
