import type { Log, LogMark, MessageOutcome } from '../log/port.ts';
import { Keeper } from '../placement/keeper.ts';
import { type Clock, type Random, sleep, type TimerHandle } from '../protocol/clock.ts';
import type { Command, Entry, Tuning } from '../protocol/entry.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import { parseTwinId, shardOf, type TwinId } from '../protocol/twin-id.ts';
import type { Stale, TwinView } from '../protocol/view.ts';
import type { ShardRow, Store } from '../store/port.ts';
import type { Activation } from './activation.ts';
import { Checkpoint } from './checkpoint.ts';
import type { CommandOptions, CommandResult, EventSink, HostCounters, HostStatus, TwinHost } from './host-api.ts';
import { Outbox } from './outbox.ts';
import type { Part } from './part.ts';
import { activate } from './recovery.ts';
import { HostedShard, type PendingCommand, type ShardMode } from './shard.ts';
import { lastCommitted } from './stale-read.ts';
import { DEFAULT_LATENESS_MS } from './state.ts';
import { isPending, SUSPECT } from './suspicion.ts';
import { Tunings } from './tunings.ts';
import { viewOf } from './view.ts';
import { Wakes } from './wakes.ts';

/**
 * The twin host of a node: owns shards, and with each shard the twins in it.
 *
 * Owns the lifecycle of shards (claim, recover, serve, drain, lose), the doors (reads, commands, watches, events) and the
 * housekeeping that makes work (wake-ups, passivation). The making and committing of cuts is checkpoint.ts; when to own
 * what is placement/keeper.ts.
 *
 * A shard here:
 *
 *     claimed ──recover──▶ serving ──drain──▶ draining ──final commit──▶ released
 *                             │ fenced / epoch passed                        │
 *                             └──────────────▶ dropped ◀─────────────────────┘
 *                             │ commit aborted / outcome unknown / turn threw
 *                             └──────────────▶ claimed anew (epoch + 1), memory dropped
 *
 * Invariants:
 *  1  Whatever leaves through the doors has committed.
 *  2  Memory of a shard is used only under the epoch that recovered it.
 *  3  A twin leaves memory only after the commit that holds its snapshot.
 */
export interface HostOptions {
  node: string;
  kinds: { get(kind: string): Kind; all(): readonly Kind[] };
  store: Store;
  log: Log;
  clock: Clock;
  random: Random;
  shards: number;
  /** A node whose beat stands still for so long is dead. */
  ttlMs: number;
  latenessMs?: number;
  /** Readings and commands a cut holds at most. */
  cutMaxEntries?: number;
  /** Entries without a snapshot this host may have: bounds the replay after a crash. */
  tailMaxEntries?: number;
  passivateAfterMs?: number;
  maxResidentBytes?: number;
  summaryEveryMs?: number;
  housekeepingMs?: number;
  claimAtOnce?: number;
  logger?: HostLogger;
  /** Lets other work of the process run between two gatherings. */
  breathe?(): Promise<void>;
  /** Told of every cut that committed. */
  onCut?(cut: { readings: number; shards: number; durationMs: number }): void;
}

export interface HostLogger {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

const SILENT: HostLogger = { info() {}, warn() {}, error() {} };
const COMMAND_DEADLINE_MS = 10_000;
const MAX_PENDING_COMMANDS = 1_000;
const WAKES_AT_ONCE = 500;
const WAKE_PAGES = 10;
const RECOVERIES_AT_ONCE = 8;
/** Shards claimed so often without progress are folded one reading a cut. */
const PATIENCE = 3;
const PATIENT_SETBACKS = 8;
const CAREFUL_READINGS = 1_000;
/** How a twin says so. */
export const CARRIED = 'a tail was folded by a newer kind than the one that left it';
/** How far before the lost message a log that went back is read again. */
const LOG_MARGIN_MS = 10_000;

export class Host implements TwinHost {
  readonly options: Required<Omit<HostOptions, 'onCut'>> & Pick<HostOptions, 'onCut'>;
  readonly counters: HostCounters = {
    accepted: 0,
    late: 0,
    duplicates: 0,
    conflicts: 0,
    backfilled: 0,
    poison: 0,
    commits: 0,
    fenced: 0,
    aborted: 0,
    unknownOutcomes: 0,
    activations: 0,
    passivations: 0,
    ticks: 0,
    commands: 0,
    events: 0,
  };
  readonly shards = new Map<number, HostedShard>();
  readonly wakes = new Wakes();
  readonly tunings: Tunings;
  /** Readings that must not be folded: `message id:index` → why. */
  readonly condemned = new Map<string, string>();
  /** The one reading under suspicion of each shard, from its `~suspect` cursor. */
  readonly suspects = new Map<number, number>();
  readonly watchers = new Map<string, Set<(entries: Entry[]) => void>>();
  readonly #listeners = new Set<(events: TwinEvent[]) => void>();
  readonly #keeper: Keeper;
  readonly #checkpoint: Checkpoint;
  readonly #outboxes: Outbox[] = [];
  readonly #busy = new Set<number>();
  readonly #modes = new Map<number, { mode: ShardMode; careful: number }>();
  readonly #poisoned = new Map<string, string>();
  /** Times in a row that a shard had to be claimed anew. */
  readonly #setbacks = new Map<number, number>();
  readonly #undecided = new Map<number, MessageOutcome[]>();
  #recovering: ShardRow[] = [];
  #recoveries = 0;
  #housekeeper: TimerHandle | null = null;
  #state: HostStatus['state'] = 'starting';
  #storeFailingSince: number | null = null;
  /** A commit waits for a store that takes nothing: one that still answers reads, its disk being full, is down all the same. */
  cannotWrite = false;
  #ingestPausedSince: () => number | null = () => null;
  #lastWakePoll = Number.NEGATIVE_INFINITY;
  #lastSweep = Number.NEGATIVE_INFINITY;
  #polling = false;
  #wakesSkipped = 0;

  constructor(options: HostOptions) {
    this.options = {
      latenessMs: DEFAULT_LATENESS_MS,
      cutMaxEntries: 20_000,
      tailMaxEntries: 200_000,
      passivateAfterMs: 3_600_000,
      maxResidentBytes: 1024 ** 3,
      summaryEveryMs: 1_000,
      housekeepingMs: 100,
      claimAtOnce: 64,
      logger: SILENT,
      breathe: () => new Promise((resolve) => setImmediate(resolve)),
      ...options,
    };
    this.tunings = new Tunings(this.options.latenessMs);
    this.#checkpoint = new Checkpoint(this);
    this.#keeper = new Keeper({
      node: options.node,
      store: options.store,
      clock: options.clock,
      ttlMs: options.ttlMs,
      claimAtOnce: this.options.claimAtOnce,
      tenant: {
        epochOf: (shard) => this.shards.get(shard)?.epoch,
        isBusy: (shard) => this.#busy.has(shard) || this.shards.get(shard)?.draining === true,
        take: (rows) => this.#take(rows),
        drain: (shard) => this.#drain(shard),
        renew: (shard) => this.#renew(shard),
        drop: (shard, why) => this.drop(shard, why),
      },
      onError: (error) => this.storeFailed(error),
    });
  }

  async start(): Promise<void> {
    await this.#keeper.start();
    this.#state = 'running';
    this.#checkpoint.start();
    this.#keepHouse();
  }

  async stop(): Promise<void> {
    if (this.#state === 'stopped') return;
    this.#state = 'draining';
    this.#keeper.retreat();
    for (const shard of this.shards.keys()) this.#drain(shard);
    while ((this.shards.size > 0 || this.#busy.size > 0) && this.#storeFailingSince === null)
      await sleep(this.options.clock, 5);
    this.#housekeeper?.cancel();
    for (const outbox of this.#outboxes) outbox.stop();
    await this.#checkpoint.stop();
    await this.#keeper.stop();
    for (const shard of [...this.shards.keys()]) this.drop(shard, 'the node stopped');
    this.#state = 'stopped';
  }

  /** Ends at once, as a crash would: for simulations and for stores that are gone. */
  kill(): void {
    this.#state = 'stopped';
    this.#housekeeper?.cancel();
    for (const outbox of this.#outboxes) outbox.stop();
    void this.#checkpoint.stop();
    void this.#keeper.stop();
    for (const shard of [...this.shards.keys()]) this.drop(shard, 'killed');
  }

  // ── doors ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  async get(twinId: TwinId): Promise<TwinView> {
    const shard = this.#serving(twinId);
    const activation = shard.twins.get(twinId) ?? (await this.#resident(shard, twinId));
    activation.touchedAt = this.options.clock.monotonic();
    const view = viewOf(activation.state, activation.counts, this.#staleOf(twinId));
    if (activation.part === null) return view;
    const part = activation.part;
    if (this.#storeFailingSince !== null) {
      throw new TwinmeshError(
        'unavailable',
        `${twinId} has changes that the store cannot take now; ask for its last committed state.`,
      );
    }
    return new Promise((resolve, reject) => {
      part.waiters.push({
        committed: () => resolve(view),
        lost: () => this.get(twinId).then(resolve, reject),
      });
    });
  }

  async last(twinId: TwinId): Promise<TwinView> {
    const shard = this.shards.get(shardOf(twinId, this.options.shards));
    const resident = shard && !shard.poisoned ? (shard.twins.get(twinId) ?? null) : null;
    return lastCommitted({ ...this.options, tunings: this.tunings }, twinId, resident, this.#staleOf(twinId));
  }

  command(twinId: TwinId, command: Command, options: CommandOptions = {}): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      const { clock } = this.options;
      const shard = this.#serving(twinId);
      if (shard.commands.length >= MAX_PENDING_COMMANDS) {
        throw new TwinmeshError('overloaded', `Shard ${shard.shard} has ${shard.commands.length} commands waiting.`);
      }
      const deadlineAt = clock.monotonic() + (options.deadlineMs ?? COMMAND_DEADLINE_MS);
      shard.commands.push({ twinId, command, options, deadlineAt, resolve, reject });
      this.signal();
    });
  }

  async journal(twinId: TwinId, afterRevision: number, limit: number): Promise<Entry[]> {
    const shard = this.#serving(twinId);
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

  onEvents(listener: (events: TwinEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  addSink(sink: EventSink): void {
    const outbox = new Outbox({
      sink,
      store: this.options.store,
      clock: this.options.clock,
      bufferEvents: 2_000,
      mayPublish: (shard) => this.shards.has(shard) && this.#keeper.serving,
      onMoved: (shard, seq) => this.#checkpoint.cursorMoved(sink.name, shard, seq),
      onError: (error) =>
        this.options.logger.warn({ sink: sink.name, error: messageOf(error) }, 'sink failed; it will be retried'),
    });
    this.#outboxes.push(outbox);
    void this.#follow(outbox, [...this.shards.values()]);
  }

  /** Lets a sink that came later follow shards that are ours already, from where it last was. */
  async #follow(outbox: Outbox, shards: readonly HostedShard[]): Promise<void> {
    const { store, clock } = this.options;
    for (let pauseMs = 100; shards.length > 0 && this.#state !== 'stopped'; pauseMs = Math.min(5_000, pauseMs * 2)) {
      try {
        const cursors = await store.cursors(
          outbox.name,
          shards.map(({ shard }) => shard),
        );
        for (const shard of shards) {
          if (this.shards.get(shard.shard) !== shard) continue;
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
    this.#ingestPausedSince = pausedSince;
  }

  tuning(kind: string): Tuning {
    return this.tunings.of(kind);
  }

  status(): HostStatus {
    let resident = 0;
    for (const shard of this.shards.values()) resident += shard.twins.size;
    return {
      node: this.options.node,
      state: this.#state,
      shards: { owned: this.shards.size, total: this.options.shards },
      twins: { resident },
      stale: this.#staleOf(null),
      counters: { ...this.counters },
    };
  }

  // ── for the checkpoint ────────────────────────────────────────────────────────────────────────────────────────────

  /** There may be work. */
  signal(): void {
    this.#checkpoint.signal();
  }

  storeFailed(error: unknown): void {
    if (this.#storeFailingSince === null) {
      this.#storeFailingSince = this.options.clock.now();
      const told = error instanceof TwinmeshError ? { code: error.code, remedy: error.spec.remedy } : {};
      this.options.logger.error({ error: messageOf(error), ...told }, 'the store does not answer; telemetry waits');
    }
  }

  storeAnswered(): void {
    if (this.#storeFailingSince === null || this.cannotWrite) return;
    this.options.logger.info({ downMs: this.options.clock.now() - this.#storeFailingSince }, 'the store answers again');
    this.#storeFailingSince = null;
  }

  /** A part has committed: tell the log, those who wait, and the world. */
  landed(part: Part): void {
    const { shard } = part;
    if (part.size > 0) this.#setbacks.delete(shard.shard);
    shard.commitNo++;
    shard.committedSeq += part.events.length;
    if (shard.mode === 'alone' && part.judged > 0) this.#trust(shard);
    for (const waiter of part.waiters) waiter.committed();
    if (part.outcomes.length > 0)
      this.options.log.committed(shard.shard, part.outcomes[part.outcomes.length - 1].position, part.outcomes);
    for (const [twinId, entries] of part.watched)
      for (const listener of this.watchers.get(twinId) ?? []) this.#tell(listener, entries);
    if (part.events.length > 0) {
      for (const listener of this.#listeners) this.#tell(listener, part.events);
      for (const outbox of this.#outboxes) outbox.offer(shard.shard, part.events, shard.committedSeq);
    }
    for (const activation of part.touched) {
      if (activation.part === part) activation.part = null;
    }
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
  #tell<T>(listener: (what: T) => void, what: T): void {
    try {
      listener(what);
    } catch (error) {
      this.options.logger.error({ error: messageOf(error) }, 'a listener threw');
    }
  }

  /** The last part of a draining shard has committed: give it up. */
  release(shard: HostedShard): void {
    this.#busy.add(shard.shard);
    this.drop(shard.shard, 'released');
    this.options.store
      .release(this.options.node, [{ shard: shard.shard, epoch: shard.epoch }])
      .catch((error) => this.storeFailed(error))
      .finally(() => this.#busy.delete(shard.shard));
  }

  /** Memory of the shard is no longer worth anything; whoever waited is sent to the owner as it will be. */
  drop(shardNumber: number, why: string): void {
    const shard = this.shards.get(shardNumber);
    if (!shard) return;
    this.options.logger.info({ shard: shardNumber, epoch: shard.epoch, why }, 'shard dropped');
    this.#forget(shard);
    const error = new TwinmeshError('not_owner', `Shard ${shardNumber} has moved: ${why}.`);
    for (const command of shard.commands.splice(0)) command.reject(error);
    for (const read of shard.reads.splice(0)) read.reject(error);
  }

  /** Memory is wrong but the shard may be ours: claim it anew under the next epoch and read what is stored. */
  reclaim(shard: HostedShard, why: string, mode?: ShardMode): void {
    if (shard.dead) return;
    this.options.logger.warn({ shard: shard.shard, epoch: shard.epoch, why }, 'shard is claimed anew');
    if (mode) this.#modes.set(shard.shard, { mode, careful: mode === 'single' ? CAREFUL_READINGS : 0 });
    const commands = shard.commands.splice(0);
    const reads = shard.reads.splice(0);
    this.#setbacks.set(shard.shard, (this.#setbacks.get(shard.shard) ?? 0) + 1);
    this.#forget(shard);
    this.#busy.add(shard.shard);
    void this.#claimAnew(shard, commands, reads);
  }

  /** Outcomes of a part whose commit may have landed: told to the log when the shard is read again and it has. */
  remember(part: Part): void {
    if (part.outcomes.length > 0) this.#undecided.set(part.shard.shard, part.outcomes);
  }

  /** The shard in which this activation lives, or null when it has been thrown away. */
  ownerOf(activation: Activation): HostedShard | null {
    const shard = this.shards.get(shardOf(activation.twinId, this.options.shards));
    return shard?.twins.get(activation.twinId) === activation ? shard : null;
  }

  /** What an earlier version of the kind left of a twin has been folded by the one that is here. */
  carried(twinId: string): void {
    this.options.logger.warn({ twinId }, CARRIED);
  }

  /** A turn threw. */
  poisoned(twinId: string, why: string): void {
    this.options.logger.error({ twinId, why }, 'a turn threw');
    this.#poisoned.set(twinId, new Date(this.options.clock.now()).toISOString());
    if (this.#poisoned.size > 1_000) this.#poisoned.delete(this.#poisoned.keys().next().value!);
  }

  get serving(): boolean {
    return this.#keeper.serving;
  }

  // ── shards ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #forget(shard: HostedShard): void {
    shard.dead = true;
    shard.reader?.close();
    this.shards.delete(shard.shard);
    for (const outbox of this.#outboxes) outbox.detach(shard.shard);
    this.#checkpoint.discard(shard);
    shard.twins.clear();
    shard.dirty.clear();
  }

  async #claimAnew(shard: HostedShard, commands: PendingCommand[], reads: HostedShard['reads']): Promise<void> {
    const { store, node, clock } = this.options;
    let rows: ShardRow[] = [];
    // finding a bad reading takes a few setbacks; many in a row mean that something else is wrong: no spinning on it
    const setbacks = (this.#setbacks.get(shard.shard) ?? 0) - PATIENT_SETBACKS;
    if (setbacks > 0) await sleep(clock, Math.min(5_000, 10 * 2 ** setbacks));
    for (let pauseMs = 50; this.#state !== 'stopped'; pauseMs = Math.min(2_000, pauseMs * 2)) {
      try {
        rows = await store.claim(node, [{ shard: shard.shard, owner: node, epoch: shard.epoch }]);
        break;
      } catch (error) {
        this.storeFailed(error);
        await sleep(clock, pauseMs);
      }
    }
    if (rows.length === 0) {
      const error = new TwinmeshError('not_owner', `Shard ${shard.shard} has moved.`);
      for (const command of commands) command.reject(error);
      for (const read of reads) read.reject(error);
      this.#busy.delete(shard.shard);
      return;
    }
    await this.#recover(rows[0], commands, reads);
  }

  #take(rows: readonly ShardRow[]): void {
    for (const row of rows) {
      this.#busy.add(row.shard);
      this.#recovering.push(row);
    }
    while (this.#recoveries < RECOVERIES_AT_ONCE && this.#recovering.length > 0) {
      this.#recoveries++;
      void this.#recoverNext();
    }
  }

  async #recoverNext(): Promise<void> {
    for (let row = this.#recovering.shift(); row !== undefined; row = this.#recovering.shift())
      await this.#recover(row, [], []);
    this.#recoveries--;
  }

  /** Brings a claimed shard to life: tail, cursors, log. Tries again until it succeeds or the node stops. */
  async #recover(row: ShardRow, commands: PendingCommand[], reads: HostedShard['reads']): Promise<void> {
    const { clock, logger } = this.options;
    for (let pauseMs = 50; this.#state !== 'stopped'; pauseMs = Math.min(5_000, pauseMs * 2)) {
      try {
        const shard = await this.#revive(row);
        shard.commands.push(...commands);
        shard.reads.push(...reads);
        this.#busy.delete(row.shard);
        if (this.#state === 'draining') this.#drain(row.shard);
        this.signal();
        return;
      } catch (error) {
        if (error instanceof TwinmeshError && error.code === 'newer_snapshot') {
          logger.error({ shard: row.shard, error: error.message, remedy: error.spec.remedy }, 'the shard is refused');
          const refusal = new TwinmeshError('unavailable', error.message);
          for (const command of commands) command.reject(refusal);
          for (const read of reads) read.reject(refusal);
          await this.options.store.release(this.options.node, [{ shard: row.shard, epoch: row.epoch }]).catch(() => {});
          // stays busy: this node must not claim it again
          return;
        }
        logger.warn({ shard: row.shard, error: messageOf(error) }, 'recovery failed; trying again');
        await sleep(clock, pauseMs);
      }
    }
    this.#busy.delete(row.shard);
  }

  async #revive(row: ShardRow): Promise<HostedShard> {
    const { store, log, clock, kinds, logger } = this.options;
    const modes = this.#modes.get(row.shard);
    this.#modes.delete(row.shard);
    const tired = row.attempts > PATIENCE;
    const shard = new HostedShard(row, modes?.mode ?? (tired ? 'single' : 'normal'));
    shard.careful = modes?.careful ?? (tired ? CAREFUL_READINGS : 0);
    shard.onLostCommand = (pending) => this.#retryCommand(pending);
    const tail = row.snapshotFloor === row.commitNo ? [] : await store.loadTail(row.shard);
    const now = clock.monotonic();
    let entries = 0;
    for (const stored of tail) {
      const { activation, carried } = activate(stored, kinds, this.tunings, now);
      if (carried) this.carried(stored.twinId);
      shard.twins.set(stored.twinId, activation);
      if (activation.tail > 0) shard.dirty.add(activation);
      entries += activation.tail;
      this.counters.activations++;
      this.wakes.schedule(activation);
    }
    const suspect = (await store.cursors(SUSPECT, [row.shard])).get(row.shard) ?? 0;
    this.suspects.set(row.shard, suspect);
    if (isPending(suspect, row.position)) {
      // the reading named by the owner before has not been passed
      shard.mode = 'single';
      shard.careful = Math.max(shard.careful, CAREFUL_READINGS);
    }
    const outboxes = [...this.#outboxes];
    const cursors = await Promise.all(
      outboxes.map(async (outbox) => (await store.cursors(outbox.name, [row.shard])).get(row.shard) ?? 0),
    );
    const after = await this.#positionToReadFrom(row);
    if (this.#state === 'stopped') throw new Error('the node stopped');
    this.shards.set(row.shard, shard);
    for (const [i, outbox] of outboxes.entries()) outbox.attach(row.shard, cursors[i], row.eventSeq);
    for (const outbox of this.#outboxes) if (!outboxes.includes(outbox)) void this.#follow(outbox, [shard]);
    // in a log that went back the numbers stand for other messages, which nobody has committed
    const undecided =
      after === row.position
        ? this.#undecided.get(row.shard)?.filter(({ position }) => position <= row.position)
        : undefined;
    this.#undecided.delete(row.shard);
    if (undecided && undecided.length > 0)
      log.committed(row.shard, undecided[undecided.length - 1].position, undecided);
    const onReadable = (): void => {
      shard.readable = true;
      this.signal();
    };
    shard.reader = log.read(row.shard, after, onReadable, () => void this.#lookAgain(shard));
    if (entries > 0) logger.info({ shard: row.shard, twins: tail.length, entries }, 'tail replayed');
    return shard;
  }

  /** The log may have gone back (power loss, restore): then what stands at our position is not what we folded. */
  async #positionToReadFrom(row: ShardRow): Promise<number> {
    if (row.positionId === null || row.positionAt === null) return row.position;
    const mark = await this.options.log.at(row.shard, row.position);
    if (mark === 'untracked' || isThat(mark, row.positionId, row.positionAt)) return row.position;
    const after = await this.options.log.seek(row.shard, row.positionAt - LOG_MARGIN_MS);
    this.options.logger.error(
      {
        shard: row.shard,
        position: row.position,
        expected: row.positionId,
        found: mark?.id ?? null,
        resumeAfter: after,
      },
      'the log went back; reading again from before the lost message',
    );
    return after;
  }

  /** The log was away and is back: nothing is taken from it until what was taken last is found where it stood. */
  async #lookAgain(shard: HostedShard): Promise<void> {
    shard.doubted++;
    const newest = shard.inbox.at(-1) ?? shard.current?.message;
    const position = newest?.position ?? shard.position;
    const id = newest?.id ?? shard.positionId;
    const at = newest?.appendedAt ?? shard.positionAt;
    for (let pauseMs = 50; id !== null && !shard.dead; pauseMs = Math.min(2_000, pauseMs * 2)) {
      try {
        const mark = await this.options.log.at(shard.shard, position);
        if (mark !== 'untracked' && !isThat(mark, id, at)) {
          this.#checkpoint.abandon(shard, 'the log went back while it was read');
          return;
        }
        break;
      } catch (error) {
        this.options.logger.warn({ shard: shard.shard, error: messageOf(error) }, 'the log does not answer');
        await sleep(this.options.clock, pauseMs);
      }
    }
    shard.doubted--;
    this.signal();
  }

  #renew(shardNumber: number): void {
    const shard = this.shards.get(shardNumber);
    if (shard) this.#checkpoint.abandon(shard, 'our beat stood still; somebody else may have claimed it');
  }

  #drain(shardNumber: number): void {
    const shard = this.shards.get(shardNumber);
    if (!shard || shard.draining) return;
    shard.draining = true;
    shard.reader?.close();
    this.signal();
  }

  #trust(shard: HostedShard): void {
    shard.mode = 'normal';
  }

  #retryCommand(pending: PendingCommand): void {
    const shard = this.shards.get(shardOf(pending.twinId, this.options.shards));
    if (shard && !shard.dead) {
      shard.commands.push(pending);
      this.signal();
      return;
    }
    const deadlineMs = pending.deadlineAt - this.options.clock.monotonic();
    if (deadlineMs <= 0) {
      pending.reject(
        new TwinmeshError(
          'deadline_exceeded',
          'The outcome of the command is not known; send it again with the same idempotency key.',
        ),
      );
      return;
    }
    this.options.clock.after(Math.min(50, deadlineMs), () => {
      if (
        this.#busy.has(shardOf(pending.twinId, this.options.shards)) ||
        this.shards.has(shardOf(pending.twinId, this.options.shards))
      ) {
        this.#retryCommand(pending);
      } else {
        pending.reject(new TwinmeshError('not_owner', `The shard of ${pending.twinId} has moved.`));
      }
    });
  }

  // ── housekeeping ──────────────────────────────────────────────────────────────────────────────────────────────────

  #keepHouse(): void {
    if (this.#state === 'stopped') return;
    const { clock, housekeepingMs } = this.options;
    const now = clock.now();
    let work = false;
    for (const activation of this.wakes.due(now)) {
      const shard = this.ownerOf(activation);
      if (shard === null) continue;
      shard.ticks.push(activation);
      work = true;
    }
    const monotonic = clock.monotonic();
    if (monotonic - this.#lastWakePoll >= 1_000 && !this.#polling) {
      this.#lastWakePoll = monotonic;
      void this.#pollWakes(now);
    }
    if (monotonic - this.#lastSweep >= 1_000) {
      this.#lastSweep = monotonic;
      this.#checkpoint.sweep();
      if (this.wakes.size > 1_000 && this.wakes.size > 2 * this.status().twins.resident) {
        this.wakes.retain((activation) => this.ownerOf(activation) !== null);
      }
    }
    if (work || this.#checkpoint.due()) this.signal();
    this.#housekeeper = clock.after(housekeepingMs, () => this.#keepHouse());
  }

  /** Passive twins that want to be told the time. */
  async #pollWakes(now: number): Promise<void> {
    this.#polling = true;
    try {
      // resident twins stand in the answer too, with wakes they have outlived: page past them, or they hide the passive
      for (let page = 0; page < WAKE_PAGES; page++) {
        const due = await this.options.store.dueWakes([...this.shards.keys()], now, WAKES_AT_ONCE, this.#wakesSkipped);
        for (const { shard: number, twinId } of due) {
          const shard = this.shards.get(number);
          if (!shard || shard.twins.has(twinId)) continue;
          shard.wakes.add(twinId);
          this.signal();
        }
        this.#wakesSkipped = due.length < WAKES_AT_ONCE ? 0 : this.#wakesSkipped + due.length;
        if (this.#wakesSkipped === 0) break;
      }
    } catch (error) {
      this.storeFailed(error);
    } finally {
      this.#polling = false;
    }
  }

  #serving(twinId: TwinId): HostedShard {
    const { kind } = parseTwinId(twinId);
    this.options.kinds.get(kind);
    const number = shardOf(twinId, this.options.shards);
    const shard = this.shards.get(number);
    if (!shard || shard.draining || shard.poisoned) {
      if (shard?.poisoned || this.#busy.has(number))
        throw new TwinmeshError('unavailable', `Shard ${number} is being recovered.`);
      throw new TwinmeshError('not_owner', `This node does not own shard ${number} of ${twinId}.`);
    }
    if (!this.#keeper.serving) {
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

  #staleOf(twinId: TwinId | null): Stale | null {
    if (this.#storeFailingSince !== null) {
      return {
        reason: 'store down',
        since: new Date(this.#storeFailingSince).toISOString(),
        remedy: 'Bring the database back; readings wait in the log and nothing acknowledged is lost.',
      };
    }
    const pausedSince = this.#ingestPausedSince();
    if (pausedSince !== null) {
      return {
        reason: 'ingest paused',
        since: new Date(pausedSince).toISOString(),
        remedy: 'The log takes nothing: see /health/ready; sources wait and resend, nothing acknowledged is lost.',
      };
    }
    const poisonedAt = twinId === null ? undefined : this.#poisoned.get(twinId);
    if (poisonedAt !== undefined) {
      return {
        reason: 'poison',
        since: poisonedAt,
        remedy: 'A reading could not be folded; see the dead letters, mend the kind, replay it.',
      };
    }
    return null;
  }
}

/** A source that was not acknowledged sends the same message again, which may come to lie at the same position: its time tells. */
function isThat(mark: LogMark | null, id: string, appendedAt: number | null): boolean {
  return mark?.id === id && mark.appendedAt === appendedAt;
}
