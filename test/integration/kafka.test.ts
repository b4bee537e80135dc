import { spawnSync } from 'node:child_process';
import kafkajs, { type Consumer, type Kafka } from 'kafkajs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DeadLetter } from '../../actors/ingress/dead-letters.ts';
import { DOOR_LIMITS } from '../../actors/ingress/door.ts';
import { Ingress } from '../../actors/ingress/ingress.ts';
import type { Log } from '../../actors/log/port.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import type { TwinEvent } from '../../actors/protocol/event.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { ensureTopics, openKafka } from '../../mixins/kafka.ts';
import { KafkaPublisher } from '../../mixins/kafka-publisher.ts';
import { KafkaSource } from '../../mixins/kafka-source.ts';
import { EVENT_TOPICS, kafkaEvents } from '../../services/events/kafka-events.ts';
import { KafkaDoor } from '../../services/ingest/kafka-door.ts';
import { findKafka } from '../servers/kafka.ts';

/** One broker that asks for a user and a password: what works on it works on an open one. */
const server = await findKafka({ own: true, user: 'twinmesh', password: 'pw-of-the-test' });
const kinds = await loadKinds();
const LOGGER = { debug() {}, info() {}, warn() {} };
const SETTINGS = {
  kafkaBrokers: server?.brokers ?? [],
  kafkaTls: false,
  kafkaSasl: 'plain',
  kafkaUser: 'twinmesh',
  kafkaPassword: 'pw-of-the-test',
  kafkaGroup: 'door',
  nodeId: 'test',
  tlsCaFile: null,
  tlsCertFile: null,
  tlsKeyFile: null,
  maxSkewMs: 60_000,
};
const FAST = { backoffMs: { first: 50, most: 500 }, sessionTimeoutMs: 3_000 };
const opened: { close(): Promise<void> }[] = [];
const until = (what: () => boolean) => expect.poll(what, { timeout: 60_000, interval: 10 }).toBe(true);

function machine(k: number, at = Date.UTC(2026, 0, 1) + k * 1000): string {
  return JSON.stringify({ machine_id: `M${k % 7}`, timestamp: at, readings: { temperature: 20 + (k % 50) } });
}

/** An ingress over a log that takes what it is let. */
function ingest() {
  const stored: Reading[] = [];
  const letters: DeadLetter[] = [];
  let gate: Promise<void> = Promise.resolve();
  let let_: () => void = () => undefined;
  const log = {
    durable: true,
    async append(batch: { readings: Reading[] }) {
      await gate;
      stored.push(...batch.readings);
      return { position: stored.length };
    },
  } as unknown as Log;
  const ingress = new Ingress({
    log,
    kinds,
    clock: systemClock,
    shards: 8,
    door: { ...DOOR_LIMITS, maxSkewMs: 60_000 },
    json: { maxBytes: 65_536, maxDepth: 16 },
    deadLetters: { add: (letter) => void letters.push(letter) },
    batchPrefix: 'test',
  });
  const hold = () => {
    gate = new Promise((resolve) => {
      let_ = resolve;
    });
  };
  return { ingress, stored, letters, hold, release: () => let_() };
}

function door(ingress: Ingress, over: Partial<typeof SETTINGS> = {}, topics = kinds.kafkaTopics()) {
  const made = new KafkaDoor({
    ingress,
    clock: systemClock,
    random: Math.random,
    wait: 'durable',
    topics,
    settings: { ...SETTINGS, ...over },
    logger: LOGGER,
    ...FAST,
  });
  opened.push(made);
  made.open();
  return made;
}

describe.skipIf(server === null)('on Kafka', () => {
  const kafka: Kafka = openKafka(SETTINGS, LOGGER);
  const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  const admin = kafka.admin();
  const committed = async (groupId: string, topic: string) => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] });
    return partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
  };

  beforeAll(async () => {
    await Promise.all([producer.connect(), admin.connect()]);
    expect(await ensureTopics(kafka, kinds.kafkaTopics(), LOGGER)).toEqual([]);
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((one) => one.close()));
  });
  afterAll(async () => {
    await Promise.all([producer.disconnect(), admin.disconnect()]).catch(() => undefined);
    await server?.stop();
  });

  it('makes its topics with 6 partitions and a day of retention', async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: ['sensor-readings', 'ev-telemetry'] });
    expect(topics.map(({ partitions }) => partitions.length)).toEqual([6, 6]);
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: 'sensor-readings', configNames: ['retention.ms'] }],
    });
    expect(resources[0].configEntries[0].configValue).toBe('86400000');
  });

  it('reads every format from the earliest record, refuses the bad alone, and commits offsets after durability', async () => {
    const battery = { battery_id: 'EV-1', timestamp: '2026-01-01T00:00:00Z', SoC: 50 };
    await producer.sendBatch({
      topicMessages: [
        { topic: 'ev-telemetry', messages: [{ key: 'EV-1', value: JSON.stringify(battery) }] },
        { topic: 'ev_battery_telemetry', messages: [{ value: JSON.stringify({ ...battery, battery_id: 'EV-2' }) }] },
        {
          topic: 'sensor_readings',
          messages: [{ value: '{"mote_id":1,"temperature":22.5}', timestamp: '1767225600000' }],
        },
        {
          topic: 'sensor-readings',
          messages: [
            { key: 'M0', value: machine(0) },
            { key: 'M0', value: 'no JSON' },
            { key: 'M0', value: null },
            { key: 'M0', value: machine(7) },
            { key: 'M1', value: machine(1).replace(':21}', ':1e9}') },
          ],
        },
      ],
    });
    const { ingress, stored, letters, hold, release } = ingest();
    hold();
    const it = door(ingress);
    await until(() => it.status().inFlight > 0 && letters.length === 3);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await committed('door', 'ev-telemetry')).toBe(0);
    release();
    await until(() => stored.length === 5);
    const twins = stored.map(({ kind, id }) => `${kind}:${id}`).sort();
    expect(twins).toEqual(['battery:EV-1', 'battery:EV-2', 'machine:M0', 'machine:M0', 'mote:1']);
    // A record without a time has that of Kafka, whenever it is read.
    expect(stored.find(({ kind }) => kind === 'mote')).toMatchObject({ at: 1767225600000, untimed: true });
    expect(letters.map(({ source, code }) => `${source} ${code}`).sort()).toEqual([
      'kafka:sensor-readings not_json',
      'kafka:sensor-readings not_json',
      'kafka:sensor-readings out_of_range',
    ]);
    await expect.poll(() => committed('door', 'sensor-readings'), { timeout: 5_000 }).toBe(5);
    expect(await committed('door', 'ev-telemetry')).toBe(1);
  });

  it.skipIf(spawnSync('kcat', ['-V']).status !== 0)('reads what kcat sends in every compression', async () => {
    await admin.createTopics({ topics: [{ topic: 'packed', numPartitions: 1 }], waitForLeaders: true });
    const lines = Array.from({ length: 3_000 }, (_, i) => `${i} ${'ä'.repeat(i % 40)} ${machine(i)} ${Math.random()}`);
    const login = ['security.protocol=sasl_plaintext', 'sasl.mechanism=PLAIN', 'sasl.username=twinmesh'];
    const options = [...login, 'sasl.password=pw-of-the-test'].flatMap((option) => ['-X', option]);
    const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'];
    for (const codec of codecs) {
      const args = ['-P', '-b', server!.brokers[0], '-t', 'packed', '-z', codec, ...options];
      const sent = spawnSync('kcat', args, { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
      expect([codec, sent.status, sent.stderr]).toEqual([codec, 0, '']);
    }
    const seen: string[] = [];
    const source = new KafkaSource({
      kafka,
      group: 'packed',
      topics: ['packed'],
      clock: systemClock,
      random: Math.random,
      logger: LOGGER,
      ...FAST,
      onRecords(_, records, done) {
        for (const { value } of records) seen.push(String(value));
        done();
      },
    });
    opened.push(source);
    source.open();
    await until(() => seen.length === codecs.length * lines.length);
    expect(seen).toEqual(codecs.flatMap(() => lines));
  });

  it('pauses a partition that is not dealt with, stays in the group meanwhile, and goes on where it was', async () => {
    await admin.createTopics({ topics: [{ topic: 'slow', numPartitions: 1 }], waitForLeaders: true });
    const total = 30_000;
    for (let k = 0; k < total; k += 5_000) {
      const messages = Array.from({ length: 5_000 }, (_, i) => ({ value: `${k + i}`.padStart(100) }));
      await producer.send({ topic: 'slow', messages });
    }
    const seen: number[] = [];
    const waiting: (() => void)[] = [];
    let through = false;
    let largest = 0;
    const source = new KafkaSource({
      kafka,
      group: 'slow',
      topics: ['slow'],
      clock: systemClock,
      random: Math.random,
      logger: LOGGER,
      maxInFlight: 2_000,
      ...FAST,
      onRecords(_, records, done) {
        largest = Math.max(largest, records.length);
        for (const { value } of records) seen.push(Number(value));
        if (through) done();
        else waiting.push(done);
      },
    });
    opened.push(source);
    source.open();
    await until(() => seen.length >= 2_000);
    // Longer than the session: only heartbeats keep the membership.
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect(seen.length).toBeLessThan(6_000);
    expect(source.status()).toMatchObject({ state: 'connected', partitions: 1, inFlight: seen.length });
    expect(await committed('slow', 'slow')).toBe(0);
    through = true;
    // The first is done last: what may be committed ends before it.
    for (const done of waiting.splice(1)) done();
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await committed('slow', 'slow')).toBe(0);
    waiting[0]();
    await until(() => seen.length === total);
    expect(seen).toEqual(Array.from({ length: total }, (_, i) => i));
    expect(largest).toBeLessThanOrEqual(1_000);
    await expect.poll(() => committed('slow', 'slow'), { timeout: 5_000 }).toBe(total);
  });

  // Two rebalances, each as long as Kafka takes for it. Every step waits for what members hold and what is committed, never for time.
  it('loses nothing when members come and go with records in their hands', { timeout: 150_000 }, async () => {
    const PARTITIONS = 6;
    const EACH = 200;
    await admin.createTopics({ topics: [{ topic: 'shared', numPartitions: PARTITIONS }], waitForLeaders: true });
    const partitionOf = (n: number) => n % PARTITIONS;
    const send = (from: number) =>
      producer.send({
        topic: 'shared',
        messages: Array.from({ length: EACH * PARTITIONS }, (_, i) => ({
          partition: partitionOf(from + i),
          value: String(from + i),
        })),
      });
    const offsets = async () => {
      const [{ partitions }] = await admin.fetchOffsets({ groupId: 'shared', topics: ['shared'] });
      return Object.fromEntries(partitions.map(({ partition, offset }) => [partition, Math.max(0, Number(offset))]));
    };
    const dealtWith = new Set<number>();
    const member = () => {
      const held: { numbers: number[]; done(): void }[] = [];
      let skippedMs = 0;
      let through = false;
      const finish = (of: (n: number) => boolean = () => true) => {
        for (const records of held.filter(({ numbers }) => of(numbers[0]))) {
          held.splice(held.indexOf(records), 1);
          for (const n of records.numbers) dealtWith.add(n);
          records.done();
        }
      };
      const source = new KafkaSource({
        kafka: openKafka(SETTINGS, LOGGER),
        group: 'shared',
        topics: ['shared'],
        clock: { ...systemClock, monotonic: () => systemClock.monotonic() + skippedMs },
        random: Math.random,
        logger: LOGGER,
        ...FAST,
        // a test that is not given the processor for a while is no member that died
        sessionTimeoutMs: 30_000,
        onRecords: (_, records, done) => {
          held.push({ numbers: records.map(({ value }) => Number(value)), done });
          if (through) finish();
        },
      });
      opened.push(source);
      source.open();
      return {
        held,
        finish,
        status: () => source.status(),
        partitions: () => new Set(held.flatMap(({ numbers }) => numbers.map(partitionOf))),
        finishFromNowOn() {
          through = true;
          finish();
        },
        /** Without the moment that it would give what it holds. */
        async leave() {
          const left = source.close();
          skippedMs = 60_000;
          await left;
        },
      };
    };
    const holds = (one: ReturnType<typeof member>, partitions: number, records: number) => {
      const { partitions: has, inFlight } = one.status();
      return has === partitions && inFlight === records;
    };

    const first = member();
    await until(() => first.status().state === 'connected');
    await send(0);
    await until(() => holds(first, PARTITIONS, PARTITIONS * EACH));
    const before = first.held.splice(0);
    const second = member();
    // Nothing was committed: each is given its half from the beginning.
    await until(() => holds(first, 3, 3 * EACH) && holds(second, 3, 3 * EACH));
    expect(new Set([...first.partitions(), ...second.partitions()]).size).toBe(PARTITIONS);

    // What the first was given before the rebalance is nobody's: that it is done commits nothing. What it was given since does.
    for (const { done } of before) done();
    const [one] = first.partitions();
    first.finish((n) => partitionOf(n) === one);
    const nothing = Object.fromEntries([...Array(PARTITIONS).keys()].map((partition) => [partition, 0]));
    await expect.poll(offsets, { timeout: 60_000 }).toEqual({ ...nothing, [one]: EACH });

    second.finishFromNowOn();
    await send(PARTITIONS * EACH);
    await until(() => holds(first, 3, 5 * EACH));
    await first.leave();
    const all = Array.from({ length: 2 * PARTITIONS * EACH }, (_, n) => n);
    await until(() => all.every((n) => dealtWith.has(n)));
    expect(second.status().partitions).toBe(PARTITIONS);
    await expect.poll(() => committed('shared', 'shared'), { timeout: 60_000 }).toBe(all.length);
  });

  it('publishes alerts and anomalies in order for each twin, and the door goes on, after the broker was away', async () => {
    const publisher = new KafkaPublisher({
      kafka,
      topics: EVENT_TOPICS,
      clock: systemClock,
      logger: LOGGER,
      timeoutMs: 3_000,
    });
    opened.push(publisher);
    const sink = kafkaEvents((messages) => publisher.publish(messages));
    const { ingress, stored } = ingest();
    const it = door(ingress, { kafkaGroup: 'later' }, ['sensor-readings']);
    await until(() => it.status().state === 'connected' && stored.length === 2);
    await sink.deliver([alertOf(1), alertOf(2)]);

    await server!.kill();
    await expect(sink.deliver([alertOf(3)])).rejects.toThrow('Kafka');
    await until(() => it.status().state === 'waiting');
    expect(it.status().reason).not.toBeNull();
    await server!.restart();
    await expect
      .poll(
        () =>
          sink.deliver([alertOf(3), { ...alertOf(4), type: 'twin.created' }]).then(
            () => true,
            () => false,
          ),
        {
          timeout: 30_000,
          interval: 200,
        },
      )
      .toBe(true);
    expect(publisher.reason).toBeNull();

    await producer.send({ topic: 'sensor-readings', messages: [{ value: machine(99) }] });
    await until(() => stored.some(({ at }) => at === Date.UTC(2026, 0, 1) + 99_000));

    const alerts: { key: string; body: Record<string, unknown> }[] = [];
    const reader: Consumer = kafka.consumer({ groupId: 'reader' });
    opened.push({ close: () => reader.disconnect() });
    await reader.connect();
    await reader.subscribe({ topics: ['alerts'], fromBeginning: true });
    await reader.run({
      eachMessage: async ({ message }) =>
        void alerts.push({ key: String(message.key), body: JSON.parse(String(message.value)) }),
    });
    await until(() => alerts.some(({ body }) => body.event_id === 'machine:M1~3~0'));
    expect([...new Set(alerts.map(({ body }) => body.event_id))]).toEqual([1, 2, 3].map((n) => `machine:M1~${n}~0`));
    expect(alerts[0]).toEqual({
      key: 'machine:M1',
      body: {
        event_id: 'machine:M1~1~0',
        timestamp: '2026-01-01T00:00:00.000Z',
        alert_id: 'a1',
        twin: 'machine:M1',
        alert_type: 'overheating',
        severity: 'high',
        message: 'hot',
        state: 'raised',
      },
    });
  });

  it('says that its password is wrong, and tries again', async () => {
    const it = door(ingest().ingress, { kafkaPassword: 'another' }, ['sensor-readings']);
    await until(() => it.status().state === 'waiting');
    expect(it.status().reason).toMatch(/auth/i);
    expect(it.status().reason).not.toContain('another');
  });
});

function alertOf(n: number): TwinEvent {
  return {
    type: 'alert.raised',
    at: Date.UTC(2026, 0, 1),
    body: { alertId: `a${n}`, rule: 'overheating', severity: 'high', message: 'hot' },
    twinId: 'machine:M1',
    eventId: `machine:M1~${n}~0`,
    shard: 1,
    seq: n,
    twin: 5,
    revision: n,
    receivedAt: 0,
  };
}
