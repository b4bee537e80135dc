import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { dataDirError } from '../../actors/store/data-dir.ts';
import type { Position } from './block.ts';
import { noTotals, type Totals } from './totals.ts';

/**
 * Up to where a file has been stored, in DATA_DIR, so that a load that was interrupted goes on. It is never ahead of what
 * is stored; what lies between it and the interruption is sent again and recognised as duplicates.
 */
export interface Progressed {
  position: Position;
  totals: Totals;
}

const VERSION = 1;
const SAVE_EVERY_MS = 1000;

export class Checkpoint {
  readonly #path: string;
  #savedAt = Number.NEGATIVE_INFINITY;

  /** `what` names file, content and way of reading: when any of it changes, loading starts from the beginning. */
  constructor(dataDir: string, what: unknown) {
    const folder = join(resolve(dataDir), 'load');
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw dataDirError(folder, error);
    }
    const key = createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 32);
    this.#path = join(folder, `${key}.json`);
  }

  /** Where an interrupted load stopped, or null. What cannot be read is no checkpoint: loading again costs only time. */
  read(): Progressed | null {
    try {
      const { version, position, totals } = JSON.parse(readFileSync(this.#path, 'utf8'));
      const sound = [position?.offset, position?.lines, position?.rows].every((n) => Number.isSafeInteger(n) && n >= 0);
      return version === VERSION && sound ? { position, totals: { ...noTotals(), ...totals } } : null;
    } catch {
      return null;
    }
  }

  /** Writes at most once a second unless it is the last time. */
  save(progressed: Progressed, last = false): void {
    const now = performance.now();
    if (!last && now - this.#savedAt < SAVE_EVERY_MS) return;
    this.#savedAt = now;
    const { position, totals } = progressed;
    const next = `${this.#path}.next`;
    try {
      writeFileSync(next, JSON.stringify({ version: VERSION, position, totals }), { mode: 0o600 });
      renameSync(next, this.#path);
    } catch (error) {
      throw dataDirError(this.#path, error);
    }
  }

  clear(): void {
    rmSync(this.#path, { force: true });
  }
}
