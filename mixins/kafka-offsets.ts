/**
 * How far one partition has been dealt with: chunks of records leave in order and are done in any; what may be committed ends
 * before the first that is not done.
 *
 * Invariants:
 *  1  `committable` never passes a record that is not done.
 *  2  It only grows.
 */
export class PartitionOffsets {
  /** Records that were handed out and are not done. */
  inFlight = 0;
  /** Records that the partition held behind the last that was handed out. */
  behind = 0;
  readonly #chunks: Chunk[] = [];
  #committable: bigint | null = null;
  #committed: bigint | null = null;

  /** Where reading goes on after a restart: the offset behind the last record that is done; null when it has not moved. */
  get committable(): bigint | null {
    return this.#committable === this.#committed ? null : this.#committable;
  }

  /** Hands out the records up to and with `lastOffset`. */
  begin(lastOffset: bigint, records: number): Chunk {
    const chunk: Chunk = { next: lastOffset + 1n, records, done: false };
    this.#chunks.push(chunk);
    this.inFlight += records;
    return chunk;
  }

  finish(chunk: Chunk): void {
    if (chunk.done) return;
    chunk.done = true;
    this.inFlight -= chunk.records;
    let ready = 0;
    while (ready < this.#chunks.length && this.#chunks[ready].done) ready++;
    if (ready === 0) return;
    this.#committable = this.#chunks[ready - 1].next;
    this.#chunks.splice(0, ready);
  }

  committed(offset: bigint): void {
    this.#committed = offset;
  }
}

export interface Chunk {
  readonly next: bigint;
  readonly records: number;
  done: boolean;
}
