import { describe, expect, it } from 'vitest';
import { Collector } from '../../../actors/ingress/collector.ts';
import type { Speaker } from '../../../actors/ingress/speaker.ts';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { goodMessage } from '../../fixtures/bad-input/corpus.ts';
import { bench, COMMITTED, HTTP, kinds, PATIENT, settle, topic } from './fixture.ts';

const device: Speaker = { keyId: 'k1', name: 'pump', role: 'device', twinId: 'machine:PUMP' };
const gateway: Speaker = { keyId: 'k2', name: 'hall', role: 'device', gateway: true };

describe('what a message is of', () => {
  it.each([
    [
      'generic over HTTP',
      HTTP,
      '{"twinId":"mote:1","at":"2026-01-01T00:00:00Z","values":{"temperature":20}}',
      'mote',
      '1',
    ],
    [
      'generic on its topic',
      topic('twins/mote/7/telemetry'),
      '{"at":1767225600000,"values":{"temperature":20}}',
      'mote',
      '7',
    ],
    [
      'the kind’s own format on the generic topic',
      topic('twins/mote/7/telemetry'),
      '{"mote_id":7,"temperature":20}',
      'mote',
      '7',
    ],
    ['a mote over HTTP', HTTP, '{"mote_id":3,"temperature":22.5,"humidity":45}', 'mote', '3'],
    ['a battery over HTTP', HTTP, '{"battery_id":"EV-001","SoC":81.2}', 'battery', 'EV-001'],
    ['a machine over HTTP', HTTP, '{"machine_id":"M1","readings":{"temperature":65.5}}', 'machine', 'M1'],
    ['a device over HTTP', HTTP, '{"device_id":"dev-7","sensor_type":"co2","value":415}', 'device', 'dev-7'],
    [
      'a device at its own path',
      { ...HTTP, address: '/api/data' },
      '{"device_id":"dev-7","sensor_type":"co2","value":415}',
      'device',
      'dev-7',
    ],
    [
      'a battery on its topic',
      topic('ev/battery/telemetry'),
      '{"battery_id":"EV-001","SoC":81.2}',
      'battery',
      'EV-001',
    ],
    ['an id from the topic', topic('ev/battery/telemetry/EV-9'), '{"SoC":81.2}', 'battery', 'EV-9'],
    [
      'Kafka',
      { protocol: 'kafka', address: 'sensor_readings', speaker: null } as const,
      '{"mote_id":3,"light":1}',
      'mote',
      '3',
    ],
    [
      'NATS',
      { protocol: 'nats', address: 'twins.in.machine.M.1', speaker: null } as const,
      '{"values":{"power":1}}',
      'machine',
      'M.1',
    ],
  ])('%s', async (_, source, message, kind, id) => {
    const { ingress, log, letters } = bench();
    await ingress.submit(source, message, COMMITTED);
    expect(letters).toEqual([]);
    expect(log.readings()).toMatchObject([{ kind, id }]);
  });

  it('decodes the example of every format on every address it names', async () => {
    for (const kind of kinds.all()) {
      for (const format of kind.formats) {
        const id = String(kind.formats[0].decode(format.example, undefined).id);
        const addresses = [
          ...(format.mqtt ?? []).map((filter) => topic(filter.replace('{id}', id))),
          ...(format.http ?? []).map((address) => ({ ...HTTP, address })),
          HTTP,
          topic(`twins/${kind.kind}/${id}/telemetry`),
        ];
        for (const source of addresses) {
          const { ingress, log, letters, clock } = bench();
          clock.wallMs = Date.UTC(2030, 0, 1);
          await ingress.submit(source, JSON.stringify(format.example), COMMITTED);
          expect(letters).toEqual([]);
          expect(log.readings()).toMatchObject([{ kind: kind.kind, id }]);
        }
      }
    }
  });

  it('believes a message in neither name when topic and payload disagree', async () => {
    const { ingress, log, letters } = bench();
    await ingress.submit(topic('twins/machine/A/telemetry'), goodMessage('B'), COMMITTED);
    await ingress.submit(topic('twins/mote/A/telemetry'), goodMessage('A'), COMMITTED);
    await ingress.submit(topic('factory/machines/A/readings'), '{"machine_id":"B","readings":{"power":1}}', COMMITTED);
    await ingress.submit(topic('building/motes/1/readings'), '{"mote_id":2,"light":1}', COMMITTED);
    expect(letters.map(({ code }) => code)).toEqual(['not_yourself', 'not_yourself', 'not_yourself', 'not_yourself']);
    expect(log.readings()).toEqual([]);
  });

  it('gives a message without a time the time of arrival, and says so', async () => {
    const { ingress, log, clock } = bench();
    await ingress.submit(HTTP, '{"twinId":"machine:A","values":{"temperature":60}}', COMMITTED);
    expect(log.readings()).toEqual([
      { kind: 'machine', id: 'A', at: clock.now(), values: { temperature: 60 }, untimed: true },
    ]);
  });

  it('leaves out and counts what the kind does not know', async () => {
    const { ingress, log } = bench();
    await ingress.submit(
      HTTP,
      '{"twinId":"machine:A","at":0,"values":{"temperature":60,"flux":1,"x":"y"},"color":"red"}',
      COMMITTED,
    );
    expect(log.readings()[0].values).toEqual({ temperature: 60 });
    expect(ingress.ignoredFields).toBe(3);
  });

  it('keeps attributes that are plain, within bounds', async () => {
    const { ingress, log } = bench();
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`a${i}`, i]));
    const attributes = { line: 'A', on: true, nested: {}, long: 'x'.repeat(300), 'bad name': 1, ...many };
    await ingress.submit(
      HTTP,
      JSON.stringify({ twinId: 'machine:A', at: 0, values: { power: 1 }, attributes }),
      COMMITTED,
    );
    const kept = log.readings()[0].attributes ?? {};
    expect(Object.keys(kept)).toHaveLength(32);
    expect(kept).toMatchObject({ line: 'A', on: true, a0: 0 });
    expect(ingress.ignoredFields).toBe(Object.keys(attributes).length - 32);
  });
});

describe('who may send it', () => {
  it('lets a device speak as itself, refuses it as another', async () => {
    const { ingress, log, letters } = bench();
    const own = { ...HTTP, speaker: device };
    const answer = await ingress.submit(
      own,
      `${goodMessage('PUMP')}\n${goodMessage('PUMP2')}\n${goodMessage('XPUMP')}`,
      { ...COMMITTED, ndjson: true },
    );
    expect(answer).toMatchObject({
      accepted: 1,
      rejected: [
        { index: 1, code: 'not_yourself' },
        { index: 2, code: 'not_yourself' },
      ],
    });
    expect(log.ids()).toEqual(['PUMP']);
    expect(letters[0]).toMatchObject({ twinId: 'machine:PUMP2', source: 'http:/api/v1/telemetry' });
  });

  it('lets gateways, operators and admins speak for all, and nobody else', async () => {
    for (const [speaker, code] of [
      [gateway, null],
      [{ keyId: 'o', name: 'o', role: 'operator' }, null],
      [{ keyId: 'a', name: 'a', role: 'admin' }, null],
      [{ keyId: 'v', name: 'v', role: 'viewer' }, 'forbidden'],
      [{ keyId: 't', name: 't', role: 'technician' }, 'forbidden'],
      [{ keyId: 'd', name: 'd', role: 'device' }, 'not_yourself'],
    ] as [Speaker, string | null][]) {
      const { ingress } = bench();
      const answer = await ingress.submit({ ...HTTP, speaker }, goodMessage('A'), COMMITTED);
      expect(answer.rejected.map((r) => r.code)).toEqual(code === null ? [] : [code]);
    }
  });

  it('tells online from offline on a status topic, for the device itself only', () => {
    const { ingress, letters } = bench();
    const status = (id: string, text: string) => ingress.read(topic(`twins/machine/${id}/status`, device), text).status;
    expect(status('PUMP', 'offline')).toEqual({ twinId: 'machine:PUMP', online: false });
    expect(status('PUMP', ' "Online" ')).toEqual({ twinId: 'machine:PUMP', online: true });
    expect(status('OTHER', 'offline')).toBeUndefined();
    expect(status('PUMP', 'maybe')).toBeUndefined();
    expect(letters.map(({ code }) => code)).toEqual(['not_yourself', 'wrong_type']);
  });
});

describe('on its way to the log', () => {
  it('groups by shard, keeps the order, and names each batch once', async () => {
    const { ingress, log } = bench();
    const lines = Array.from({ length: 200 }, (_, i) => goodMessage(`M${i % 20}`, 1_000_000_000_000 + i)).join('\n');
    await ingress.submit(HTTP, lines, { ...COMMITTED, ndjson: true });
    expect(new Set(log.batches.map(({ id }) => id)).size).toBe(log.batches.length);
    expect(log.batches.length).toBeLessThanOrEqual(16);
    for (const { shard, readings } of log.batches) {
      for (const { kind, id } of readings) expect(shardOf(`${kind}:${id}`, 16)).toBe(shard);
      const times = readings.map(({ at }) => at);
      expect(times).toEqual([...times].sort((a, b) => a - b));
    }
  });

  it('cuts batches at their limit', async () => {
    const { ingress, log } = bench({ maxBatchReadings: 7 });
    const lines = Array.from({ length: 20 }, (_, i) => goodMessage('A', 1e12 + i)).join('\n');
    await ingress.submit(HTTP, lines, { ...COMMITTED, ndjson: true });
    expect(log.batches.map(({ readings }) => readings.length)).toEqual([7, 7, 6]);
  });

  it('answers duplicates as such, and keeps conflicts and readings of retired twins as dead letters', async () => {
    const { ingress, log, letters } = bench();
    log.retired.add('machine:OLD');
    const changed = goodMessage('A').replace('60.5', '61');
    const lines = [goodMessage('A'), goodMessage('A'), changed, goodMessage('OLD')].join('\n');
    expect(await ingress.submit(HTTP, lines, { ...COMMITTED, ndjson: true })).toMatchObject({
      accepted: 1,
      duplicates: 1,
      rejected: [
        { index: 2, code: 'conflicting_duplicate' },
        { index: 3, code: 'retired' },
      ],
    });
    expect(letters).toMatchObject([
      { code: 'conflicting_duplicate', twinId: 'machine:A', payload: changed },
      { code: 'retired', twinId: 'machine:OLD' },
    ]);
    expect(ingress.tally.readings.get('http duplicate')).toBe(1);
  });

  it('leaves the letter of a poison reading to the host', async () => {
    const { ingress, log, letters } = bench();
    log.append = async () => ({ position: 1, outcomes: ['poison'] });
    expect(await ingress.submit(HTTP, goodMessage('A'), COMMITTED)).toMatchObject({
      accepted: 0,
      rejected: [{ code: 'poison' }],
    });
    expect(letters).toEqual([]);
    expect(ingress.tally.refusalsOf('poison')).toBe(1);
  });

  it('answers with the log’s error when it refuses, and the same payload again is safe', async () => {
    const { ingress, log } = bench();
    log.onAppend = () => {
      throw new TwinmeshError('overloaded', 'full');
    };
    await expect(ingress.submit(HTTP, goodMessage('A'), COMMITTED)).rejects.toMatchObject({ code: 'overloaded' });
    expect(ingress.paused).toMatchObject({ reason: 'full' });
    log.onAppend = () => {};
    expect(await ingress.submit(HTTP, goodMessage('A'), COMMITTED)).toMatchObject({ accepted: 1 });
    expect(ingress.paused).toBeNull();
    await settle();
    expect(ingress.inFlightBytes).toBe(0);
  });

  it('does not hold the log for closed when nobody tries any more: who is told so would send nothing again', async () => {
    const { ingress, log, clock } = bench();
    log.onAppend = () => {
      throw new TwinmeshError('unavailable', 'the connection to the log is lost');
    };
    await expect(ingress.submit(HTTP, goodMessage('A'), COMMITTED)).rejects.toMatchObject({ code: 'unavailable' });
    await clock.advance(9_000);
    expect(ingress.paused).toMatchObject({ reason: 'the connection to the log is lost' });
    await clock.advance(2_000);
    expect(ingress.paused).toBeNull();
    // somebody who keeps trying knows
    void ingress.store([ingress.read(HTTP, goodMessage('B'))], PATIENT, () => undefined);
    await clock.advance(60_000);
    expect(ingress.paused).not.toBeNull();
    ingress.close();
  });

  it('gives up waiting at the deadline', async () => {
    const { ingress, log, clock } = bench();
    log.onAppend = () => new Promise(() => {});
    const answer = expect(ingress.submit(HTTP, goodMessage('A'), COMMITTED)).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
    await clock.advance(1000);
    await answer;
  });

  it('tries again for the patient, with the same batch, until the log takes it', async () => {
    const { ingress, log, clock } = bench();
    const tried: string[] = [];
    log.onAppend = ({ id }) => {
      tried.push(id);
      if (tried.length < 4) throw new Error('connection lost');
    };
    const done: unknown[] = [];
    void ingress.store([ingress.read(HTTP, goodMessage('A'))], PATIENT, (_, error) => done.push(error));
    await settle();
    expect(done).toEqual([]);
    expect(ingress.paused).toMatchObject({ reason: 'connection lost' });
    await clock.advance(10_000);
    expect(done).toEqual([null]);
    expect(new Set(tried).size).toBe(1);
    expect(log.ids()).toEqual(['A']);
    expect(ingress.paused).toBeNull();
  });

  it('bounds what is on its way: the impatient are refused, the patient wait their turn', async () => {
    const size = Buffer.byteLength(goodMessage('A'));
    const { ingress, log } = bench({ maxInFlightBytes: size + 10 });
    let release = () => {};
    log.onAppend = () => new Promise((resolve) => (release = resolve));
    const done: string[] = [];
    void ingress.store([ingress.read(HTTP, goodMessage('A'))], PATIENT, () => done.push('A'));
    void ingress.store([ingress.read(HTTP, goodMessage('B'))], PATIENT, () => done.push('B'));
    await expect(ingress.submit(HTTP, goodMessage('C'), COMMITTED)).rejects.toMatchObject({ code: 'overloaded' });
    expect(log.batches).toEqual([]);
    release();
    await settle();
    expect(done).toEqual(['A']);
    release();
    await settle();
    expect(done).toEqual(['A', 'B']);
  });

  it('counts what a stuck shard holds, not what came along with it', async () => {
    const { ingress, log } = bench();
    const stuck = shardOf('machine:A', 16);
    const other = ['B', 'C', 'D', 'E', 'F'].find((id) => shardOf(`machine:${id}`, 16) !== stuck)!;
    log.onAppend = ({ shard }) => (shard === stuck ? new Promise(() => {}) : undefined);
    const intakes = ['A', other, other].map((id, i) => ingress.read(HTTP, goodMessage(id, 1e12 + i)));
    void ingress.store(intakes, PATIENT, () => {});
    await settle();
    expect(ingress.inFlightBytes).toBe(intakes[0].bytes);
  });

  it('lets the patient go when the node stops, unacknowledged', async () => {
    const { ingress, log, clock } = bench();
    log.onAppend = () => {
      throw new Error('closed');
    };
    const errors: (string | undefined)[] = [];
    void ingress.store([ingress.read(HTTP, goodMessage('A'))], PATIENT, (_, error) => errors.push(error?.code));
    await settle();
    ingress.close();
    await clock.advance(10_000);
    expect(errors).toEqual(['unavailable']);
    void ingress.store([ingress.read(HTTP, goodMessage('B'))], PATIENT, (_, error) => errors.push(error?.code));
    await settle();
    expect(errors).toEqual(['unavailable', 'unavailable']);
  });
});

describe('the collector', () => {
  it('sends at once what came in one turn, and gathers while something is on its way', async () => {
    const { ingress, log, clock } = bench({ shards: 1 });
    const collector = new Collector(ingress, { clock, wait: 'durable', lingerMs: 3, maxMessages: 100 });
    const releases: (() => void)[] = [];
    log.onAppend = () => new Promise((resolve) => releases.push(resolve));
    const done: string[] = [];
    const push = (id: string) => collector.push(ingress.read(HTTP, goodMessage(id)), () => done.push(id));
    push('A');
    push('B');
    await settle();
    expect(releases).toHaveLength(1);
    push('C');
    await settle();
    push('D');
    await settle();
    expect(releases).toHaveLength(1);
    await clock.advance(3);
    expect(releases).toHaveLength(2);
    for (const release of releases) release();
    await settle();
    expect(done).toEqual(['A', 'B', 'C', 'D']);
    expect(log.batches.map(({ readings }) => readings.map(({ id }) => id))).toEqual([
      ['A', 'B'],
      ['C', 'D'],
    ]);
    expect(collector.size).toBe(0);
  });

  it('lets nobody wait for a shard that stands still but its own devices', async () => {
    const { ingress, log, clock } = bench();
    const collector = new Collector(ingress, { clock, wait: 'durable', lingerMs: 3, maxMessages: 100 });
    const stuck = shardOf('machine:A', 16);
    const other = ['B', 'C', 'D', 'E', 'F'].find((id) => shardOf(`machine:${id}`, 16) !== stuck)!;
    log.onAppend = ({ shard }) => (shard === stuck ? new Promise(() => {}) : undefined);
    const done: string[] = [];
    for (const id of ['A', other]) collector.push(ingress.read(HTTP, goodMessage(id)), () => done.push(id));
    await settle();
    expect(done).toEqual([other]);
    collector.push(ingress.read(HTTP, goodMessage(other, 1e12)), () => done.push('again'));
    await clock.advance(3);
    expect(done).toEqual([other, 'again']);
  });
});
