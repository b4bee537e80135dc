import { request } from 'node:http';
import { parquetMetadata, parquetReadObjects } from 'hyparquet';
import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { DAY_MS, HOUR_MS, iso, MINUTE_MS } from '../../actors/store/queries/span.ts';
import analytics from '../../services/analytics.service.ts';
import archive from '../../services/archive.service.ts';
import exporting from '../../services/export.service.ts';
import history from '../../services/history.service.ts';
import rollups from '../../services/rollups.service.ts';
import statistics from '../../services/statistics.service.ts';
import { putReadings, putTwins, type ReadingSeed } from '../unit/queries/database.ts';
import { naive, near } from '../unit/queries/naive.ts';
import { type GatewayNode, startGateway } from './gateway/node.ts';

/** Analytics of any kind and exports through the gateway, against what one computes by hand from the readings. */
const services = [analytics, archive, exporting, history, rollups, statistics] as unknown as ServiceSchema[];
// Over the end of summer time in Europe: 2025-10-26 has the hour from 2 to 3 twice in Berlin.
const START = Date.UTC(2025, 9, 22);
const DAYS = 8;
const END = START + DAYS * DAY_MS;
const METRICS = ['temperature', 'humidity', 'light', 'voltage'];

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
type Any = any;
let node: GatewayNode;
const samples = new Map<string, ReadingSeed[]>();

beforeAll(async () => {
  node = await startGateway({ services });
  const random = seededRandom(3);
  for (const [i, id] of ['1', '2', '3'].entries()) {
    const rows: ReadingSeed[] = [];
    for (let at = START + i * 7_000; at < END; at += 13 * MINUTE_MS) {
      const wave = Math.sin((at / DAY_MS) * 2 * Math.PI);
      const values: Record<string, number> = {
        temperature: 20 + 5 * wave + random(),
        humidity: 50 - 8 * wave + 2 * random(),
        voltage: 2.5,
      };
      if (random() < 0.5) values.light = 100 * random();
      if (id === '3' && at > START + 2 * DAY_MS) delete values.humidity;
      rows.push({ twin: 900 + i, at, revision: rows.length + 1, values });
    }
    samples.set(id, rows);
  }
  const rows = (id: string) => samples.get(id)!;
  await putTwins(
    node.parts.sql,
    [...samples.keys()].map((id, i) => ({
      twin: 900 + i,
      kind: 'mote',
      id,
      revision: rows(id).length,
      at: rows(id).at(-1)!.at,
    })),
  );
  for (const id of samples.keys()) await putReadings(node.parts.sql, node.parts.kinds.get('mote'), rows(id));
}, 60_000);
afterAll(() => node?.stop());

async function get(path: string): Promise<Any> {
  const answer = await node.http('GET', path, { key: node.keys.viewer });
  expect([path, answer.status, answer.json?.detail]).toEqual([path, 200, undefined]);
  return answer.json.data;
}

async function refused(path: string): Promise<string> {
  const answer = await node.http('GET', path, { key: node.keys.viewer });
  expect([path, answer.status]).toEqual([path, 400]);
  return answer.json.detail;
}

const valuesOf = (id: string, metric: string, from: number, to: number, at: (ms: number) => boolean = () => true) =>
  samples
    .get(id)!
    .filter((s) => s.at >= from && s.at < to && at(s.at) && metric in s.values)
    .map((s) => s.values[metric]);

function same(found: Any, values: number[]): void {
  const { count, avg, min, max, std } = naive(values);
  // An hour without a value of the metric has readings all the same.
  expect([found.count, found.min ?? undefined, found.max ?? undefined]).toEqual([count, min, max]);
  if (count === 0) return;
  expect([near(found.avg, avg), near(found.std, std)]).toEqual([true, true]);
}

/** First from readings alone, then with rollups standing in. The spans differ by a moment, so that no answer is a kept one. */
describe.each([
  ['readings', 0],
  ['rollups', 1],
])('from %s', (_, shift) => {
  beforeAll(async () => {
    if (shift === 1) await node.broker.call('rollups.run');
    const [{ count }] = await node.parts.sql.query<{ count: number }>('select count(*) from mote_readings_hourly');
    expect(count > 0).toBe(shift === 1);
  }, 60_000);

  it('aggregates by hour and day are those of the readings', async () => {
    for (const [step, stepMs] of [
      ['hour', HOUR_MS],
      ['day', DAY_MS],
    ] as const) {
      const from = START + DAY_MS;
      const to = START + 3 * DAY_MS - (1 - shift) * stepMs;
      const { items } = await get(
        `/api/v1/analytics/aggregates?twin=mote:1&step=${step}&metric=temperature,light&from=${iso(from)}&to=${iso(to)}`,
      );
      const seen = new Set<string>();
      for (const item of items) {
        const at = Date.parse(item.bucket);
        const values = valuesOf('1', item.metric, at, at + stepMs);
        seen.add(`${at} ${item.metric}`);
        same({ ...item, count: item.record_count - item.null_count }, values);
        expect([item.twinId, item.record_count]).toEqual(['mote:1', valuesOf('1', 'voltage', at, at + stepMs).length]);
      }
      expect(seen.size).toBe(items.length);
      const wanted = (to - from) / stepMs;
      expect(items.filter((item: Any) => item.metric === 'temperature').length).toBe(wanted);
    }
  });

  it('stats of a span that begins and ends anywhere', async () => {
    const [from, to] = [START + 17 * MINUTE_MS + shift, END - DAY_MS - 11 * MINUTE_MS];
    const found = await get(`/api/v1/analytics/stats?twin=mote:1&from=${from}&to=${to}`);
    expect(found).toMatchObject({ twinId: 'mote:1', from: iso(from), to: iso(to) });
    expect(Object.keys(found.metrics)).toEqual([...METRICS].sort());
    for (const metric of METRICS) same(found.metrics[metric], valuesOf('1', metric, from, to));
    const one = await get(`/api/v1/analytics/stats?twin=mote:1&metric=light&from=${from}&to=${to}`);
    expect(Object.keys(one.metrics)).toEqual(['light']);
    same(one.metrics.light, valuesOf('1', 'light', from, to));
  });

  const averages = (id: string, metric: string, from: number, to: number, stepMs: number) => {
    const out = new Map<number, number>();
    for (let at = Math.floor(from / stepMs) * stepMs; at < to; at += stepMs) {
      const values = valuesOf(id, metric, Math.max(from, at), Math.min(to, at + stepMs));
      if (values.length > 0) out.set(at, naive(values).avg);
    }
    return out;
  };
  const pearson = (a: Map<number, number>, b: Map<number, number>) => {
    const both = [...a.keys()].filter((at) => b.has(at));
    const [x, y] = [both.map((at) => a.get(at)!), both.map((at) => b.get(at)!)];
    const [mx, my] = [naive(x), naive(y)];
    const products = x.reduce((sum, v, i) => sum + (v - mx.avg) * (y[i] - my.avg), 0);
    return { n: both.length, r: products / (both.length - 1) / (mx.std! * my.std!) };
  };

  it('correlation of the metrics of a twin, pairwise complete', async () => {
    const [from, to] = [START + shift, END - HOUR_MS];
    const found = await get(`/api/v1/analytics/correlation?twin=mote:3&from=${from}&to=${to}`);
    expect(found.labels).toEqual(METRICS);
    for (const [i, a] of METRICS.entries()) {
      for (const [j, b] of METRICS.entries()) {
        const wanted = pearson(averages('3', a, from, to, HOUR_MS), averages('3', b, from, to, HOUR_MS));
        expect([a, b, found.n[i][j]]).toEqual([a, b, wanted.n]);
        // The voltage never varies.
        if (a === 'voltage' || b === 'voltage') expect(found.matrix[i][j]).toBeNull();
        else expect(found.matrix[i][j]).toBeCloseTo(wanted.r, 8);
      }
    }
    expect(found.n[0][1]).toBeLessThan(found.n[0][0]);
    expect(found.matrix[0][1]).toBeLessThan(-0.8);
  });

  it('correlation of a metric over twins', async () => {
    const [from, to] = [START + shift, START + 2 * DAY_MS];
    const path = `/api/v1/analytics/correlation?twins=mote:2,mote:1&metric=temperature&step=30m&from=${from}&to=${to}`;
    const found = await get(path);
    const half = 30 * MINUTE_MS;
    const wanted = pearson(averages('2', 'temperature', from, to, half), averages('1', 'temperature', from, to, half));
    expect(found).toMatchObject({
      labels: ['mote:2', 'mote:1'],
      stepMs: half,
      n: [
        [96, 96],
        [96, 96],
      ],
    });
    expect(found.matrix[0][1]).toBeCloseTo(wanted.r, 8);
    expect(found.matrix[0][0]).toBeCloseTo(1, 9);
  });

  it.each([
    ['UTC', 60, (ms: number) => new Date(ms).getUTCHours()],
    ['Asia/Kolkata', 30, (ms: number) => new Date(ms + 330 * MINUTE_MS).getUTCHours()],
    ['Asia/Kathmandu', 15, (ms: number) => new Date(ms + 345 * MINUTE_MS).getUTCHours()],
    [
      'Europe/Berlin',
      60,
      (ms: number) => new Date(ms + (ms < Date.UTC(2025, 9, 26, 1) ? 2 : 1) * HOUR_MS).getUTCHours(),
    ],
  ])('the profile of a day in %s', async (tz, minutes, hourOf) => {
    const [from, to] = [START + shift, END - HOUR_MS];
    const found = await get(`/api/v1/analytics/profile?twin=mote:2&metric=temperature&tz=${tz}&from=${from}&to=${to}`);
    const stepMs = minutes * MINUTE_MS;
    expect([found.tz, found.stepMs]).toEqual([tz, stepMs]);
    const hours = found.metrics.temperature;
    expect(hours.map(({ hour }: Any) => hour)).toEqual(Array.from({ length: 24 }, (_, i) => i));
    const buckets = [...averages('2', 'temperature', from, to, stepMs)];
    for (const hour of hours) {
      same(
        hour,
        valuesOf('2', 'temperature', from, to, (at) => hourOf(at) === hour.hour),
      );
      const means = buckets.filter(([at]) => hourOf(at) === hour.hour).map(([, avg]) => avg);
      expect(hour.buckets).toBe(means.length);
      expect(hour.p50).toBeCloseTo(naive(means).median, 9);
      expect(hour.p05).toBeGreaterThanOrEqual(Math.min(...means));
      expect(hour.p95).toBeLessThanOrEqual(Math.max(...means));
    }
  });
});

describe('questions that cannot be answered', () => {
  it.each([
    ['stats?twin=mote:1&metric=x', 'is none of mote'],
    ['stats?twin=mote:1&from=2025-11-02&to=2025-11-01', 'must lie before'],
    ['correlation?metric=temperature', 'either twin'],
    ['correlation?twin=mote:1&twins=mote:1,mote:2&metric=light', 'either twin'],
    ['correlation?twins=mote:1,mote:2', 'in one metric'],
    ['correlation?twins=mote:1&metric=light', '2 to 20'],
    ['correlation?twin=mote:1&step=1s', 'more than 1000'],
    ['profile?twin=mote:1&tz=Mars/Base', 'no time zone'],
    [`profile?twin=mote:1&from=${START - 300 * DAY_MS}&to=${END}`, '200 days'],
    ['anomalies?mote_id=1&twin=mote:1', 'either this'],
  ])('%s', async (path, sentence) => {
    expect(await refused(`/api/v1/analytics/${path}`)).toContain(sentence);
  });

  it('are 404 of a twin that there is not', async () => {
    for (const path of [
      'stats?twin=mote:99',
      'correlation?twins=mote:1,mote:99&metric=light',
      'profile?twin=mote:99',
    ]) {
      const { status } = await node.http('GET', `/api/v1/analytics/${path}`, { key: node.keys.viewer });
      expect([path, status]).toEqual([path, 404]);
    }
  });
});

describe('anomalies', () => {
  it('of any kind say what was expected and why', async () => {
    await node.parts.sql.query(
      `insert into anomaly_events (anomaly_id, twin_id, kind, at, field, value, expected_lo, expected_hi, score, threshold, detector, severity, reason, revision)
       values ('a1', 'machine:M1', 'machine', $1, 'temperature', 99, 40, 70, 5, 3, 'zscore', 'high', 'far above', 1)`,
      [iso(START)],
    );
    const { items } = await get('/api/v1/analytics/anomalies?twin=machine:M1');
    expect(items).toEqual([
      {
        twinId: 'machine:M1',
        timestamp: iso(START),
        field: 'temperature',
        value: 99,
        expected_range: '40-70',
        severity: 'high',
        reason: 'far above',
      },
    ]);
    expect((await get('/api/v1/analytics/anomalies?kind=machine')).items).toEqual(items);
    expect((await get('/api/v1/analytics/anomalies')).items).toEqual([]);
  });
});

describe('exports', () => {
  const bytesOf = (path: string): Promise<{ status: number; type: string | undefined; body: Buffer }> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${node.keys.viewer}` };
      request({ host: '127.0.0.1', port: node.port, path, headers }, (res) => {
        const pieces: Buffer[] = [];
        res.on('data', (piece: Buffer) => pieces.push(piece));
        res.on('error', reject);
        res.on('end', () =>
          resolve({ status: res.statusCode ?? 0, type: res.headers['content-type'], body: Buffer.concat(pieces) }),
        );
      })
        .on('error', reject)
        .end();
    });

  it('as Parquet hold what CSV holds, with types', async () => {
    const query = `twins=2,1&metrics=temperature,light&from=${iso(START + DAY_MS)}&to=${iso(START + 2 * DAY_MS)}`;
    const { status, type, body } = await bytesOf(`/api/v1/export/parquet?${query}`);
    expect([status, type]).toEqual([200, 'application/vnd.apache.parquet']);
    const file = body.buffer.slice(body.byteOffset, body.byteOffset + body.length) as ArrayBuffer;
    const { schema, row_groups: groups } = parquetMetadata(file);
    expect(schema.slice(1).map(({ name, type: of, converted_type: as }) => [name, of, as])).toEqual([
      ['mote_id', 'BYTE_ARRAY', 'UTF8'],
      ['timestamp', 'INT64', 'TIMESTAMP_MILLIS'],
      ['temperature', 'DOUBLE', undefined],
      ['light', 'DOUBLE', undefined],
    ]);
    expect(groups[0].columns[0].meta_data?.codec).toBe('SNAPPY');
    const rows = await parquetReadObjects({ file });
    const wanted = ['1', '2'].flatMap((id) =>
      samples
        .get(id)!
        .filter(({ at }) => at >= START + DAY_MS && at < START + 2 * DAY_MS)
        .map(({ at, values }) => ({
          mote_id: id,
          timestamp: new Date(at),
          temperature: values.temperature,
          light: values.light ?? null,
        })),
    );
    expect(rows).toEqual(wanted);
    const csv = (await bytesOf(`/api/v1/export/csv?${query}`)).body.toString('utf8').trimEnd().split('\n').slice(1);
    expect(csv).toEqual(
      wanted.map((row) => [row.mote_id, row.timestamp.toISOString(), row.temperature, row.light ?? ''].join(',')),
    );
  });

  it('of nothing are a file without rows', async () => {
    const { body } = await bytesOf('/api/v1/export/parquet?kind=machine');
    const file = body.buffer.slice(body.byteOffset, body.byteOffset + body.length) as ArrayBuffer;
    expect(await parquetReadObjects({ file })).toEqual([]);
  });

  it('are refused before the first byte', async () => {
    expect(await refused('/api/v1/export/parquet?twins=machine:1')).toContain('one kind');
    expect(await refused('/api/v1/export/parquet?twins=1&mote_id=1')).toContain('one of twins');
    expect(await refused('/api/v1/export/parquet?metrics=x')).toContain('is none of');
    expect(await refused('/api/v1/export/csv?from=1&end=2')).toContain('from and to');
    const { status } = await node.http('GET', '/api/v1/export/parquet?twins=99', { key: node.keys.viewer });
    expect(status).toBe(404);
  });

  it('end when the reader goes away', async () => {
    const { streams } = node.broker.getLocalService('gateway') as unknown as { streams: { size: number } };
    await node.http('GET', '/api/v1/export/parquet', { key: node.keys.viewer, headersOnly: true });
    await vi.waitFor(() => expect(streams.size).toBe(0), 5_000);
  });
});

describe('the archive over HTTP', () => {
  it('is listed for viewers, and run by admins, where it is on', async () => {
    expect(await get('/api/v1/archive')).toEqual({ items: [], nextCursor: null });
    const run = async (key: string) => await node.http('POST', '/api/v1/archive/run', { key, body: {} });
    expect((await run(node.keys.viewer)).status).toBe(403);
    expect((await run(node.keys.admin)).json).toMatchObject({
      code: 'bad_request',
      detail: expect.stringContaining('ARCHIVE_AFTER_DAYS'),
    });
    const verify = async () =>
      (await node.http('POST', '/api/v1/archive/verify', { key: node.keys.admin, body: {} })).json.data;
    expect(await verify()).toEqual({ checked: 0, faults: [], nextCursor: null });
  });

  it('says in the answer what it could not give', async () => {
    const day = iso(START);
    const key = 'archive/kind=mote/year=2025/month=10/day=22/mote_id=1/readings-1-00000000-0000.parquet';
    await node.parts.sql.query(
      `insert into archives (key, kind, day, first_id, last_id, rows, bytes, sha256, late, written_at)
       values ($1, 'mote', $2, '1', '1', 5, 500, 'x', false, $2)`,
      [key, day],
    );
    await node.parts.sql.query(`update rollup_marks set trimmed_to = $1 where twin = 900 and rollup = 'daily'`, [
      iso(START + DAY_MS),
    ]);
    const note = `${key} is missing: what it has of 2025-10-22 is left out.`;
    const history = await get(`/api/v1/twins/mote:1/history?limit=10&from=${START}`);
    expect([history.items.length, history.notes]).toEqual([10, [note]]);
    const steps = await get(`/api/v1/twins/mote:1/history?step=30m&from=${START}&to=${START + 2 * DAY_MS}`);
    expect([steps.items.length, steps.notes]).toEqual([96, [note]]);
    expect((await get(`/api/v1/analytics/stats?twin=mote:1&from=${START + 5}&to=${START + DAY_MS}`)).notes).toEqual([
      note,
    ]);
    const other = await get(`/api/v1/twins/mote:2/history?limit=10&from=${START}`);
    expect(other.notes).toBeUndefined();
    const verified = await node.http('POST', '/api/v1/archive/verify', { key: node.keys.admin, body: {} });
    expect(verified.json.data).toEqual({ checked: 1, faults: [`${key} is missing.`], nextCursor: null });
    expect((await get('/api/v1/archive')).items).toMatchObject([{ key, day: '2025-10-22', late: false }]);
  });
});
