import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { SavedFleet } from './fleet.ts';

/**
 * What the demo fleet goes on from at the next start: one small file in DATA_DIR.
 *
 *  1. It is replaced whole, by a rename: a node that is killed leaves the one before.
 *  2. What is damaged, of another version or of another seed is told and not used: the fleet begins anew.
 *  3. That it cannot be written is told once and stops nothing.
 */
const NAME = 'demo-fleet.json';
const VERSION = 1;

export interface FleetLog {
  warn(sentence: string): void;
}

export class FleetFile {
  readonly #path: string;
  readonly #seed: number;
  readonly #log: FleetLog;
  #told = false;

  constructor(dataDir: string, seed: number, log: FleetLog) {
    this.#path = join(resolve(dataDir), NAME);
    this.#seed = seed;
    this.#log = log;
  }

  /** Null where there is none that can be gone on from. */
  read(): SavedFleet | null {
    if (!existsSync(this.#path)) return null;
    try {
      const [head, body] = readFileSync(this.#path, 'utf8').split('\n', 2);
      const { version, seed, sum } = JSON.parse(head);
      if (version !== VERSION) return this.#refuse('it is of another version');
      if (sum !== sumOf(body)) return this.#refuse('it is damaged');
      if (seed !== this.#seed) return this.#refuse('it is of another DEMO_SEED');
      return JSON.parse(body) as SavedFleet;
    } catch (error) {
      return this.#refuse(`it cannot be read: ${(error as Error).message}`);
    }
  }

  write(fleet: SavedFleet): void {
    const next = `${this.#path}.next`;
    try {
      const body = JSON.stringify(fleet);
      const head = JSON.stringify({ version: VERSION, seed: this.#seed, sum: sumOf(body) });
      writeFileSync(next, `${head}\n${body}\n`, { mode: 0o600 });
      renameSync(next, this.#path);
    } catch (error) {
      if (!this.#told)
        this.#log.warn(
          `the demo fleet will begin anew at the next start: ${this.#path} cannot be written: ${(error as Error).message}`,
        );
      this.#told = true;
    }
  }

  #refuse(why: string): null {
    this.#log.warn(`the demo fleet begins anew, not where it was in ${this.#path}: ${why}`);
    return null;
  }
}

function sumOf(body: string): string {
  return createHash('sha256').update(body).digest('hex');
}
