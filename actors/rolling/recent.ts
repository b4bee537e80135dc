/**
 * The identities a twin has folded inside its lateness window: how a redelivered reading is recognised without asking
 * the database. Sorted by event time; three numbers an identity: time, hash of the rest of the identity (52 bits),
 * hash of the values (32 bits).
 *
 * Invariants:
 *  1  Holds exactly the identities with an event time above the twin's floor (older ones are looked up in history).
 *  2  Part of the snapshot: a restored twin recognises what the live one would.
 */
export const RECENT_SLOTS = 3;

export type Recognition = 'new' | 'duplicate' | 'conflict';

export class Recent {
  #data: Float64Array;
  #start = 0;
  #end = 0;

  constructor(initial?: Float64Array) {
    this.#data = initial ?? new Float64Array(4 * RECENT_SLOTS);
    this.#end = initial ? initial.length / RECENT_SLOTS : 0;
  }

  get size(): number {
    return this.#end - this.#start;
  }

  get bytes(): number {
    return this.#data.byteLength;
  }

  /** The identities as numbers, for the snapshot. */
  toArray(): Float64Array {
    return this.#data.slice(this.#start * RECENT_SLOTS, this.#end * RECENT_SLOTS);
  }

  /** Whether a reading has been folded before. `anyTime`: its identity is its own id, whatever its time. */
  recognise(at: number, identity: number, values: number, anyTime: boolean): Recognition {
    const d = this.#data;
    if (anyTime) {
      for (let i = this.#end - 1; i >= this.#start; i--) {
        if (d[i * RECENT_SLOTS + 1] === identity) {
          return d[i * RECENT_SLOTS] === at && d[i * RECENT_SLOTS + 2] === values ? 'duplicate' : 'conflict';
        }
      }
      return 'new';
    }
    if (this.#start === this.#end || at > d[(this.#end - 1) * RECENT_SLOTS]) return 'new';
    for (let i = this.#after(at) - 1; i >= this.#start && d[i * RECENT_SLOTS] === at; i--) {
      if (d[i * RECENT_SLOTS + 1] === identity) return d[i * RECENT_SLOTS + 2] === values ? 'duplicate' : 'conflict';
    }
    return 'new';
  }

  add(at: number, identity: number, values: number): void {
    if (this.#end * RECENT_SLOTS === this.#data.length) this.#makeRoom();
    const d = this.#data;
    let i = this.#end;
    if (i > this.#start && d[(i - 1) * RECENT_SLOTS] > at) {
      const position = this.#after(at);
      d.copyWithin((position + 1) * RECENT_SLOTS, position * RECENT_SLOTS, i * RECENT_SLOTS);
      i = position;
    }
    d[i * RECENT_SLOTS] = at;
    d[i * RECENT_SLOTS + 1] = identity;
    d[i * RECENT_SLOTS + 2] = values;
    this.#end++;
  }

  /** Forgets everything at or below the floor. */
  forget(floorAt: number): void {
    const d = this.#data;
    while (this.#start < this.#end && d[this.#start * RECENT_SLOTS] <= floorAt) this.#start++;
  }

  /** Index after the last identity with an event time of at most `at`. */
  #after(at: number): number {
    let lo = this.#start;
    let hi = this.#end;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.#data[mid * RECENT_SLOTS] <= at) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  #makeRoom(): void {
    const size = this.size;
    const wanted = Math.max(4, size + (size >> 1)) * RECENT_SLOTS;
    const next = wanted > this.#data.length || this.#start === 0 ? new Float64Array(wanted) : this.#data;
    next.set(this.#data.subarray(this.#start * RECENT_SLOTS, this.#end * RECENT_SLOTS));
    this.#data = next;
    this.#start = 0;
    this.#end = size;
  }
}
