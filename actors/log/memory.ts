import type { Clock } from '../protocol/clock.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import type { Outcome } from '../protocol/reading.ts';
import type { Appended, Log, LogBatch, LogMark, LogMessage, LogReader, MessageOutcome } from './port.ts';

/**
 * The log inside one process: a bounded queue a shard. It is not durable, so `append` resolves after the commit; what was
 * not acknowledged is sent again by its source after a crash.
 *
 * Invariants:
 *  1  Numbering resumes at the position the store has: a message gets its position when its shard is read for the first
 *     time, or at once when it is read already.
 *  2  A message leaves the queue only when `committed` has passed it; a reader that starts again sees it again.
 *  3  When the queues hold `maxReadings`, `append` waits its turn, first come first served.
 */
export interface MemoryLogOptions {
  clock: Clock;
  /** Readings that may wait for their commit, over all shards. */
  maxReadings: number;
}

interface Queued extends LogMessage {
  resolve(appended: Appended): void;
  reject(error: Error): void;
}

interface ShardQueue {
  /** Position of the newest numbered message. */
  last: number;
  attached: boolean;
  messages: Queued[];
  /** Index of the next message the reader takes. */
  next: number;
  onReadable: (() => void) | null;
  generation: number;
}

export class MemoryLog implements Log {
  readonly durable = false;
  readonly #clock: Clock;
  readonly #maxReadings: number;
  readonly #shards = new Map<number, ShardQueue>();
  readonly #waiting: { readings: number; admit: () => void; reject: (error: Error) => void }[] = [];
  #held = 0;
  #closed = false;

  constructor(options: MemoryLogOptions) {
    this.#clock = options.clock;
    this.#maxReadings = options.maxReadings;
  }

  /** Readings that wait for their commit. */
  get held(): number {
    return this.#held;
  }

  append(batch: LogBatch): Promise<Appended> {
    if (this.#closed)
      return Promise.reject(new TwinmeshError('unavailable', 'The log is closed: the node is stopping.'));
    return new Promise((resolve, reject) => {
      const admit = (): void => {
        this.#held += batch.readings.length;
        const queue = this.#queue(batch.shard);
        const message: Queued = { ...batch, position: 0, appendedAt: this.#clock.now(), resolve, reject };
        if (queue.attached) message.position = ++queue.last;
        queue.messages.push(message);
        queue.onReadable?.();
      };
      // an empty log takes any batch, or one larger than the bound would wait for ever
      if (this.#waiting.length === 0 && (this.#held === 0 || this.#held + batch.readings.length <= this.#maxReadings))
        admit();
      else this.#waiting.push({ readings: batch.readings.length, admit, reject });
    });
  }

  read(shard: number, afterPosition: number, onReadable: () => void): LogReader {
    const queue = this.#queue(shard);
    const generation = ++queue.generation;
    if (queue.attached) {
      // what an earlier owner committed without saying so is done
      this.#release(queue, afterPosition, new Map());
    } else {
      queue.attached = true;
      queue.last = afterPosition;
      for (const message of queue.messages) message.position = ++queue.last;
    }
    if (queue.messages.length === 0) queue.last = afterPosition;
    queue.next = 0;
    queue.onReadable = onReadable;
    if (queue.messages.length > 0) onReadable();
    return {
      take: (maxReadings) => {
        const taken: LogMessage[] = [];
        let readings = 0;
        while (queue.generation === generation && queue.next < queue.messages.length) {
          const message = queue.messages[queue.next];
          if (taken.length > 0 && readings + message.readings.length > maxReadings) break;
          readings += message.readings.length;
          taken.push(message);
          queue.next++;
        }
        return taken;
      },
      close: () => {
        if (queue.generation === generation) queue.onReadable = null;
      },
    };
  }

  committed(shard: number, position: number, outcomes: readonly MessageOutcome[]): void {
    const byPosition = new Map<number, Outcome[]>();
    for (const message of outcomes) byPosition.set(message.position, message.outcomes);
    this.#release(this.#queue(shard), position, byPosition);
  }

  at(): Promise<LogMark | null | 'untracked'> {
    return Promise.resolve('untracked');
  }

  seek(): Promise<number> {
    return Promise.resolve(0);
  }

  close(): Promise<void> {
    this.#closed = true;
    const error = new TwinmeshError(
      'unavailable',
      'The node stopped before this reading was committed; send it again.',
    );
    for (const queue of this.#shards.values()) for (const message of queue.messages.splice(0)) message.reject(error);
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this.#held = 0;
    return Promise.resolve();
  }

  #queue(shard: number): ShardQueue {
    let queue = this.#shards.get(shard);
    if (!queue) {
      queue = { last: 0, attached: false, messages: [], next: 0, onReadable: null, generation: 0 };
      this.#shards.set(shard, queue);
    }
    return queue;
  }

  #release(queue: ShardQueue, position: number, outcomes: ReadonlyMap<number, Outcome[]>): void {
    let done = 0;
    while (done < queue.messages.length && queue.messages[done].position <= position) done++;
    if (done === 0) return;
    for (const message of queue.messages.splice(0, done)) {
      this.#held -= message.readings.length;
      message.resolve({ position: message.position, outcomes: outcomes.get(message.position) });
    }
    queue.next = Math.max(0, queue.next - done);
    this.#admit();
  }

  #admit(): void {
    while (this.#waiting.length > 0) {
      const { readings, admit } = this.#waiting[0];
      if (this.#held > 0 && this.#held + readings > this.#maxReadings) return;
      this.#waiting.shift();
      admit();
    }
  }
}
