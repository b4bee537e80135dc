import type { Consumer, EachBatchPayload, Kafka, KafkaMessage } from 'kafkajs';
import { type Clock, type Random, sleep, type TimerHandle } from '../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { ensureTopics, type KafkaLogger } from './kafka.ts';
import { type Chunk, PartitionOffsets } from './kafka-offsets.ts';

/**
 * A member of a consumer group that hands out records and commits their offsets once they are dealt with.
 *
 * Owns: the connection, the membership, offsets. Does not own what becomes of a record.
 *
 * Invariants:
 *  1  An offset is committed only when every record before it is done: what was not comes again, to this member or another.
 *  2  Records are handed out in the order of their partition, at most MAX_RECORDS at once.
 *  3  A partition with `maxInFlight` records that are not done is paused, nothing is buffered for it, and the membership is
 *     kept alive meanwhile.
 *  4  A rebalance ends what was begun before it: those records may be another member's now, and nothing is committed for them.
 *  5  A connection that is lost, and a broker that refuses, is tried again with growing pauses, for ever.
 */
export interface KafkaSourceOptions {
  kafka: Kafka;
  group: string;
  topics: readonly string[];
  clock: Clock;
  random: Random;
  logger: KafkaLogger;
  /** `done` when every record is durable or refused. Without that call the partition does not move on. */
  onRecords(topic: string, records: readonly KafkaMessage[], done: () => void): void;
  /** Records of one partition that may be on their way. */
  maxInFlight?: number;
  backoffMs?: { first: number; most: number };
  /** A member that does not answer for so long is given up by the group, ms. */
  sessionTimeoutMs?: number;
}

export type KafkaState = 'connecting' | 'connected' | 'waiting' | 'closed';

export interface KafkaSourceStatus {
  state: KafkaState;
  /** Why it is not connected, or what is missing. */
  reason: string | null;
  partitions: number;
  inFlight: number;
  /** Records that wait in the partitions of this member. */
  lag: number;
}

const MAX_RECORDS = 1000;
const MAX_IN_FLIGHT = 10_000;
const COMMIT_EVERY_MS = 200;
const DRAIN_MS = 5_000;
/** Topics that were missing are looked for again. */
const LOOK_AGAIN_MS = 60_000;

interface Partition extends PartitionOffsets {
  paused?: boolean;
}

export class KafkaSource {
  readonly #options: KafkaSourceOptions;
  readonly #maxInFlight: number;
  readonly #partitions = new Map<string, Partition>();
  #state: KafkaState = 'closed';
  #reason: string | null = null;
  #consumer: Consumer | null = null;
  /** Grows with every rebalance. */
  #epoch = 0;
  #assigned = 0;
  #attempts = 0;
  #closing = false;
  #timer: TimerHandle | null = null;
  #committing: Promise<void> = Promise.resolve();
  #running: Promise<void> = Promise.resolve();
  #end: (error: Error | null) => void = () => undefined;

  constructor(options: KafkaSourceOptions) {
    this.#options = options;
    this.#maxInFlight = options.maxInFlight ?? MAX_IN_FLIGHT;
  }

  /** Starts, and keeps at it. */
  open(): void {
    if (this.#state !== 'closed' || this.#closing) return;
    this.#become('connecting', null);
    this.#running = this.#run();
  }

  status(): KafkaSourceStatus {
    let inFlight = 0;
    let lag = 0;
    for (const partition of this.#partitions.values()) {
      inFlight += partition.inFlight;
      lag += partition.behind + partition.inFlight;
    }
    return { state: this.#state, reason: this.#reason, partitions: this.#assigned, inFlight, lag };
  }

  /** Gives what is on its way a moment, commits, and leaves the group. */
  async close(): Promise<void> {
    if (this.#closing) return await this.#running;
    this.#closing = true;
    const { clock } = this.#options;
    const until = clock.monotonic() + DRAIN_MS;
    while (this.status().inFlight > 0 && this.#state === 'connected' && clock.monotonic() < until)
      await sleep(clock, 10);
    await this.#commit();
    this.#end(null);
    await this.#running;
    this.#become('closed', null);
  }

  async #run(): Promise<void> {
    const { clock, random, backoffMs: { first, most } = { first: 500, most: 30_000 } } = this.#options;
    while (!this.#closing) {
      try {
        await this.#session();
      } catch (error) {
        this.#become('waiting', messageOf(error));
      }
      this.#forget();
      if (this.#closing) break;
      const pauseMs = Math.min(most, first * 2 ** Math.min(this.#attempts++, 16)) * (0.5 + random() / 2);
      await Promise.race([sleep(clock, pauseMs), this.#ended()]);
    }
  }

  /** From joining the group to losing it. */
  async #session(): Promise<void> {
    const { kafka, group, topics, logger, clock, sessionTimeoutMs = 10_000 } = this.#options;
    const ended = this.#ended();
    const missing = await ensureTopics(kafka, topics, logger);
    const there = topics.filter((topic) => !missing.includes(topic));
    if (there.length === 0) throw new TwinmeshError('unavailable', `The topics ${missing.join(', ')} are missing.`);
    if (this.#closing) return;
    const consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: 30_000,
      heartbeatInterval: Math.min(1_000, sessionTimeoutMs / 3),
      maxBytesPerPartition: 262_144,
      maxWaitTimeInMs: 100,
      allowAutoTopicCreation: false,
      // One way to come back: by a new session.
      retry: { initialRetryTime: 200, maxRetryTime: 2_000, retries: 4, restartOnFailure: () => Promise.resolve(false) },
    });
    consumer.on(consumer.events.CRASH, ({ payload }) => this.#end(payload.error));
    consumer.on(consumer.events.REBALANCING, () => this.#rebalanced(0));
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      const assigned = Object.values(payload.memberAssignment as Record<string, number[]>);
      this.#rebalanced(assigned.reduce((sum, partitions) => sum + partitions.length, 0));
      this.#attempts = 0;
      this.#become('connected', missing.length > 0 ? `The topics ${missing.join(', ')} are missing.` : null);
    });
    const lookAgain =
      missing.length > 0 ? clock.after(LOOK_AGAIN_MS, () => this.#end(new Error('Looking for topics.'))) : null;
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: there, fromBeginning: true });
      this.#consumer = consumer;
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        partitionsConsumedConcurrently: 8,
        eachBatch: (batch) => this.#batch(batch),
      });
      const error = await ended;
      if (error !== null) throw error;
    } finally {
      lookAgain?.cancel();
      this.#consumer = null;
      await consumer.disconnect().catch(() => undefined);
    }
  }

  async #batch({ batch, resolveOffset, heartbeat, isRunning, isStale }: EachBatchPayload): Promise<void> {
    const epoch = this.#epoch;
    const { topic, partition: number, messages } = batch;
    const over = () => epoch !== this.#epoch || this.#closing || !isRunning() || isStale();
    if (over()) return;
    const partition = this.#partition(topic, number);
    for (let from = 0; from < messages.length; from += MAX_RECORDS) {
      if (from > 0) {
        await heartbeat();
        // A macrotask: whatever a rebalance does in one turn has been done when we go on.
        await new Promise((resolve) => setImmediate(resolve));
        if (over()) return;
      }
      const records = messages.slice(from, from + MAX_RECORDS);
      const last = records[records.length - 1].offset;
      const chunk = partition.begin(BigInt(last), records.length);
      resolveOffset(last);
      this.#options.onRecords(topic, records, () => this.#done(epoch, topic, number, partition, chunk));
    }
    partition.behind = Math.max(0, Number(BigInt(batch.highWatermark) - BigInt(batch.lastOffset()) - 1n));
    if (partition.inFlight >= this.#maxInFlight && !partition.paused) {
      partition.paused = true;
      this.#consumer?.pause([{ topic, partitions: [number] }]);
    }
  }

  #done(epoch: number, topic: string, number: number, partition: Partition, chunk: Chunk): void {
    partition.finish(chunk);
    if (epoch !== this.#epoch) return;
    if (partition.paused && partition.inFlight < this.#maxInFlight / 2) {
      partition.paused = false;
      this.#consumer?.resume([{ topic, partitions: [number] }]);
    }
    this.#timer ??= this.#options.clock.after(COMMIT_EVERY_MS, () => void this.#commit());
  }

  /** One after the other, so that an older offset never comes after a newer one. */
  #commit(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    this.#committing = this.#committing.then(async () => {
      const consumer = this.#consumer;
      if (consumer === null) return;
      const epoch = this.#epoch;
      const moved: { topic: string; partition: number; offset: string; of: PartitionOffsets }[] = [];
      for (const [key, of] of this.#partitions) {
        const offset = of.committable;
        if (offset === null) continue;
        const slash = key.indexOf('/');
        moved.push({ topic: key.slice(slash + 1), partition: Number(key.slice(0, slash)), offset: String(offset), of });
      }
      if (moved.length === 0) return;
      try {
        await consumer.commitOffsets(moved.map(({ topic, partition, offset }) => ({ topic, partition, offset })));
        for (const { of, offset } of moved) of.committed(BigInt(offset));
      } catch (error) {
        // A rebalance, or the connection: the records come again where it matters.
        this.#options.logger.debug({ reason: messageOf(error) }, 'Kafka offsets are not committed');
        if (epoch === this.#epoch && !this.#closing)
          this.#timer ??= this.#options.clock.after(5 * COMMIT_EVERY_MS, () => void this.#commit());
      }
    });
    return this.#committing;
  }

  #partition(topic: string, number: number): Partition {
    const key = `${number}/${topic}`;
    let partition = this.#partitions.get(key);
    if (partition === undefined) {
      partition = new PartitionOffsets();
      this.#partitions.set(key, partition);
    }
    return partition;
  }

  #rebalanced(assigned: number): void {
    for (const [key, { paused }] of this.#partitions) {
      const slash = key.indexOf('/');
      if (paused) this.#consumer?.resume([{ topic: key.slice(slash + 1), partitions: [Number(key.slice(0, slash))] }]);
    }
    this.#epoch++;
    this.#partitions.clear();
    this.#assigned = assigned;
  }

  #forget(): void {
    this.#epoch++;
    this.#partitions.clear();
    this.#assigned = 0;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #ended(): Promise<Error | null> {
    return new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  #become(state: KafkaState, reason: string | null): void {
    if (state === this.#state && reason === this.#reason) return;
    this.#state = state;
    this.#reason = reason;
    const { logger, group } = this.#options;
    if (reason === null) logger.info({ state, group }, 'Kafka in');
    else logger.warn({ state, group, reason }, 'Kafka in');
  }
}
