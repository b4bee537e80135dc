import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import alerts from '../../services/alerts.service.ts';
import analytics from '../../services/analytics.service.ts';
import anomalies from '../../services/anomalies.service.ts';
import audit from '../../services/audit.service.ts';
import exporting from '../../services/export.service.ts';
import fleet from '../../services/fleet.service.ts';
import history from '../../services/history.service.ts';
import iot from '../../services/iot.service.ts';
import rollups from '../../services/rollups.service.ts';
import rules from '../../services/rules.service.ts';
import search from '../../services/search.service.ts';
import sensors from '../../services/sensors.service.ts';
import twins from '../../services/twins.service.ts';
import { type GatewayNode, type HttpOptions, startGateway } from './gateway/node.ts';

/** Every data endpoint through the gateway, on twins that the runtime folded. */
const services = [
  alerts,
  analytics,
  anomalies,
  audit,
  exporting,
  fleet,
  history,
  iot,
  rollups,
  rules,
  search,
  sensors,
  twins,
];

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Two days ago, at midnight. */
const START = Math.floor(Date.now() / DAY) * DAY - 2 * DAY;
const iso = (ms: number) => new Date(ms).toISOString();

let node: GatewayNode;

beforeAll(async () => {
  node = await startGateway({ services: services as unknown as ServiceSchema[] });
  for (let i = 0; i < 60; i++) {
    const at = START + i * 30 * MINUTE;
    await node.tell('mote', '1', { temperature: 20 + (i % 5), humidity: 40, light: 100 + i, voltage: 2.7 }, at);
    if (i % 2 === 0) await node.tell('mote', '2', { temperature: 25, humidity: 50 }, at + 1_000);
    if (i % 3 === 0) await node.tell('device', 'dev-7', { temperature: i }, at);
  }
  await node.tell('device', 'dev-7', { co2: 700 }, START + 2 * HOUR);
  await node.tell('machine', 'M1', { temperature: 60, vibration: 1, pressure: 45, power: 100 });
  // Backfill: older than the window of what has been folded.
  await node.tell('mote', '1', { temperature: 1, humidity: 41, light: 5, voltage: 2.6 }, START + 7 * MINUTE);
  // Lists read summaries, which are up to a second behind.
  await vi.waitFor(async () => {
    const { items } = await get('/api/v1/twins?filter=exists(at)&sort=twinId');
    expect(items.map((item: Any) => item.at)).toEqual([
      iso(START + 57 * 30 * MINUTE),
      expect.any(String),
      iso(START + 59 * 30 * MINUTE),
      iso(START + 58 * 30 * MINUTE + 1_000),
    ]);
  }, 10_000);
}, 60_000);
afterAll(() => node?.stop());

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
type Any = any;

async function call(
  method: string,
  path: string,
  options: HttpOptions = {},
): Promise<{ status: number; data: Any; json: Any; headers: Any; text: string }> {
  const answer = await node.http(method, path, { key: node.keys.viewer, ...options });
  return { ...answer, data: answer.json?.data };
}

async function get(path: string): Promise<Any> {
  const answer = await call('GET', path);
  expect([path, answer.status, answer.json?.detail]).toEqual([path, 200, undefined]);
  return path.startsWith('/api/v1') ? answer.data : answer.json;
}

async function every(path: string): Promise<Any[]> {
  const out: Any[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: Any = await get(`${path}${cursor === '' ? '' : `&cursor=${cursor}`}`);
    out.push(...page.items);
    cursor = page.nextCursor;
  }
  return out;
}

describe('twins', () => {
  it('are found by kind, filter and sort', async () => {
    const { items } = await get(
      `/api/v1/twins?kind=mote&filter=${encodeURIComponent('gt(reported.temperature,24.5)')}&sort=-at`,
    );
    expect(items).toMatchObject([
      {
        twinId: 'mote:2',
        kind: 'mote',
        id: '2',
        online: true,
        retired: false,
        reported: { temperature: 25, humidity: 50 },
      },
    ]);
    expect((await every('/api/v1/twins?limit=1&sort=+twinId')).map((item) => item.twinId)).toEqual([
      'device:dev-7',
      'machine:M1',
      'mote:1',
      'mote:2',
    ]);
  });

  it('are refused a bad filter with the place of the fault', async () => {
    const { status, json } = await call('GET', '/api/v1/twins?filter=eq(kind');
    expect(status).toBe(400);
    expect(json).toMatchObject({ status: 'error', code: 'bad_request', detail: expect.stringContaining('position 8') });
  });

  it('are counted', async () => {
    const found = await get('/api/v1/fleet?worst=2');
    expect(found).toMatchObject({
      total: 4,
      retired: 0,
      telemetry: null,
      kinds: { mote: { total: 2 }, machine: { total: 1 }, battery: { total: 0 } },
    });
    expect(found.worst.length).toBeLessThanOrEqual(2);
  });
});

describe('history', () => {
  it('is raw, with revision and time of receipt, in pages', async () => {
    const items = await every('/api/v1/twins/mote:1/history?limit=13');
    expect(items.length).toBe(61);
    expect(items[0]).toMatchObject({
      at: iso(START),
      revision: expect.any(Number),
      receivedAt: expect.any(String),
      values: { temperature: 20, light: 100 },
    });
    expect(items[1]).toMatchObject({ at: iso(START + 7 * MINUTE), revision: null });
    const one = await get(
      `/api/v1/twins/mote:1/history?metric=light&from=${START + DAY}&to=${iso(START + DAY + HOUR)}&order=desc`,
    );
    expect(one.items.map((item: Any) => item.values)).toEqual([{ light: 149 }, { light: 148 }]);
  });

  it('is downsampled', async () => {
    const hours = await get(
      `/api/v1/twins/mote:1/history?metric=temperature&step=2h&from=${START}&to=${START + 4 * HOUR}`,
    );
    expect(hours).toMatchObject({ stepMs: 2 * HOUR, nextCursor: null });
    expect(hours.items).toEqual([
      {
        at: iso(START),
        metrics: {
          temperature: { count: 5, avg: (20 + 1 + 21 + 22 + 23) / 5, min: 1, max: 23, std: expect.any(Number) },
        },
      },
      {
        at: iso(START + 2 * HOUR),
        metrics: { temperature: { count: 4, avg: (24 + 20 + 21 + 22) / 4, min: 20, max: 24, std: expect.any(Number) } },
      },
    ]);
    const open = await get('/api/v1/twins/device:dev-7/history?step=1d');
    expect(open.items[0].metrics).toMatchObject({ co2: { count: 1, avg: 700, std: null }, temperature: { min: 0 } });
  });

  it('refuses what it cannot do', async () => {
    for (const query of [
      'step=1ms',
      'step=x',
      'metric=nope',
      'from=yesterday',
      'from=2000000000&to=1000000000',
      'limit=0',
      'cursor=x',
      'step=1h&cursor=x',
    ]) {
      expect([query, (await call('GET', `/api/v1/twins/mote:1/history?${query}`)).status]).toEqual([
        query,
        expect.toSatisfy((s: number) => s === 400 || s === 422),
      ]);
    }
    expect((await call('GET', '/api/v1/twins/mote:none/history')).status).toBe(404);
  });

  it('has the events of the fleet', async () => {
    const items = await every('/api/v1/events?type=twin.created&limit=1');
    expect(items.map((item) => item.twinId).sort()).toEqual(['device:dev-7', 'machine:M1', 'mote:1', 'mote:2']);
    expect((await get('/api/v1/events?kind=machine&type=twin')).items[0]).toMatchObject({
      kind: 'machine',
      event_id: expect.stringContaining('machine:M1~'),
    });
  });
});

describe('rollups', () => {
  it('are made by the first by name of the nodes that can, and answers stay the same', async () => {
    const path = `/api/v1/twins/mote:1/history?step=1d`;
    const before = await get(path);
    await node.parts.sql.query(
      `insert into jobs (id, type, name, status, created_at, finished_at)
       select 'job ' || days, 'training', 'x', 'done', at, at from (values (80), (100)) v (days), lateral (select now() - make_interval(days => days) as at) t`,
    );
    expect(await node.broker.call('rollups.run')).toMatchObject({
      complete: true,
      rows: expect.toSatisfy((n: number) => n > 100),
    });
    expect((await get(path)).items).toEqual(before.items);
    const [row] = await node.parts.sql.query<{ n: number }>(`select count(*)::int as n from mote_readings_hourly`);
    expect(row.n).toBeGreaterThan(100);
    // and with them what is on record of work that ended more than 90 days ago goes
    expect(await node.parts.sql.query('select id from jobs')).toEqual([{ id: 'job 80' }]);
    const { registry } = node.broker;
    const known = registry.getServiceList;
    registry.getServiceList = () => [{ name: 'rollups', nodeID: 'another' }, ...known.call(registry, {})] as never;
    expect(await node.broker.call('rollups.run')).toEqual({ complete: false, steps: 0, rows: 0 });
    registry.getServiceList = known;
  });

  it('are answered by hour and day', async () => {
    const { items } = await get(
      `/api/v1/analytics/daily?kind=mote&twinId=mote:1&metric=temperature&from=${START}&to=${START + DAY}`,
    );
    expect(items).toEqual([
      {
        twinId: 'mote:1',
        bucket: iso(START),
        metric: 'temperature',
        avg: expect.closeTo((temperatures(48) + 1) / 49, 9),
        min: 1,
        max: 24,
        std: expect.any(Number),
        median: 22,
        record_count: 49,
        null_count: 0,
        complete: true,
      },
    ]);
    const hours = await every(
      `/api/v1/analytics/hourly?kind=mote&metric=voltage&from=${START}&to=${START + 3 * HOUR}&limit=1`,
    );
    expect(hours.map((row) => [row.twinId, row.record_count, row.null_count])).toEqual([
      ['mote:1', 3, 0],
      ['mote:1', 2, 0],
      ['mote:1', 2, 0],
      ['mote:2', 1, 1],
      ['mote:2', 1, 1],
      ['mote:2', 1, 1],
    ]);
    expect((await call('GET', '/api/v1/analytics/hourly')).status).toBe(400);
  });

  it('are kept for 5 minutes, with a tag', async () => {
    const path = `/api/v1/analytics/hourly?twinId=mote:2&from=${START}&to=${START + HOUR}`;
    const first = await call('GET', path);
    expect(first.headers.etag).toMatch(/^"agg:/);
    await node.tell('mote', '2', { temperature: -5 }, START + 3 * MINUTE);
    const second = await call('GET', path);
    expect(second.data).toEqual(first.data);
    expect((await call('GET', path, { headers: { 'if-none-match': first.headers.etag } })).status).toBe(304);
    expect((await call('GET', `${path}&metric=temperature`)).data.items[0].min).toBe(-5);
  });
});

function temperatures(count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += 20 + (i % 5);
  return sum;
}

describe('environmental-sensor clients', () => {
  it('read the latest values', async () => {
    const { items } = await get('/api/v1/sensors/latest');
    expect(items).toEqual([
      { mote_id: 1, timestamp: iso(START + 59 * 30 * MINUTE), temperature: 24, humidity: 40, light: 159, voltage: 2.7 },
      {
        mote_id: 2,
        timestamp: iso(START + 58 * 30 * MINUTE + 1_000),
        temperature: 25,
        humidity: 50,
        light: null,
        voltage: null,
      },
    ]);
    expect(await get('/api/v1/sensors/1/latest')).toEqual(items[0]);
    expect((await call('GET', '/api/v1/sensors/99/latest')).status).toBe(404);
  });

  it('read readings, newest first, of one mote or all', async () => {
    const all = await every('/api/v1/sensors/readings?limit=17');
    expect(all.length).toBe(61 + 31);
    expect(all[0]).toMatchObject({ mote_id: 1, timestamp: iso(START + 59 * 30 * MINUTE), light: 159 });
    const times = all.map((item) => item.timestamp);
    expect(times).toEqual([...times].sort().reverse());
    const one = await get(`/api/v1/sensors/readings?mote_id=2&start=${iso(START)}&end=${iso(START + HOUR)}`);
    expect(one.items).toEqual([
      { mote_id: 2, timestamp: iso(START + 3 * MINUTE), temperature: -5, humidity: null, light: null, voltage: null },
      { mote_id: 2, timestamp: iso(START + 1_000), temperature: 25, humidity: 50, light: null, voltage: null },
    ]);
  });

  it('read statistics', async () => {
    const stats = await get(`/api/v1/sensors/1/stats?start=${iso(START + HOUR)}&end=${iso(START + 3 * HOUR)}`);
    expect(Object.keys(stats)).toEqual(['mote_id', 'period', 'temperature', 'humidity', 'light', 'voltage']);
    expect(stats).toMatchObject({
      mote_id: 1,
      period: { start: iso(START + HOUR), end: iso(START + 3 * HOUR) },
      temperature: {
        avg: 22.25,
        min: 20,
        max: 24,
        stddev: expect.closeTo(Math.sqrt(((22 - 22.25) ** 2 + 0.75 ** 2 + 1.75 ** 2 + 2.25 ** 2) / 3), 9),
        count: 4,
      },
      humidity: { avg: 40, min: 40, max: 40, stddev: 0 },
    });
    const none = await get('/api/v1/sensors/2/stats?start=0&end=100');
    expect(none.light).toEqual({ avg: null, min: null, max: null, stddev: null, count: 0 });
    const usual = await get('/api/v1/sensors/1/stats');
    expect(usual.period).toEqual({
      start: iso(START + 59 * 30 * MINUTE + 1 - DAY),
      end: iso(START + 59 * 30 * MINUTE + 1),
    });
  });

  it('read motes', async () => {
    expect((await get('/api/v1/motes?limit=1')).items).toMatchObject([{ mote_id: 1, twinId: 'mote:1', online: true }]);
    expect(await get('/api/v1/motes/2')).toMatchObject({
      mote_id: 2,
      health: expect.any(String),
      latest: { temperature: 25, voltage: null },
    });
  });

  it('read daily summaries', async () => {
    const { items } = await get(`/api/v1/analytics/daily-summary?date=${iso(START).slice(0, 10)}`);
    expect(items).toMatchObject([
      { mote_id: 1, date: iso(START).slice(0, 10), complete: true, temperature: { min: 1, max: 24, record_count: 49 } },
      { mote_id: 2, temperature: { min: -5 }, voltage: { avg: null, null_count: 25 } },
    ]);
    const open = await get(`/api/v1/analytics/daily-summary?mote_id=1&start=${iso(START + DAY)}`);
    expect(open.items).toMatchObject([
      { complete: false, temperature: { count: 12, median: null, avg: expect.any(Number) } },
    ]);
  });

  it('read anomalies in their shape', async () => {
    await node.parts.sql.query(
      `insert into anomaly_events (anomaly_id, twin_id, kind, at, field, value, expected_lo, expected_hi, score, threshold, detector, severity, reason, revision)
       values ('mote:1~9~0', 'mote:1', 'mote', $1, 'temperature', 41.5, 18, 28, 5, 3, 'zscore', 'high', 'far from usual', 9)`,
      [iso(START)],
    );
    const { items } = await get(
      `/api/v1/analytics/anomalies?mote_id=1&severity=high&field=temperature&end=${START + 1}`,
    );
    expect(items).toEqual([
      {
        mote_id: 1,
        twinId: 'mote:1',
        timestamp: iso(START),
        field: 'temperature',
        value: 41.5,
        expected_range: '18-28',
        severity: 'high',
        reason: 'far from usual',
      },
    ]);
  });

  it('export CSV as a stream', async () => {
    const { status, headers, text } = await call('GET', '/api/v1/export/csv');
    expect([status, headers['content-type']]).toEqual([200, 'text/csv; charset=utf-8']);
    expect(headers['content-disposition']).toContain('mote_readings.csv');
    const lines = text.trimEnd().split('\n');
    expect(lines[0]).toBe('mote_id,timestamp,temperature,humidity,light,voltage');
    expect(lines.length).toBe(1 + 61 + 31);
    expect(lines[1]).toBe(`1,${iso(START)},20,40,100,2.7`);
    const one = await call('GET', `/api/v1/export/csv?twinId=device:dev-7&metric=co2`);
    expect(one.text.split('\n')[1]).toBe(`dev-7,${iso(START + 2 * HOUR)},co2,700,`);
    expect((await call('GET', '/api/v1/export/csv?mote_id=99')).status).toBe(404);
    expect((await call('GET', '/api/v1/export/csv?metric=x')).status).toBe(400);
    expect((await call('GET', '/api/v1/export/csv?kind=nope')).status).toBe(422);
  });
});

describe('generic IoT clients', () => {
  it('read data, newest first', async () => {
    const { items, nextCursor } = await get('/api/data?device_id=dev-7&limit=5');
    expect(items[0]).toEqual({
      device_id: 'dev-7',
      sensor_type: 'temperature',
      value: 57,
      unit: null,
      timestamp: iso(START + 57 * 30 * MINUTE),
    });
    expect(nextCursor).toEqual(expect.any(String));
    expect((await get('/api/data?sensor_type=co2')).items).toMatchObject([{ value: 700 }]);
    expect((await get('/api/data?device_id=nobody')).items).toEqual([]);
  });
});

describe('rules', () => {
  const machine = async () => (await get('/api/v1/rules?kind=machine')).items as Any[];

  it('are listed and changed, and the change is in force', async () => {
    const rule = (await machine()).find((item) => item.above !== undefined && item.metric === 'temperature');
    const options = {
      key: node.keys.operator,
      body: { kind: 'machine', rule: rule.name, above: 50, holdMs: 0, severity: 'critical' },
    };
    const changed = await call('PATCH', '/api/v1/rules', options);
    expect([changed.status, changed.json?.detail]).toEqual([200, undefined]);
    expect(changed.data).toMatchObject({
      name: rule.name,
      above: 50,
      severity: 'critical',
      override: { above: 50, holdMs: 0 },
      updatedBy: 'a operator',
    });
    expect(node.parts.host.tuning('machine')).toMatchObject({ version: 1, rules: { [rule.name]: { above: 50 } } });
    await node.tell('machine', 'M1', { temperature: 70 });
    await expect
      .poll(async () => (await get('/api/v1/alerts?twinId=machine:M1&state=standing')).items)
      .toMatchObject([
        {
          alert_id: expect.stringContaining('machine:M1~'),
          twin: 'machine:M1',
          alert_type: rule.name,
          severity: 'critical',
          state: 'raised',
          acknowledged: false,
        },
      ]);
    await call('PATCH', '/api/v1/rules', {
      key: node.keys.operator,
      body: { kind: 'machine', rule: rule.name, above: null, holdMs: null, severity: null },
    });
    expect((await machine()).find((item) => item.name === rule.name)).toMatchObject({
      above: rule.above,
      override: {},
    });
    expect(node.parts.host.tuning('machine')).toMatchObject({ version: 2, rules: {} });
  });

  it('are changed by operators only, and to what makes sense', async () => {
    const body = { kind: 'machine', rule: (await machine())[0].name, enabled: false };
    expect((await call('PATCH', '/api/v1/rules', { key: node.keys.technician, body })).status).toBe(403);
    const nonsense = await call('PATCH', '/api/v1/rules', {
      key: node.keys.operator,
      body: { ...body, colour: 'red' },
    });
    expect([nonsense.status, nonsense.json.detail]).toEqual([
      400,
      expect.stringContaining('colour is nothing a rule has'),
    ]);
    expect(
      (await call('PATCH', '/api/v1/rules', { key: node.keys.operator, body: { ...body, rule: 'nope' } })).status,
    ).toBe(404);
  });
});

describe('anomalies', () => {
  it('are confirmed and rejected by technicians', async () => {
    const id = encodeURIComponent('mote:1~9~0');
    expect((await call('POST', `/api/v1/anomalies/${id}/confirm`)).status).toBe(403);
    const body = { root_cause: 'heater', resolution: 'moved' };
    const confirmed = await call('POST', `/api/v1/anomalies/${id}/confirm`, { key: node.keys.technician, body });
    expect(confirmed.data).toMatchObject({
      anomaly_id: 'mote:1~9~0',
      is_confirmed: true,
      root_cause: 'heater',
      resolution: 'moved',
      resolved_by: 'a technician',
    });
    const rejected = await call('POST', `/api/v1/anomalies/${id}/reject`, { key: node.keys.technician, body: {} });
    expect(rejected.data).toMatchObject({ is_confirmed: false, root_cause: 'heater' });
    expect((await get('/api/v1/anomalies?review=rejected&twinId=mote:1')).items).toMatchObject([
      { anomaly_id: 'mote:1~9~0', expected_range: '18-28' },
    ]);
    expect((await call('POST', '/api/v1/anomalies/nope/reject', { key: node.keys.technician, body: {} })).status).toBe(
      404,
    );
  });
});
