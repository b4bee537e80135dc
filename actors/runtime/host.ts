import type { Ownership } from '../placement/directory.ts';
import { sleep } from '../protocol/clock.ts';
import type { Command, Entry, Tuning } from '../protocol/entry.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import { parseTwinId, shardOf, type TwinId } from '../protocol/twin-id.ts';
import type { TwinView } from '../protocol/view.ts';
import type { Activation } from './activation.ts';
import { Asking } from './asking.ts';
import { Checkpoint } from './checkpoint.ts';
import { Custody } from './custody.ts';
import type {
  CommandOptions,
  CommandResult,
  EventSink,
  HostCounters,
  HostStatus,
  TwinEventListener,
  TwinHost,
} from './host-api.ts';
import { type HostOptions, newCounters, type ResolvedOptions, withDefaults } from './host-options.ts';
import { Housekeeping } from './housekeeping.ts';
import { keptView } from './kept.ts';
import { Outbox } from './outbox.ts';
import type { Part } from './part.ts';
import type { HostedShard } from './shard.ts';
import { lastCommitted } from './stale-read.ts';
import { Staleness } from './staleness.ts';
import { Standing } from './standing.ts';
import { endCommit } from './traced.ts';
import { Tunings } from './tunings.ts';
import { viewOf } from './view.ts';
import { Wakes } from './wakes.ts';

/**
 * The twin host of a node: owns shards, and with each shard the twins in it.
 *
 * Owns the doors: reads, commands, watches, events, sinks; and what is told when a part has landed. Shards come, stay and go
 * in custody.ts; cuts are made and committed in checkpoint.ts; its place among the nodes is standing.ts.
 *
 * Invariants:
 *  1  Whatever leaves through the doors has committed.
 *  2  A twin leaves memory only after the commit that holds its snapshot.
 */
const COMMAND_DEADLINE_MS = 10_000;
const MAX_PENDING_COMMANDS = 1_000;
/** A stop waits so long for a store that does not answer. */
const PATIENCE_MS = 2_000;
/** How a twin says so. */
export const CARRIED = 'a tail was folded by a newer kind than the one that left it';

export class Host implements TwinHost {
  readonly options: ResolvedOptions;
  readonly counters: HostCounters = newCounters();
  readonly custody = new Custody(this);
  readonly staleness: Staleness;
  readonly standing: Standing;
  readonly asking: Asking;
  readonly #housekeeping = new Housekeeping(this);
  readonly wakes = new Wakes();
  readonly tunings: Tunings;
  /** Readings that must not be folded: `message id:index` → why. */
  readonly condemned = new Map<string, string>();
  /** The one reading under suspicion of each shard, from its `~suspect` cursor. */
  readonly suspects = new Map<number, number>();
  readonly watchers = new Map<string, Set<(entries: Entry[]) => void>>();
  readonly #listeners = new Set<TwinEventListener>();
  readonly checkpoint: Checkpoint;
  readonly outboxes: Outbox[] = [];
  state: HostStatus['state'] = 'starting';

  constructor(options: HostOptions) {
    this.options = withDefaults(options);
    this.tunings = new Tunings(this.options.latenessMs);
    this.checkpoint = new Checkpoint(this);
    this.staleness = new Staleness(this.options.clock, this.options.logger);
    this.standing = new Standing(this);
    this.asking = new Asking(this);
    this.staleness.inferenceFailingSince = this.asking.kindFailingSince;
  }

  async start(): Promise<void> {
    await this.standing.start();
    this.state = 'running';
    this.checkpoint.start();
    this.#housekeeping.start();
  }

  async stop(): Promise<void> {
    if (this.state === 'stopped') return;
    this.state = 'draining';
    await this.standing.retreat(() => this.staleness.failingMs < PATIENCE_MS);
    this.#housekeeping.stop();
    for (const outbox of this.outboxes) outbox.stop();
    await this.checkpoint.stop();
    await this.standing.stop();
    for (const shard of [...this.custody.shards.keys()]) this.custody.drop(shard, 'the node stopped');
    this.state = 'stopped';
  }

  async drain(patienceMs = Number.POSITIVE_INFINITY): Promise<void> {
    if (this.state !== 'running') return;
    this.state = 'draining';
    const isDraining = (): boolean => this.state === 'draining';
    await this.standing.retreat(() => isDraining() && this.staleness.failingMs < patienceMs);
    if (isDraining() && this.custody.shards.size === 0) this.state = 'drained';
  }

  async undrain(): Promise<void> {
    if (this.state !== 'draining' && this.state !== 'drained') return;
    this.state = 'running';
    await this.standing.resume();
  }

  nudge(): void {
    this.standing.nudge();
  }

  ownership(): Ownership[] {
    return this.standing.ownership();
  }

  living(): string[] {
    return this.standing.living();
  }

  /** Ends at once, as a crash would: for simulations and for stores that are gone. */
  kill(): void {
    this.state = 'stopped';
    this.#housekeeping.stop();
    for (const outbox of this.outboxes) outbox.stop();
    void this.checkpoint.stop();
    void this.standing.stop();
    for (const shard of [...this.custody.shards.keys()]) this.custody.drop(shard, 'killed');
  }

  // ── doors ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  async get(twinId: TwinId): Promise<TwinView> {
    const shard = this.#serving(twinId, false);
    const activation = shard.twins.get(twinId) ?? (await this.#resident(shard, twinId));
    activation.touchedAt = this.options.clock.monotonic();
    activation.readAt = activation.touchedAt;
    const { state, counts, refused } = activation;
    const view = viewOf(state, counts, this.staleness.of(twinId), this.asking.failingSince, refused);
    if (activation.part === null) return view;
    const part = activation.part;
    if (this.staleness.isStoreFailing) throw notTaken(twinId);
    return new Promise((resolve, reject) => {
      part.waiters.push({
        committed: () => resolve(view),
        lost: () => this.get(twinId).then(resolve, reject),
        stalled: () => reject(notTaken(twinId)),
      });
    });
  }

  async last(twinId: TwinId): Promise<TwinView> {
    const shard = this.custody.shards.get(shardOf(twinId, this.options.shards));
    const resident = shard && !shard.poisoned && !shard.renewing ? (shard.twins.get(twinId) ?? null) : null;
    const stale = this.staleness.of(twinId);
    if (shard && resident !== null && resident.part !== null && stale !== null && this.staleness.isStoreFailing) {
      const kept = keptView(shard, resident, stale, this.asking.failingSince);
      if (kept !== null) return kept;
    }
    const context = { ...this.options, tunings: this.tunings };
    return lastCommitted(context, twinId, resident, stale, this.asking.failingSince);
  }

  command(twinId: TwinId, command: Command, options: CommandOptions = {}): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      const { clock } = this.options;
      const shard = this.#serving(twinId, true);
      if (shard.commands.length >= MAX_PENDING_COMMANDS) {
        throw new TwinmeshError('overloaded', `Shard ${shard.shard} has ${shard.commands.length} commands waiting.`);
      }
      const deadlineAt = clock.monotonic() + (options.deadlineMs ?? COMMAND_DEADLINE_MS);
      shard.commands.push({ twinId, command, options, deadlineAt, resolve, reject });
      this.signal();
    });
  }

  async journal(twinId: TwinId, afterRevision: number, limit: number): Promise<Entry[]> {
    const shard = this.#serving(twinId, false);
    const activation = shard.twins.get(twinId) ?? (await this.#resident(shard, twinId));
    return this.options.store.journal({ twin: activation.key, twinId }, afterRevision, limit);
  }

  watch(twinId: TwinId, listener: (entries: Entry[]) => void): () => void {
    parseTwinId(twinId);
    let listeners = this.watchers.get(twinId);
    if (!listeners) {
      listeners = new Set();
      this.watchers.set(twinId, listeners);
    }
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.watchers.get(twinId) === listeners) this.watchers.delete(twinId);
    };
  }

  onEvents(listener: TwinEventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  addSink(sink: EventSink): void {
    const outbox = new Outbox({
      sink,
      store: this.options.store,
      clock: this.options.clock,
      tracer: this.options.tracer,
      bufferEvents: 2_000,
      mayPublish: (shard) => this.custody.shards.has(shard) && this.standing.serving,
      onMoved: (shard, seq) => this.checkpoint.closing.cursorMoved(sink.name, shard, seq),
      onError: (error) =>
        this.options.logger.warn({ sink: sink.name, error: messageOf(error) }, 'sink failed; it will be retried'),
    });
    this.outboxes.push(outbox);
    void this.follow(outbox, [...this.custody.shards.values()]);
  }

  /** Lets a sink that came later follow shards that are ours already, from where it last was. */
  async follow(outbox: Outbox, shards: readonly HostedShard[]): Promise<void> {
    const { store, clock } = this.options;
    for (let pauseMs = 100; shards.length > 0 && this.state !== 'stopped'; pauseMs = Math.min(5_000, pauseMs * 2)) {
      try {
        const cursors = await store.cursors(
          outbox.name,
          shards.map(({ shard }) => shard),
        );
        for (const shard of shards) {
          if (this.custody.shards.get(shard.shard) !== shard) continue;
          outbox.attach(shard.shard, cursors.get(shard.shard) ?? 0, shard.committedSeq);
        }
        return;
      } catch (error) {
        this.options.logger.warn(
          { sink: outbox.name, error: messageOf(error) },
          'where the sink was cannot be read yet',
        );
        await sleep(clock, pauseMs);
      }
    }
  }

  setTuning(kind: string, tuning: Tuning): void {
    this.options.kinds.get(kind);
    this.tunings.set(kind, tuning);
  }

  followIngest(pausedSince: () => number | null): void {
    this.staleness.ingestPausedSince = pausedSince;
  }

  tuning(kind: string): Tuning {
    return this.tunings.of(kind);
  }

  status(): HostStatus {
    const { drains } = this.standing;
    let resident = 0;
    for (const shard of this.custody.shards.values()) resident += shard.twins.size;
    return {
      node: this.options.node,
      state: this.state,
      shards: {
        owned: this.custody.shards.size,
        total: this.options.shards,
        easing: drains.size - drains.draining,
        draining: drains.draining,
        recovering: this.custody.recovering,
      },
      twins: { resident },
      stale: this.staleness.of(null),
      counters: { ...this.counters },
      inference: this.asking.status(),
    };
  }

  // ── for the checkpoint ────────────────────────────────────────────────────────────────────────────────────────────

  /** There may be work. */
  signal(): void {
    this.checkpoint.signal();
  }

  /** A part has committed: tell the log, those who wait, and the world. */
  landed(part: Part): void {
    const { shard } = part;
    if (part.size > 0) this.custody.progressed(shard);
    shard.commitNo++;
    shard.committedSeq += part.events.length;
    if (shard.mode !== 'normal' && part.judged > 0 && shard.isTrusted) this.custody.trust(shard);
    endCommit(part);
    for (const waiter of part.waiters) waiter.committed();
    if (part.outcomes.length > 0)
      this.options.log.committed(shard.shard, part.outcomes[part.outcomes.length - 1].position, part.outcomes);
    for (const [twinId, entries] of part.watched)
      for (const listener of this.watchers.get(twinId) ?? []) this.tell(listener, entries);
    if (part.events.length > 0) {
      for (const listener of this.#listeners) this.tell((events) => listener(events, part.heardAt), part.events);
      for (const outbox of this.outboxes) outbox.offer(shard.shard, part.events, shard.committedSeq, part.traced);
    }
    for (const activation of part.touched) {
      if (activation.part === part) activation.part = null;
    }
    part.forget();
    this.asking.landed(part);
    for (const { twinId } of part.snapshots) {
      const activation = shard.twins.get(twinId);
      if (activation?.leaving !== part) continue;
      activation.leaving = null;
      // touched again meanwhile: stays
      if (activation.part !== null || activation.tail > 0) continue;
      shard.twins.delete(twinId);
      this.counters.passivations++;
    }
  }

  /** A listener that throws is its own trouble: checkpoints go on. */
  tell<T>(listener: (what: T) => void, what: T): void {
    try {
      listener(what);
    } catch (error) {
      this.options.logger.error({ error: messageOf(error) }, 'a listener threw');
    }
  }

  /** What an earlier version of the kind left of a twin has been folded by the one that is here. */
  carried(twinId: string): void {
    this.options.logger.warn({ twinId }, CARRIED);
  }

  #serving(twinId: TwinId, takesCommands: boolean): HostedShard {
    const { kind } = parseTwinId(twinId);
    this.options.kinds.get(kind);
    const number = shardOf(twinId, this.options.shards);
    const shard = this.custody.shards.get(number);
    if (!shard || shard.poisoned || shard.renewing || (takesCommands && shard.sealed)) {
      this.custody.hasten(number);
      if (
        shard?.poisoned ||
        shard?.renewing ||
        (this.custody.busy.has(number) && !this.standing.drains.isReleasing(number))
      )
        throw new TwinmeshError('unavailable', `Shard ${number} is being recovered.`);
      throw new TwinmeshError('not_owner', `This node does not own shard ${number} of ${twinId}.`);
    }
    if (!this.standing.serving) {
      throw new TwinmeshError('unavailable', 'This node cannot reach the store and may have been replaced; ask again.');
    }
    return shard;
  }

  #resident(shard: HostedShard, twinId: TwinId): Promise<Activation> {
    return new Promise((resolve, reject) => {
      shard.reads.push({ twinId, resolve, reject });
      this.signal();
    });
  }
}

function notTaken(twinId: TwinId): TwinmeshError {
  return new TwinmeshError(
    'unavailable',
    `${twinId} has changes that the store cannot take now; ask for its last committed state.`,
  );
}
