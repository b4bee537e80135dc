import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import type { Kind } from '../../../actors/protocol/kind.ts';
import { downsample, MAX_BUCKETS, summarise } from '../../../actors/store/queries/downsample.ts';
import { rawHistory } from '../../../actors/store/queries/history.ts';
import type { HistoryItem } from '../../../actors/store/queries/history-table.ts';
import { newestReadings } from '../../../actors/store/queries/newest.ts';
import { DAY_MS, HOUR_MS, iso, MINUTE_MS } from '../../../actors/store/queries/span.ts';
import { rollUp } from '../../../actors/store/queries/upkeep.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import {
  boiler,
  clockAt,
  gadget,
  keyOf,
  openDatabase,
  putReadings,
  putTwins,
  type ReadingSeed,
  T0,
} from './database.ts';
import { bucketsOf, naive, near } from './naive.ts';

let sql: Sql;
const clock = clockAt(T0 + 10 * DAY_MS);
const boilers: ReadingSeed[] = [];
const gadgets: ReadingSeed[] = [];
const SPAN_MS = 4 * DAY_MS;

beforeAll(async () => {
  sql = await openDatabase();
  const random = seededRandom(3);
  for (const twin of [1, 2, 3]) {
    let at = T0 + twin * 1_000;
    for (let revision = 1; at < T0 + SPAN_MS; revision++) {
      at += Math.floor(random() ** 4 * 6 * HOUR_MS);
      const values: Record<string, number> = { heat: 20 + random() * 5 };
      if (random() < 0.6) values.flow = random() * 10;
      boilers.push({ twin, at, revision, values, ...(random() < 0.2 ? { sensor: 's1' } : {}) });
    }
    // Several readings of one instant, told apart by every part of an identity.
    const same = T0 + 40 * HOUR_MS;
    boilers.push(
      { twin, at: same, revision: null, values: { heat: 1 } },
      { twin, at: same, revision: null, values: { flow: 2 } },
      { twin, at: same, revision: null, values: { heat: 3, flow: 3 } },
      { twin, at: same, revision: null, values: { heat: 4 }, key: 'k1' },
      { twin, at: same, revision: null, values: { heat: 5 }, key: 'k2' },
      { twin, at: same, revision: null, values: { heat: 6 }, seq: 4 },
      { twin, at: same, revision: null, values: { heat: 7 }, seq: 5 },
      { twin, at: same, revision: null, values: { heat: 8 }, sensor: 's2' },
    );
  }
  for (const twin of [11, 12]) {
    for (let i = 0; i < 300; i++) {
      const at = T0 + Math.floor(random() * SPAN_MS);
      gadgets.push({ twin, at, revision: i + 1, values: { [`m${i % 3}`]: random() * 100 }, unit: 'C' });
    }
    gadgets.push({ twin, at: T0 + HOUR_MS, revision: null, values: { m0: 1, m1: 2 } });
    gadgets.push({ twin, at: T0 + HOUR_MS, revision: null, values: { m0: 3 } });
  }
  const newest = (seeds: ReadingSeed[], twin: number) =>
    Math.max(...seeds.filter((s) => s.twin === twin).map((s) => s.at));
  await putTwins(sql, [
    ...[1, 2, 3].map((twin) => ({ twin, id: `b${twin}`, at: newest(boilers, twin), revision: 5_000 })),
    ...[11, 12].map((twin) => ({ twin, id: `g${twin}`, kind: 'gadget', at: newest(gadgets, twin), revision: 5_000 })),
    { twin: 4, id: 'empty', at: null },
  ]);
  await putReadings(sql, boiler, boilers);
  await putReadings(sql, gadget, gadgets);
});
afterAll(() => sql.close());

const expectedRaw = (seeds: ReadingSeed[], twin: number, metrics?: string[]) =>
  seeds
    .filter((seed) => seed.twin === twin)
    .flatMap((seed) =>
      seed.revision === null && twin > 10
        ? Object.entries(seed.values).map(([m, v]) => ({ ...seed, values: { [m]: v } }))
        : [seed],
    )
    .map((seed) => ({
      ...seed,
      values: Object.fromEntries(Object.entries(seed.values).filter(([m]) => !metrics || metrics.includes(m))),
    }))
    .filter((seed) => Object.keys(seed.values).length > 0)
    .map((seed) =>
      JSON.stringify([
        iso(seed.at),
        seed.revision,
        Object.entries(seed.values).sort(),
        seed.key,
        seed.seq,
        seed.sensor,
      ]),
    )
    .sort();
const shape = (item: HistoryItem) =>
  JSON.stringify([item.at, item.revision, Object.entries(item.values).sort(), item.key, item.seq, item.sensor]);

async function whole(
  kind: Kind,
  twin: number,
  query: Parameters<typeof rawHistory>[3],
  onPage?: () => Promise<void>,
): Promise<HistoryItem[]> {
  const out: HistoryItem[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await rawHistory(sql, kind, keyOf(twin, 'x'), { ...query, cursor });
    out.push(...page.items);
    if (page.nextCursor === null) return out;
    await onPage?.();
    cursor = page.nextCursor;
  }
}

describe('raw history', () => {
  it.each(['asc', 'desc'] as const)('in pages, %s, is every reading once in order of event time', async (order) => {
    for (const limit of [1, 3, 50]) {
      const items = await whole(boiler, 1, { span: {}, order, limit });
      expect(items.map(shape).sort()).toEqual(expectedRaw(boilers, 1));
      const times = items.map((item) => item.at);
      expect(times).toEqual(order === 'asc' ? [...times].sort() : [...times].sort().reverse());
    }
  });

  it('of open metrics is one item a metric, also where two readings share one', async () => {
    const items = await whole(gadget, 11, { span: {}, limit: 2 });
    expect(items.map(shape).sort()).toEqual(expectedRaw(gadgets, 11));
    expect(items.find((item) => item.revision !== null)?.unit).toBe('C');
  });

  it('keeps to the metrics and the span asked for', async () => {
    const flows = await whole(boiler, 2, { span: {}, metric: 'flow', limit: 20 });
    expect(flows.map(shape).sort()).toEqual(expectedRaw(boilers, 2, ['flow']));
    const span = { from: T0 + DAY_MS, to: T0 + 2 * DAY_MS };
    const items = await whole(boiler, 2, { span });
    const inside = boilers.filter((s) => s.twin === 2 && s.at >= span.from && s.at < span.to);
    expect(items.length).toBe(inside.length);
    const m1 = await whole(gadget, 12, { span: {}, metric: 'm1,m2' });
    expect(m1.map(shape).sort()).toEqual(expectedRaw(gadgets, 12, ['m1', 'm2']));
  });

  it('is whole although readings come in between pages', async () => {
    let extra = 0;
    const items = await whole(boiler, 3, { span: {}, limit: 17 }, async () => {
      extra++;
      await putReadings(sql, boiler, [
        { twin: 3, at: T0 + SPAN_MS * 2 + extra, revision: 9_000 + extra, values: { heat: 1 } },
        { twin: 3, at: T0 - extra, revision: null, values: { heat: 1 } },
      ]);
    });
    const old = items.filter((item) => Date.parse(item.at) >= T0 && Date.parse(item.at) < T0 + SPAN_MS * 2);
    expect(old.map(shape).sort()).toEqual(expectedRaw(boilers, 3));
    expect(new Set(items.map(shape)).size).toBe(items.length);
    await sql.query(`delete from boiler_readings where twin = 3 and (at < $1 or at >= $2)`, [
      iso(T0),
      iso(T0 + SPAN_MS * 2),
    ]);
    await sql.query(`delete from rollup_dirty where at < $1`, [iso(T0)]);
  });

  it('refuses metrics, limits and cursors that are none', async () => {
    const refused = (query: Parameters<typeof rawHistory>[3], kind: Kind = boiler) =>
      expect(rawHistory(sql, kind, keyOf(1, 'b1'), query)).rejects.toMatchObject({ code: 'bad_request' });
    await refused({ span: {}, metric: 'nope' });
    await refused({ span: {}, metric: 'heat"; drop table twins; --' });
    await refused({ span: {}, metric: "m'x" }, gadget);
    await refused({ span: {}, limit: 5_001 });
    const { nextCursor } = await rawHistory(sql, boiler, keyOf(1, 'b1'), { span: {}, limit: 2 });
    await refused({ span: {}, cursor: nextCursor!, order: 'desc' });
    await refused({ span: {}, cursor: nextCursor!, metric: 'heat' });
  });
});

function checkBuckets(
  items: { at: string; metrics: Record<string, { count: number }> }[],
  expected: Map<string, number[]>,
): void {
  const found = new Map<string, object>(
    items.flatMap((item) =>
      Object.entries(item.metrics).map(([m, s]): [string, object] => [`${Date.parse(item.at)}|${m}`, s]),
    ),
  );
  expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [key, values] of expected) {
    const want = naive(values);
    const got = found.get(key) as Record<string, number | null>;
    expect(got.count).toBe(want.count);
    for (const name of ['avg', 'min', 'max', 'std'] as const) {
      if (!near(got[name], want[name]))
        expect({ key, name, value: got[name] }).toEqual({ key, name, value: want[name] });
    }
  }
}

const steps = fc.constantFrom(MINUTE_MS * 7, 30 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS, DAY_MS, 2 * DAY_MS, 100 * DAY_MS);
const instants = fc.oneof(
  fc.integer({ min: 0, max: SPAN_MS }),
  fc.integer({ min: -2, max: 100 }).map((h) => h * HOUR_MS),
);

describe.each(['raw', 'rolled up', 'with backfill outstanding', 'mended'])('downsampled history, %s', (state) => {
  beforeAll(async () => {
    if (state === 'rolled up' || state === 'mended') {
      for (const kind of [boiler, gadget])
        expect(await rollUp(sql, clock, kind, { latenessMs: 600_000 })).toMatchObject({ complete: true });
    }
    if (state === 'with backfill outstanding') {
      const late: ReadingSeed[] = [
        { twin: 1, at: T0 + 30 * HOUR_MS + 5, revision: null, values: { heat: -50 } },
        { twin: 2, at: T0 + 50 * HOUR_MS + 5, revision: null, values: { flow: 99 } },
      ];
      await putReadings(sql, boiler, late);
      boilers.push(...late);
    }
  });

  it('equals what one computes by hand', async () => {
    let used = 0;
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(1, 2, 3, 11, 12), steps, instants, instants, async (twin, stepMs, a, b) => {
        const [kind, seeds] = twin > 10 ? [gadget, gadgets] : [boiler, boilers];
        const span = { from: T0 + Math.min(a, b), to: T0 + Math.max(a, b) + 1 };
        const result = await downsample(sql, clock, kind, keyOf(twin, 'x'), { span, stepMs });
        checkBuckets(result.items, bucketsOf(seeds, twin, stepMs, span.from, span.to));
        if (result.rollup !== null) used++;
      }),
      { numRuns: 60 },
    );
    expect(used).toBeGreaterThan(0);
  });

  it('of a whole span is one summary', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(1, 2, 3), instants, instants, async (twin, a, b) => {
        const span = { from: T0 + Math.min(a, b), to: T0 + Math.max(a, b) + 1 };
        const summary = await summarise(sql, clock, boiler, keyOf(twin, 'x'), span);
        const all = bucketsOf(boilers, twin, 1e15, span.from, span.to);
        checkBuckets(Object.keys(summary).length > 0 ? [{ at: iso(0), metrics: summary }] : [], all);
      }),
      { numRuns: 30 },
    );
  });
});

describe('downsampled history', () => {
  it('reads rollups where they cover, and raw readings elsewhere', async () => {
    await sql.query(`update boiler_readings_daily set max = 12345 where twin = 1 and metric = 'heat'`);
    const { items } = await downsample(sql, clock, boiler, keyOf(1, 'b1'), {
      span: {},
      stepMs: DAY_MS,
      metric: 'heat',
    });
    const open = await downsample(sql, clock, boiler, keyOf(1, 'b1'), {
      span: {},
      stepMs: HOUR_MS / 2,
      metric: 'heat',
    });
    await sql.query(
      `update boiler_readings_daily d set max = (select max(h.max) from boiler_readings_hourly h where h.twin = d.twin and h.metric = d.metric and h.bucket >= d.bucket and h.bucket < d.bucket + interval '1 day') where twin = 1 and metric = 'heat'`,
    );
    expect(items.filter((item) => item.metrics.heat.max === 12345).length).toBeGreaterThanOrEqual(3);
    expect(items[items.length - 1].metrics.heat.max).toBeLessThan(100);
    expect(open.items.every((item) => item.metrics.heat.max < 100)).toBe(true);
  });

  it('closes open ends of the span by what there is', async () => {
    const times = boilers.filter((s) => s.twin === 2).map((s) => s.at);
    const all = await downsample(sql, clock, boiler, keyOf(2, 'b2'), { span: {}, stepMs: 2 * HOUR_MS });
    expect(all).toMatchObject({ to: iso(Math.max(...times) + 1), rollup: 'hourly', stepMs: 2 * HOUR_MS });
    expect(Date.parse(all.from)).toBeLessThanOrEqual(Math.min(...times));
    expect(await downsample(sql, clock, boiler, keyOf(4, 'empty'), { span: {}, stepMs: HOUR_MS })).toMatchObject({
      items: [],
    });
  });

  it('has a bounded number of buckets', async () => {
    const result = downsample(sql, clock, boiler, keyOf(1, 'b1'), { span: {}, stepMs: 60_000 });
    await expect(result).rejects.toMatchObject({
      code: 'bad_request',
      message: expect.stringContaining(String(MAX_BUCKETS)),
    });
  });
});

describe('the newest readings of a kind', () => {
  it('come in order of time over all twins, each once', async () => {
    for (const limit of [1, 7, 100]) {
      const out: string[] = [];
      for (let cursor: string | undefined; ; ) {
        const page = await newestReadings(
          sql,
          boiler,
          { span: {}, limit, cursor },
          (row) =>
            `${iso(row.at.getTime())} ${row.id} ${row.revision} ${row.key} ${row.seq} ${row.sensor} ${row.o_set}`,
        );
        out.push(...page.items);
        if (page.nextCursor === null || out.length > boilers.length + 10) break;
        cursor = page.nextCursor;
      }
      expect(out.length).toBe(boilers.length);
      expect(new Set(out).size).toBe(out.length);
      const times = out.map((text) => text.slice(0, 24));
      expect(times).toEqual([...times].sort().reverse());
    }
  });

  it('keep to one twin, some metrics and a span', async () => {
    const span = { from: T0 + DAY_MS, to: T0 + 3 * DAY_MS };
    const { items } = await newestReadings(
      sql,
      gadget,
      { span, limit: 1_000, id: 'g11', metric: 'm1' },
      (row) => row.value,
    );
    const expected = gadgets
      .filter((s) => s.twin === 11 && 'm1' in s.values && s.at >= span.from && s.at < span.to)
      .sort((a, b) => b.at - a.at)
      .map((s) => s.values.m1);
    expect(items).toEqual(expected);
  });
});
