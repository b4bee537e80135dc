import type { LogMark, MessageOutcome } from '../log/port.ts';
import { sleep } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import { shardOf } from '../protocol/twin-id.ts';
import type { ShardRow } from '../store/port.ts';
import type { Activation } from './activation.ts';
import type { Host } from './host.ts';
import type { Part } from './part.ts';
import { activate } from './recovery.ts';
import { Renewal } from './renewal.ts';
import { HostedShard, type PendingCommand, type ShardMode } from './shard.ts';
import { isPending, SUSPECT } from './suspicion.ts';

/**
 * The shards that this node has in its keeping: claimed, recovered, served, drained, lost.
 *
 *     claimed ──recover──▶ serving ──drain──▶ draining ──final commit──▶ released
 *                             │ fenced / epoch passed                        │
 *                             └──────────────▶ dropped ◀─────────────────────┘
 *                             │ commit aborted / outcome unknown / turn threw / log went back
 *                             ├──────────────▶ claimed anew (epoch + 1), memory dropped
 *                             │ our beat stood still
 *                             └──────────────▶ renewed (epoch + 1), memory kept where nobody else had it
 *
 * Owns the memory of each shard and under which epoch it is used. Does not own when to claim (placement/keeper.ts) or what
 * is folded (gathering.ts).
 *
 * Invariants:
 *  1  Memory of a shard is used only under the epoch that recovered it, and under the next one where the claim found both that
 *     epoch and the commit_no of this memory: then nobody has had the shard in between.
 *  2  A shard that is being recovered, released or claimed anew is busy: nobody else here touches it.
 *  3  Whoever waits for a shard that is lost is told so, or goes on waiting on what takes its place.
 */
const STOOD_STILL = 'our beat stood still; somebody else may have claimed it';
const RECOVERIES_AT_ONCE = 8;
/** Shards claimed so often without progress are folded one reading a cut. */
const PATIENCE = 3;
const PATIENT_SETBACKS = 8;
const CAREFUL_READINGS = 1_000;
/** How far before the lost message a log that went back is read again. */
const LOG_MARGIN_MS = 10_000;

export class Custody {
  readonly shards = new Map<number, HostedShard>();
  /** Shards on their way in or out. */
  readonly busy = new Set<number>();
  /** Written by a newer version than this one: never claimed again. */
  readonly refused = new Set<number>();
  readonly #host: Host;
  /** Being recovered under a claim that may have been overtaken while our beat stood still. */
  readonly #doubtful = new Set<number>();
  readonly #modes = new Map<number, { mode: ShardMode; careful: number }>();
  /** Times in a row that a shard had to be claimed anew. */
  readonly #setbacks = new Map<number, number>();
  readonly #undecided = new Map<number, MessageOutcome[]>();
  readonly #renewal: Renewal;
  readonly #recovering: ShardRow[] = [];
  /** So many at the head of `#recovering` are waited for. */
  #hastened = 0;
  #recoveries = 0;
  /** Told once when all that were claimed together are back. */
  #replayed = { shards: 0, twins: 0, entries: 0 };

  constructor(host: Host) {
    this.#host = host;
    this.#renewal = new Renewal(host, this, STOOD_STILL);
  }

  /** A part of the shard has landed: what went wrong before is over. */
  progressed(shard: HostedShard): void {
    this.#setbacks.delete(shard.shard);
  }

  /** The final parts of these shards have committed: give them up. */
  async release(shards: readonly HostedShard[]): Promise<void> {
    const { store, node } = this.#host.options;
    for (const { shard } of shards) {
      this.busy.add(shard);
      this.drop(shard, 'released');
    }
    this.#host.standing.drains.releasing(shards);
    try {
      const given = shards.map(({ shard, epoch }) => ({ shard, epoch }));
      await store.release(node, given);
      this.#host.standing.released(given);
    } catch (error) {
      // the keeper finds them as strays
      this.#host.staleness.storeFailed(error);
    }
    for (const { shard } of shards) this.busy.delete(shard);
    this.#host.standing.drains.released(shards);
  }

  /** Memory of the shard is no longer worth anything; whoever waited is sent to the owner as it will be. */
  drop(shardNumber: number, why: string): void {
    const shard = this.shards.get(shardNumber);
    if (!shard) return;
    this.#host.options.logger.info({ shard: shardNumber, epoch: shard.epoch, why }, 'shard dropped');
    this.#forget(shard);
    const error = new TwinmeshError('not_owner', `Shard ${shardNumber} has moved: ${why}.`);
    for (const command of shard.commands.splice(0)) command.reject(error);
    for (const read of shard.reads.splice(0)) read.reject(error);
  }

  /** Memory is wrong but the shard may be ours: claim it anew under the next epoch and read what is stored. */
  reclaim(shard: HostedShard, why: string, mode?: ShardMode): void {
    if (shard.dead) return;
    this.#host.options.logger.warn({ shard: shard.shard, epoch: shard.epoch, why }, 'shard is claimed anew');
    if (mode) this.#modes.set(shard.shard, { mode, careful: mode === 'single' ? CAREFUL_READINGS : 0 });
    const commands = shard.commands.splice(0);
    const reads = shard.reads.splice(0);
    this.#setbacks.set(shard.shard, (this.#setbacks.get(shard.shard) ?? 0) + 1);
    this.#forget(shard);
    this.busy.add(shard.shard);
    void this.#claimAnew(shard, commands, reads);
  }

  /** Outcomes of a part whose commit may have landed: told to the log when the shard is read again and it has. */
  remember(part: Part): void {
    if (part.outcomes.length > 0) this.#undecided.set(part.shard.shard, part.outcomes);
  }

  /** The shard in which this activation lives, or null when it has been thrown away. */
  ownerOf(activation: Activation): HostedShard | null {
    const shard = this.shards.get(shardOf(activation.twinId, this.#host.options.shards));
    return shard?.twins.get(activation.twinId) === activation ? shard : null;
  }

  #forget(shard: HostedShard): void {
    shard.dead = true;
    if (shard.renewing) this.busy.delete(shard.shard);
    shard.renewing = false;
    shard.reader?.close();
    this.shards.delete(shard.shard);
    for (const outbox of this.#host.outboxes) outbox.detach(shard.shard);
    this.#host.checkpoint.discard(shard);
    this.#host.asking.counters.dropped += shard.answers.splice(0).length;
    shard.twins.clear();
    shard.dirty.clear();
  }

  async #claimAnew(shard: HostedShard, commands: PendingCommand[], reads: HostedShard['reads']): Promise<void> {
    const { store, node, clock } = this.#host.options;
    let rows: ShardRow[] = [];
    // finding a bad reading takes a few setbacks; many in a row mean that something else is wrong: no spinning on it
    const setbacks = (this.#setbacks.get(shard.shard) ?? 0) - PATIENT_SETBACKS;
    if (setbacks > 0) await sleep(clock, Math.min(5_000, 10 * 2 ** setbacks));
    for (let pauseMs = 50; this.#host.state !== 'stopped'; pauseMs = Math.min(2_000, pauseMs * 2)) {
      try {
        rows = await store.claim(node, [{ shard: shard.shard, owner: node, epoch: shard.epoch }]);
        break;
      } catch (error) {
        this.#host.staleness.storeFailed(error);
        await sleep(clock, pauseMs);
      }
    }
    if (rows.length === 0) {
      const error = new TwinmeshError('not_owner', `Shard ${shard.shard} has moved.`);
      for (const command of commands) command.reject(error);
      for (const read of reads) read.reject(error);
      this.busy.delete(shard.shard);
      return;
    }
    await this.#recover(rows[0], commands, reads);
  }

  take(rows: readonly ShardRow[]): void {
    for (const row of rows) {
      this.busy.add(row.shard);
      this.#recovering.push(row);
    }
    while (this.#recoveries < RECOVERIES_AT_ONCE && this.#recovering.length > 0) {
      this.#recoveries++;
      void this.#recoverNext();
    }
  }

  /** Somebody waits for a shard that is being recovered: it goes before those that nobody waits for. */
  hasten(shardNumber: number): void {
    const at = this.#recovering.findIndex(({ shard }) => shard === shardNumber);
    if (at > this.#hastened) this.#recovering.splice(this.#hastened, 0, ...this.#recovering.splice(at, 1));
    if (at >= this.#hastened) this.#hastened++;
  }

  /** How many claimed shards are not served yet. */
  get recovering(): number {
    return this.#recovering.length + this.#recoveries;
  }

  #next(): ShardRow | undefined {
    this.#hastened = Math.max(0, this.#hastened - 1);
    return this.#recovering.shift();
  }

  async #recoverNext(): Promise<void> {
    for (let row = this.#next(); row !== undefined; row = this.#next()) await this.#recover(row, [], []);
    this.#recoveries--;
    if (this.#recoveries > 0 || this.#replayed.entries === 0) return;
    this.#host.options.logger.info({ ...this.#replayed }, 'tails replayed');
    this.#replayed = { shards: 0, twins: 0, entries: 0 };
  }

  /** Brings a claimed shard to life: tail, cursors, log. Tries again until it succeeds or the node stops. */
  async #recover(row: ShardRow, commands: PendingCommand[], reads: HostedShard['reads']): Promise<void> {
    const { clock, logger } = this.#host.options;
    for (let pauseMs = 50; this.#host.state !== 'stopped'; pauseMs = Math.min(5_000, pauseMs * 2)) {
      try {
        await this.#revive(row, commands, reads);
        return;
      } catch (error) {
        if (error instanceof TwinmeshError && error.code === 'newer_snapshot') {
          logger.error({ shard: row.shard, error: error.message, remedy: error.spec.remedy }, 'the shard is refused');
          const refusal = new TwinmeshError('unavailable', error.message);
          for (const command of commands) command.reject(refusal);
          for (const read of reads) read.reject(refusal);
          await this.#host.options.store
            .release(this.#host.options.node, [{ shard: row.shard, epoch: row.epoch }])
            .catch(() => {});
          this.refused.add(row.shard);
          this.busy.delete(row.shard);
          return;
        }
        logger.warn({ shard: row.shard, error: messageOf(error) }, 'recovery failed; trying again');
        await sleep(clock, pauseMs);
      }
    }
    this.busy.delete(row.shard);
  }

  /**
   * From `shards.set` on it is one step: the loop may fold, fail and claim the shard anew before whoever waits for this
   * function goes on, and then nothing of it may be left to do.
   */
  async #revive(row: ShardRow, commands: PendingCommand[], reads: HostedShard['reads']): Promise<void> {
    const { store, log, clock, kinds } = this.#host.options;
    const modes = this.#modes.get(row.shard);
    const tired = row.attempts > PATIENCE;
    const shard = new HostedShard(row, modes?.mode ?? (tired ? 'single' : 'normal'));
    shard.careful = modes?.careful ?? (tired ? CAREFUL_READINGS : 0);
    shard.onLostCommand = (pending) => this.#retryCommand(pending);
    const tail = row.snapshotFloor === row.commitNo ? [] : await store.loadTail(row.shard);
    const now = clock.monotonic();
    let entries = 0;
    for (const stored of tail) {
      const { activation, carried } = activate(stored, kinds, this.#host.tunings, now);
      if (carried) this.#host.carried(stored.twinId);
      shard.twins.set(stored.twinId, activation);
      if (activation.tail > 0) shard.dirty.add(activation);
      entries += activation.tail;
      this.#host.counters.activations++;
    }
    const suspect = (await store.cursors(SUSPECT, [row.shard])).get(row.shard) ?? 0;
    this.#host.suspects.set(row.shard, suspect);
    if (isPending(suspect, row.position)) {
      // the reading named by the owner before has not been passed
      shard.mode = 'single';
      shard.careful = Math.max(shard.careful, CAREFUL_READINGS);
    }
    const outboxes = [...this.#host.outboxes];
    const cursors = await Promise.all(
      outboxes.map(async (outbox) => (await store.cursors(outbox.name, [row.shard])).get(row.shard) ?? 0),
    );
    const after = await this.#positionToReadFrom(row);
    if (this.#host.state === 'stopped') throw new Error('the node stopped');
    this.shards.set(row.shard, shard);
    this.busy.delete(row.shard);
    this.#modes.delete(row.shard);
    shard.commands.push(...commands);
    shard.reads.push(...reads);
    // only now: a wake that falls due while the shard is not ours yet finds nobody and is not asked for again
    for (const activation of shard.twins.values()) this.#host.wakes.schedule(activation);
    for (const activation of shard.twins.values()) this.#host.asking.consider(shard, activation);
    for (const [i, outbox] of outboxes.entries()) outbox.attach(row.shard, cursors[i], row.eventSeq);
    for (const outbox of this.#host.outboxes) if (!outboxes.includes(outbox)) void this.#host.follow(outbox, [shard]);
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
      this.#host.signal();
    };
    shard.reader = log.read(row.shard, after, onReadable, () => void this.#lookAgain(shard));
    this.#replayed.shards += entries > 0 ? 1 : 0;
    this.#replayed.twins += tail.length;
    this.#replayed.entries += entries;
    if (this.#doubtful.delete(row.shard)) this.reclaim(shard, STOOD_STILL);
    else this.#host.standing.owned(row.shard, row.epoch);
    this.#host.signal();
  }

  /** The log may have gone back (power loss, restore): then what stands at our position is not what we folded. */
  async #positionToReadFrom(row: ShardRow): Promise<number> {
    const { log } = this.#host.options;
    for (;;) {
      const { connections } = log;
      const position = await this.#lookUpPosition(row);
      if (log.connections === connections) return position;
    }
  }

  async #lookUpPosition(row: ShardRow): Promise<number> {
    if (row.positionId === null || row.positionAt === null) return row.position;
    const mark = await this.#host.options.log.at(row.shard, row.position);
    if (mark === 'untracked' || isThat(mark, row.positionId, row.positionAt)) return row.position;
    const after = await this.#host.options.log.seek(row.shard, row.positionAt - LOG_MARGIN_MS);
    this.#host.options.logger.error(
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
        const mark = await this.#host.options.log.at(shard.shard, position);
        if (mark !== 'untracked' && !isThat(mark, id, at)) {
          this.#host.checkpoint.abandon(shard, 'the log went back while it was read');
          return;
        }
        break;
      } catch (error) {
        this.#host.options.logger.warn({ shard: shard.shard, error: messageOf(error) }, 'the log does not answer');
        await sleep(this.#host.options.clock, pauseMs);
      }
    }
    shard.doubted--;
    this.#host.signal();
  }

  renew(shardNumber: number): void {
    const shard = this.shards.get(shardNumber);
    if (shard === undefined) {
      if (this.busy.has(shardNumber)) this.#doubtful.add(shardNumber);
    } else if (!shard.poisoned && !shard.renewing) {
      this.#renewal.of(shard);
    }
  }

  /** Epoch under which the shard is held; undefined where that is being found out. */
  epochOf(shardNumber: number): number | undefined {
    const shard = this.shards.get(shardNumber);
    return shard === undefined || shard.renewing ? undefined : shard.epoch;
  }

  trust(shard: HostedShard): void {
    shard.mode = 'normal';
  }

  #retryCommand(pending: PendingCommand): void {
    const shard = this.shards.get(shardOf(pending.twinId, this.#host.options.shards));
    if (shard && !shard.dead) {
      shard.commands.push(pending);
      this.#host.signal();
      return;
    }
    const deadlineMs = pending.deadlineAt - this.#host.options.clock.monotonic();
    if (deadlineMs <= 0) {
      pending.reject(
        new TwinmeshError(
          'deadline_exceeded',
          'The outcome of the command is not known; send it again with the same idempotency key.',
        ),
      );
      return;
    }
    this.#host.options.clock.after(Math.min(50, deadlineMs), () => {
      if (
        this.busy.has(shardOf(pending.twinId, this.#host.options.shards)) ||
        this.shards.has(shardOf(pending.twinId, this.#host.options.shards))
      ) {
        this.#retryCommand(pending);
      } else {
        pending.reject(new TwinmeshError('not_owner', `The shard of ${pending.twinId} has moved.`));
      }
    });
  }
}

/** A source that was not acknowledged sends the same message again, which may come to lie at the same position: its time tells. */
function isThat(mark: LogMark | null, id: string, appendedAt: number | null): boolean {
  return mark?.id === id && mark.appendedAt === appendedAt;
}
