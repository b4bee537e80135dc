import { sleep } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import { CommitAborted, OutcomeUnknown } from '../store/port.ts';
import { Building, cutOf } from './building.ts';
import { Closing } from './closing.ts';
import type { Poisoned } from './folding.ts';
import { Gathering } from './gathering.ts';
import type { Host } from './host.ts';
import type { Part } from './part.ts';
import type { HostedShard } from './shard.ts';
import { beginCommit, endCommit } from './traced.ts';

/**
 * Makes and commits cuts: work of all shards is gathered and folded (gathering.ts), the cut is closed (closing.ts) and sent
 * as one statement; the next cut is folded while this one commits.
 *
 * Owns the loop and what follows from the outcome of a commit. Does not own what shards there are (custody.ts) or what a turn
 * does (turn.ts).
 *
 * Invariants:
 *  1  One cut is on its way at a time, so `commit_no` as last seen is known when the next one goes out.
 *  2  A part that did not commit takes the memory of its shard with it, and what was folded on top of it.
 *  3  Snapshots, summaries and cursors are taken when the cut closes: they say what the cut says.
 *  4  Work of a shard in a careful mode travels alone.
 *  5  Under which epoch a part goes out is read when it is sent, and no epoch changes while a cut is on its way.
 */
const RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;

export class Checkpoint {
  readonly #host: Host;
  readonly #building: Building;
  readonly #gathering: Gathering;
  readonly closing: Closing;
  inFlight: Promise<void> | null = null;
  #wake: (() => void) | null = null;
  #signalled = false;
  /** Somebody waits to run between two cuts: the next cut goes after that. */
  #reserved: Promise<void> | null = null;
  stopped = false;
  #loop: Promise<void> | null = null;

  constructor(host: Host) {
    this.#host = host;
    this.#building = new Building(host);
    this.closing = new Closing(host, this.#building);
    this.#gathering = new Gathering(host, this, this.#building, this.closing);
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.signal();
    await this.#loop;
    await this.inFlight;
  }

  signal(): void {
    this.#signalled = true;
    this.#wake?.();
  }

  /** Runs when no cut is on its way, and lets none go before it is done. */
  between(work: () => Promise<void>): Promise<void> {
    const turn = async (): Promise<void> => {
      while (this.inFlight !== null) await this.inFlight;
      this.inFlight = work().finally(() => {
        this.inFlight = null;
      });
      await this.inFlight;
    };
    const reserved = (this.#reserved === null ? turn() : this.#reserved.then(turn)).finally(() => {
      if (this.#reserved === reserved) this.#reserved = null;
      this.signal();
    });
    this.#reserved = reserved;
    return reserved;
  }

  /** The shard's memory is gone: so is what it has in the cut under construction. */
  discard(shard: HostedShard): void {
    const part = this.#building.parts.get(shard);
    if (!part) return;
    this.#building.parts.delete(shard);
    for (const waiter of part.waiters) waiter.lost();
  }

  async #run(): Promise<void> {
    const { clock, cutMaxEntries, logger } = this.#host.options;
    let retryMs = RETRY_MS;
    while (!this.stopped) {
      this.#signalled = false;
      let progressed = false;
      try {
        progressed = await this.#gathering.gatherSome();
        retryMs = RETRY_MS;
      } catch (error) {
        if (error instanceof TwinmeshError && error.code !== 'store_down')
          logger.error({ error: error.message }, 'gathering failed');
        this.#host.staleness.storeFailed(error);
        await sleep(clock, retryMs);
        retryMs = Math.min(MAX_RETRY_MS, retryMs * 2);
        progressed = true;
      }
      // what was being gathered may lack its late readings: nothing of it goes out, the log has it still
      if (this.stopped) break;
      if (this.inFlight === null && this.#reserved === null) {
        if (this.#send()) continue;
      } else if (this.#building.size >= cutMaxEntries) {
        await (this.#reserved ?? this.inFlight);
        continue;
      }
      if (!progressed && !this.#signalled && !this.stopped) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      } else if (progressed) {
        // timers, sockets and the worker's answers get their turn between two gatherings
        await this.#host.options.breathe();
      }
    }
  }

  poisoned(shard: HostedShard, error: Poisoned): void {
    this.#host.staleness.poisoned(error.twinId, error.message);
    if (error.key !== null) this.#host.condemned.set(error.key, `Folding this reading failed: ${error.message}`);
    this.abandon(shard, `a turn of ${error.twinId} threw: ${error.message}`);
  }

  /** What the shard has in memory is worth nothing: it is claimed anew, from what is stored. */
  abandon(shard: HostedShard, why: string): void {
    if (shard.dead || shard.poisoned) return;
    // the commit under way holds good work of this shard: only then can it be read back
    const reclaim = (): void => this.#host.custody.reclaim(shard, why);
    shard.poisoned = true;
    this.discard(shard);
    if (this.inFlight) void this.inFlight.then(reclaim);
    else reclaim();
  }

  /** Closes the cut under construction and sends it. False when there is nothing to send. */
  #send(): boolean {
    this.closing.close();
    for (const [shard, part] of this.#building.parts) if (part.empty) this.#dismiss(shard, part);
    if (this.#building.parts.size === 0) return false;
    const parts = [...this.#building.parts.values()].sort((a, b) => a.shard.shard - b.shard.shard);
    this.#building.parts = new Map();
    for (const part of parts) part.shard.inFlight = part;
    this.inFlight = this.#commit(parts).finally(() => {
      this.inFlight = null;
      for (const part of parts) part.shard.inFlight = null;
      this.signal();
    });
    return true;
  }

  /** A part with nothing to write: whoever waited for it waited for what has committed already. */
  #dismiss(shard: HostedShard, part: Part): void {
    this.#building.parts.delete(shard);
    for (const waiter of part.waiters) waiter.committed();
  }

  async #commit(parts: Part[]): Promise<void> {
    const host = this.#host;
    const { store, clock, onCut } = host.options;
    const cut = cutOf(host.options.node, parts);
    beginCommit(parts, host.options.tracer);
    const startedAt = clock.monotonic();
    let committed: Set<number>;
    for (let retryMs = RETRY_MS; ; retryMs = Math.min(MAX_RETRY_MS, retryMs * 2)) {
      try {
        committed = await store.commit(cut);
        host.staleness.cannotWrite = false;
        host.staleness.storeAnswered();
        break;
      } catch (error) {
        host.staleness.cannotWrite = false;
        if (error instanceof OutcomeUnknown) {
          host.counters.unknownOutcomes++;
          for (const part of parts) {
            host.custody.remember(part);
            this.#lose(part, () =>
              host.custody.reclaim(part.shard, `the outcome of a commit is unknown: ${error.message}`),
            );
          }
          return;
        }
        if (error instanceof CommitAborted || !(error instanceof TwinmeshError)) {
          host.counters.aborted++;
          this.#aborted(parts, messageOf(error));
          return;
        }
        // nothing has landed: the same cut again when the store is back
        host.staleness.cannotWrite = true;
        host.staleness.storeFailed(error);
        for (const part of [...parts, ...this.#building.parts.values()])
          for (const waiter of part.waiters) waiter.stalled?.();
        if (this.stopped) {
          for (const part of parts) for (const waiter of part.waiters) waiter.lost();
          return;
        }
        await sleep(clock, retryMs);
      }
    }
    let readings = 0;
    const final: HostedShard[] = [];
    for (const part of parts) {
      if (committed.has(part.shard.shard)) {
        readings += part.readings.length;
        host.landed(part);
        if (part.final && !part.shard.dead) final.push(part.shard);
      } else {
        host.counters.fenced++;
        this.#lose(part, () => host.custody.drop(part.shard.shard, 'fenced: another node owns it now'));
      }
    }
    if (final.length > 0) void host.custody.release(final);
    host.counters.commits++;
    onCut?.({ readings, shards: parts.length, durationMs: clock.monotonic() - startedAt });
  }

  #lose(part: Part, drop: () => void): void {
    endCommit(part, 'the part did not commit, or nobody knows');
    if (!part.shard.dead) drop();
    for (const waiter of part.waiters) waiter.lost();
  }

  /** Smaller and smaller until one reading is left, which is condemned. */
  #aborted(parts: readonly Part[], why: string): void {
    for (const part of parts) {
      const { shard } = part;
      const single = shard.mode === 'single' && parts.length === 1;
      if (single && part.lastKey !== null)
        this.#host.condemned.set(part.lastKey, `Storing this reading failed: ${why}`);
      const mode = parts.length > 1 ? 'alone' : 'single';
      this.#lose(part, () => this.#host.custody.reclaim(shard, `the commit was aborted: ${why}`, mode));
    }
  }
}
