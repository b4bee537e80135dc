import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import machine from '../../../actors/kinds/machine.ts';
import type { PredictRequest } from '../../../actors/protocol/prediction.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { readSegments } from '../../../actors/store/queries/journal-segments.ts';
import { findTwin } from '../../../actors/store/queries/twin-key.ts';
import { tableText } from '../../../services/command-line.ts';
import drift from '../../../services/drift.service.ts';
import history from '../../../services/history.service.ts';
import type { SeatedPredictor } from '../../../services/inference/seat.ts';
import { rescoreText } from '../../../services/replay/rescore-text.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from '../gateway/node.ts';

/** Time travel, what-if and rescoring over HTTP, in threads of their own, on the embedded database. */
const MOTE_MODELS = fileURLToPath(new URL('../../../models/mote-anomaly/', import.meta.url));
const START = Date.now() - 600_000;

let node: GatewayNode;
const predictor: SeatedPredictor & { asked: string[] } = {
  asked: [],
  async predict({ model, rows, at }: PredictRequest) {
    predictor.asked.push(model);
    return {
      predictions: Array.from({ length: rows }, (_, i) => ({
        model: `${model}@9.9.9`,
        at: at[i],
        score: 0.1,
        threshold: 1,
      })),
    };
  },
  status: () => ({ breaker: 'closed', asked: 0, rows: 0, failures: {}, down: null }),
};

beforeAll(async () => {
  node = await startGateway({ services: [...GATEWAY_SERVICES, drift, history] as unknown as ServiceSchema[] });
  for (let i = 0; i < 40; i++) {
    const at = START + i * 10_000;
    await node.tell('machine', 'M1', { temperature: 60 + (i % 3), vibration: 1, pressure: 45, power: 200 }, at);
    await node.tell(
      'mote',
      '1',
      { temperature: i === 30 ? 90 : 20 + (i % 2), humidity: 40, light: 100, voltage: 2.7 },
      at,
    );
  }
  node.parts.predictor.take(predictor);
  // asked about what is due, and then at rest
  for (const twinId of ['machine:M1', 'mote:1']) {
    let before = -1;
    await vi.waitFor(
      async () => {
        const { revision } = await node.parts.host.get(twinId);
        const last = before;
        before = revision;
        expect(revision).toBe(last);
      },
      { timeout: 20_000, interval: 300 },
    );
  }
}, 60_000);
afterAll(() => node?.stop());

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
type Any = any;

async function call(method: string, path: string, role: keyof GatewayNode['keys'] = 'viewer', body?: unknown) {
  const answer = await node.http(method, path, { key: node.keys[role], ...(body === undefined ? {} : { body }) });
  return { status: answer.status, data: answer.json?.data as Any, json: answer.json as Any };
}

describe('?at=', () => {
  it('is the twin as it was, and says of when', async () => {
    const now = await call('GET', '/api/v1/twins/machine:M1');
    const newest = await call('GET', `/api/v1/twins/machine:M1?at=${Date.now()}`);
    const { asOf, ingest: _, ...was } = newest.data;
    const { ingest: __, ...is } = now.data;
    // whether a model answers now is no part of the past
    expect(was).toEqual({ ...is, predictions: was.predictions, stale: null });
    expect(asOf).toMatchObject({
      revision: now.data.revision,
      kindVersion: { was: machine.version, now: machine.version },
    });
    const entries = (await call('GET', '/api/v1/twins/machine:M1/journal?limit=500')).data.items;
    const tenth = entries.filter((entry: Any) => entry.type === 'reading')[9];
    const then = await call('GET', `/api/v1/twins/machine:M1?at=${encodeURIComponent(tenth.receivedAt)}`);
    expect(then.data.reported).toBeDefined();
    expect(then.data.revision).toBeGreaterThanOrEqual(tenth.revision);
    expect(then.data.revision).toBeLessThan(now.data.revision);
  }, 30_000);

  it('answers many at once, and refuses what cannot be', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => call('GET', `/api/v1/twins/mote:1?at=${Date.now()}`)),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
    expect((await call('GET', '/api/v1/twins/machine:M1?at=2020-01-01')).json).toMatchObject({ code: 'not_found' });
    expect((await call('GET', '/api/v1/twins/machine:none?at=2020-01-01')).json).toMatchObject({ code: 'not_found' });
    expect((await call('GET', '/api/v1/twins/nokind:x?at=2020-01-01')).json).toMatchObject({ code: 'unknown_kind' });
    expect((await call('GET', '/api/v1/twins/machine:M1?at=2100-01-01')).json).toMatchObject({ code: 'bad_request' });
  }, 30_000);
});

describe('a stretch of a journal', () => {
  it.each(['device:d1', 'machine:M2'])('is what the store says, whatever the readings of %s carry', async (twinId) => {
    const [kind, id] = twinId.split(':');
    const at = START;
    const values = (i: number): Record<string, number> =>
      kind === 'device'
        ? { zinc: i, acid: i / 3 }
        : i % 2 === 0
          ? { temperature: 60 + i }
          : { vibration: 1 / 3, power: 200 };
    await node.parts.log.append({
      shard: shardOf(twinId, node.parts.settings.shards),
      id: `s-${twinId}`,
      receivedAt: at + 7,
      readings: [
        { kind, id, at, values: values(0) },
        { kind, id, at: at + 2_000, values: values(1), seq: 4, sensor: 's-1' },
        { kind, id, at: at + 1_000, values: values(2), key: 'näme', attributes: { b: 1, a: 'x', c: true } },
        ...(kind === 'device' ? [{ kind, id, at: at + 3_000, values: { acid: 5 }, unit: '°C' }] : []),
      ],
    });
    await node.parts.host.command(twinId, { key: 'k', by: 'me', name: 'desired', patch: { b: 1, a: [2] } });
    const wanted = await node.parts.host.journal(twinId, 0, 100);
    const { twin } = await findTwin(node.parts.sql, twinId);
    const whole = {
      twin,
      id,
      after: 0,
      upto: wanted.length,
      floorAt: Number.NEGATIVE_INFINITY,
      newestAt: Number.POSITIVE_INFINITY,
    };
    const part = { ...whole, after: 1, upto: 2, floorAt: at, newestAt: at + 2_000 };
    const found = await readSegments(node.parts.sql, node.parts.kinds.get(kind), [
      whole,
      part,
      { ...whole, after: 900, upto: 1_000 },
    ]);
    expect(found).toEqual([wanted, wanted.slice(1, 2), []]);
    expect(JSON.stringify(found[0])).toBe(JSON.stringify(wanted));
    expect(wanted.length).toBeGreaterThan(3);
  });
});

describe('what-if', () => {
  const path = '/api/v1/twins/machine:M1/what-if';

  it('plays a scenario from the present values on, and leaves the twin as it is', async () => {
    const before = await node.parts.host.get('machine:M1');
    const [scenario] = Object.keys(machine.simulator!.scenarios);
    const { status, data } = await call('POST', path, 'technician', {
      scenario: { name: scenario, severity: 1 },
      durationMs: 600_000,
      stepMs: 5_000,
    });
    expect(status).toBe(200);
    expect(data.revision).toBe(before.revision);
    expect(data.present.reported).toEqual(before.reported);
    expect(data.readings.accepted).toBeGreaterThan(100);
    expect(data.timeline.length).toBeGreaterThan(100);
    // it begins where the twin is
    const [, first] = data.timeline;
    expect(Math.abs(first.reported.temperature - before.reported.temperature)).toBeLessThan(5);
    expect(data.durationMs).toBe(600_000);
    for (const asked of Object.values<Any>(data.models)) expect(asked.failed).toBeNull();
    const { reported, rolling, alerts, ingest } = await node.parts.host.get('machine:M1');
    expect({ reported, rolling, alerts, ingest }).toEqual({
      reported: before.reported,
      rolling: before.rolling,
      alerts: before.alerts,
      ingest: before.ingest,
    });
  }, 30_000);

  it('asks the models of the node when they are due', async () => {
    const readings = Array.from({ length: 5 }, () => ({
      values: { temperature: 21, humidity: 40, light: 100, voltage: 2.7 },
    }));
    const { data } = await call('POST', '/api/v1/twins/mote:1/what-if', 'technician', { readings, stepMs: 30_000 });
    expect(data.models.anomaly).toEqual({ model: 'mote-anomaly@9.9.9', asked: 5, answered: 5, failed: null });
    expect(data.end.predictions.anomaly).toMatchObject({ version: '9.9.9', score: 0.1 });
  }, 30_000);

  it('takes readings, and says which of them is wrong', async () => {
    const hot = await call('POST', path, 'technician', {
      readings: [{ values: { temperature: 99 } }, { values: { temperature: 100 } }],
    });
    expect(hot.data.end.reported.temperature).toBe(100);
    const wrong = await call('POST', path, 'technician', {
      readings: [{ values: { temperature: 99 } }, { values: { temperature: 'x' } }],
    });
    expect(wrong.json).toMatchObject({ code: 'wrong_type', detail: expect.stringContaining('readings[1]') });
    expect((await call('POST', path, 'technician', {})).json).toMatchObject({ code: 'bad_request' });
    expect((await call('POST', path, 'viewer', { durationMs: 1 })).status).toBe(403);
    const strange = await call('POST', path, 'technician', { scenario: { name: 'no such' }, durationMs: 60_000 });
    expect(strange.json).toMatchObject({ code: 'bad_request', detail: expect.stringContaining('no such') });
  }, 30_000);
});

describe('what a query names', () => {
  it('is refused where it does not exist: kind and model of drift, name of predictions', async () => {
    expect((await call('GET', '/api/v1/drift?kind=nope')).json).toMatchObject({ code: 'unknown_kind' });
    expect((await call('GET', '/api/v1/drift?model=nope')).json).toMatchObject({ code: 'not_found' });
    expect((await call('GET', '/api/v1/drift?model=%00')).status).toBeLessThan(500);
    await node.parts.sql.query(
      `insert into models (name, version, type, kind, status, sha256, metrics, card, source)
       values ('m-old', '1.0.0', 'anomaly', 'mote', 'retired', '', '[]', '{}', 'a test')`,
    );
    const known = await call('GET', '/api/v1/drift?kind=mote&model=m-old');
    expect([known.status, known.data.items]).toEqual([200, []]);

    const path = '/api/v1/twins/mote:1/predictions?name=';
    const bogus = (await call('GET', `${path}bogus`)).json;
    expect(bogus).toMatchObject({
      code: 'bad_request',
      detail: expect.stringMatching(/no prediction "bogus".*anomaly/),
    });
    expect((await call('GET', `${path}anomaly`)).data.items.length).toBeGreaterThan(0);
    // what the kind has may have said nothing yet
    expect((await call('GET', `${path}anomaly&from=2020-01-01&to=2020-01-02`)).data.items).toEqual([]);
    // a name of a former version of the kind is in the journal, and in no span is no mistake either
    const { twin } = await findTwin(node.parts.sql, 'mote:1');
    await node.parts.sql.query(
      `insert into entries (twin, revision, shard, type, received_at, body) values ($1, 0, 0, 'prediction', now(), $2)`,
      [twin, JSON.stringify({ name: 'former', basedOn: 0, prediction: { model: 'm-old@1.0.0', at: START, score: 1 } })],
    );
    expect((await call('GET', `${path}former`)).data.items).toMatchObject([{ name: 'former', model: 'm-old' }]);
    expect((await call('GET', `${path}former&from=2020-01-01&to=2020-01-02`)).data.items).toEqual([]);
    await node.parts.sql.query('delete from entries where twin = $1 and revision = 0', [twin]);
  }, 30_000);
});

describe('a rescoring', () => {
  it('runs aside with a model from its folder, and is stored', async () => {
    const version = readdirSync(MOTE_MODELS).sort().at(-1);
    const asked = { model: 'mote-anomaly', version, from: START - 1_000, kind: 'mote' };
    const { status, data } = await call('POST', '/api/v1/rescores', 'admin', asked);
    expect(status).toBe(200);
    const end = await vi.waitFor(
      async () => {
        const found = await call('GET', `/api/v1/rescores/${data.id}`);
        expect(found.data.state).not.toBe('running');
        return found.data;
      },
      { timeout: 30_000, interval: 100 },
    );
    expect(end).toMatchObject({ state: 'done', error: null, model: 'mote-anomaly', version, kind: 'mote' });
    expect(end.summary.twins).toEqual({ total: 1, done: 1 });
    expect(end.summary.readings).toBe(40);
    expect(end.summary.answers.asked).toBeGreaterThan(0);
    expect(end.summary).not.toHaveProperty('received');
    // nothing was predicted before: whatever it finds is gained
    expect(end.summary.tally.anomaly.gained).toBe(end.summary.tally.anomaly.now);
    expect(end.differences.items).toHaveLength(
      end.summary.tally.anomaly.gained + end.summary.tally.alert.gained + end.summary.tally.maintenance.gained,
    );
    const list = await call('GET', '/api/v1/rescores?model=mote-anomaly');
    expect(list.data.items.map(({ id }: Any) => id)).toContain(data.id);
  }, 60_000);

  it('of a span in which nothing was received says when something was', async () => {
    const version = readdirSync(MOTE_MODELS).sort().at(-1);
    // event times of the past are received today
    const asked = { model: 'mote-anomaly', version, from: '2020-01-01', to: '2020-01-02', twins: ['mote:1'] };
    const { data } = await call('POST', '/api/v1/rescores', 'admin', asked);
    const end = await vi.waitFor(
      async () => {
        const found = await call('GET', `/api/v1/rescores/${data.id}`);
        expect(found.data.state).toBe('done');
        return found.data;
      },
      { timeout: 30_000, interval: 100 },
    );
    const entries = (await call('GET', '/api/v1/twins/mote:1/journal?limit=500')).data.items;
    const times = entries.filter(({ type }: Any) => type === 'reading').map(({ receivedAt }: Any) => receivedAt);
    expect(times.length).toBe(40);
    const [first, last] = [times.toSorted()[0], times.toSorted().at(-1)];
    expect(end.summary).toMatchObject({ readings: 0, received: { first, last } });
    const text = rescoreText(end, [], tableText);
    expect(text).toContain('--from and --to are times of receipt');
    expect(text).toContain(`received from ${first} to ${last}`);
    expect(text).toContain(`--model mote-anomaly --version ${version} --from ${first} --twin mote:1`);
    const strange = await call('POST', '/api/v1/rescores', 'admin', { ...asked, twins: ['mote:1', 'mote:NOPE'] });
    expect(strange.json).toMatchObject({ code: 'not_found', detail: expect.stringContaining('mote:NOPE') });
  }, 60_000);

  it('needs a version that is there, and an admin', async () => {
    const asked = { model: 'mote-anomaly', version: '77.0.0', from: START };
    expect((await call('POST', '/api/v1/rescores', 'admin', asked)).json).toMatchObject({ code: 'not_found' });
    expect((await call('POST', '/api/v1/rescores', 'operator', asked)).status).toBe(403);
    expect((await call('GET', '/api/v1/rescores/none')).json).toMatchObject({ code: 'not_found' });
    expect((await call('DELETE', '/api/v1/rescores/none', 'admin')).json).toMatchObject({ code: 'not_found' });
  });
});
