import { createHash } from 'node:crypto';
import { TwinmeshError } from '../actors/protocol/errors.ts';

/**
 * Where large immutable files lie: archived history, model artifacts. A folder (object-folder.ts) or S3 (object-s3.ts); one
 * conformance suite holds for both.
 *
 * Invariants:
 *  O1  An object appears whole or not at all: a `put` that fails, or whose process dies, leaves what was there before.
 *  O2  `put` takes a stream and holds a few megabytes of it, however long it is.
 *  O3  A key is made of segments of A-Z a-z 0-9 . _ = - that do not start with a dot: it never leaves its place.
 */
export interface ObjectStore {
  /** Where it is, for people; without secrets. */
  readonly place: string;
  /** Throws what `body` throws; `unavailable` where the place cannot be written. */
  put(key: string, body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<ObjectSum>;
  /** The bytes from `start` up to `end` (not in it), fewer at the end of the object. Throws `not_found`, `unavailable`. */
  read(key: string, start: number, end: number): Promise<Uint8Array>;
  /** The whole object, piece by piece. Throws `not_found`, `unavailable`. */
  stream(key: string): AsyncIterable<Uint8Array>;
  /** Its length, null where there is none. */
  sizeOf(key: string): Promise<number | null>;
  /** What is under a prefix of whole segments, in order of key. */
  list(prefix: string): AsyncIterable<StoredObject>;
  /** What is not there is no fault. */
  remove(keys: readonly string[]): Promise<void>;
  close(): void;
}

export interface ObjectSum {
  bytes: number;
  /** Hexadecimal. */
  sha256: string;
}

export interface StoredObject {
  key: string;
  bytes: number;
}

const LONGEST_KEY = 900;
const SEGMENT = /^[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,250}$/;

/** O3. Throws `bad_request`. */
export function checkKey(key: string): void {
  if (key.length > LONGEST_KEY || !key.split('/').every((segment) => SEGMENT.test(segment)))
    throw new TwinmeshError('bad_request', `"${key.slice(0, 100)}" is no key of an object.`);
}

export function noObject(place: string, key: string, cause?: unknown): TwinmeshError {
  return new TwinmeshError('not_found', `There is no ${key} in ${place}.`, undefined, { cause });
}

/** Counts and sums what passes. */
export class Summing {
  readonly #hash = createHash('sha256');
  #bytes = 0;

  async *pass(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const piece of body) {
      this.#hash.update(piece);
      this.#bytes += piece.length;
      yield piece;
    }
  }

  get sum(): ObjectSum {
    return { bytes: this.#bytes, sha256: this.#hash.copy().digest('hex') };
  }
}
