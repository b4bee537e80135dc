import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import type { Kind } from '../../../actors/protocol/kind.ts';
import { aggregates } from '../../../actors/store/queries/aggregates.ts';
import type { Rollup } from '../../../actors/store/queries/rolled.ts';
import { closeBuckets, mend, openRollups, settle, stepNoOf } from '../../../actors/store/queries/rollup.ts';
import { DAY_MS, HOUR_MS, iso, MINUTE_MS } from '../../../actors/store/queries/span.ts';
import { rollUp } from '../../../actors/store/queries/upkeep.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { boiler, clockAt, gadget, openDatabase, putReadings, putTwins, type ReadingSeed, T0 } from './database.ts';
import { naive, near } from './naive.ts';

const LATENESS_MS = 10 * MINUTE_MS;
const STEP = { hourly: HOUR_MS, daily: DAY_MS };

let sql: Sql;
let stored: (ReadingSeed & { kind: Kind })[];

beforeAll(async () => {
  sql = await openDatabase();
});
beforeEach(async () => {
  stored = [];
  for (const table of [
    'twins',
    'boiler_readings',
    'gadget_readings',
    'boiler_readings_hourly',
    'boiler_readings_daily',
    'gadget_readings_hourly',
    'gadget_readings_daily',
    'rollup_state',
    'rollup_marks',
    'rollup_dirty',
  ]) {
    await sql.query(`delete from ${table}`);
  }
});
afterAll(() => sql.close());

async function store(kind: Kind, seeds: ReadingSeed[]): Promise<void> {
  await putReadings(sql, kind, seeds);
  stored.push(...seeds.map((seed) => ({ ...seed, kind })));
}

/** What the fold does with a reading: within the window of the newest it gets a revision, else it is backfill. */
class Device {
  newest = 0;
  revision = 0;
  readonly twin: number;
  readonly kind: Kind;
  constructor(twin: number, kind: Kind) {
    this.twin = twin;
    this.kind = kind;
  }
  take(at: number, values: Record<string, number>): ReadingSeed {
    const backfill = at < this.newest - LATENESS_MS;
    if (!backfill) {
      this.revision++;
      this.newest = Math.max(this.newest, at);
    }
    return { twin: this.twin, at, revision: backfill ? null : this.revision, values };
  }
  async summary(receivedAt = this.newest): Promise<void> {
    await putTwins(sql, [
      {
        twin: this.twin,
        id: `d${this.twin}`,
        kind: this.kind.kind,
        at: this.newest,
        revision: this.revision,
        receivedAt,
      },
    ]);
  }
}

interface Row {
  twin: number;
  bucket: Date;
  metric: string;
  avg: number | null;
  min: number | null;
  max: number | null;
  std: number | null;
  median: number | null;
  record_count: number;
  null_count: number;
}

/** Rows of the rollup by hand, of buckets that end at or before `upTo`. */
function expected(
  kind: Kind,
  rollup: Rollup,
  upTo: (twin: number) => number,
): Map<string, Record<string, number | null>> {
  const buckets = new Map<string, ReadingSeed[]>();
  for (const seed of stored) {
    const at = Math.floor(seed.at / STEP[rollup]) * STEP[rollup];
    if (seed.kind !== kind || at >= upTo(seed.twin)) continue;
    const key = `${seed.twin}|${iso(at)}`;
    buckets.set(key, [...(buckets.get(key) ?? []), seed]);
  }
  const out = new Map<string, Record<string, number | null>>();
  for (const [key, seeds] of buckets) {
    const metrics = kind.openMetrics
      ? [...new Set(seeds.flatMap((seed) => Object.keys(seed.values)))]
      : kind.metricNames;
    for (const metric of metrics) {
      const values = seeds.map((seed) => seed.values[metric]).filter((value) => value !== undefined);
      const n = values.length > 0 ? naive(values) : null;
      const records = kind.openMetrics ? values.length : seeds.length;
      out.set(`${key}|${metric}`, {
        avg: n?.avg ?? null,
        min: n?.min ?? null,
        max: n?.max ?? null,
        std: n?.std ?? null,
        median: n?.median ?? null,
        record_count: records,
        null_count: records - values.length,
      });
    }
  }
  return out;
}

function compare(found: Map<string, Row>, wanted: Map<string, Record<string, number | null>>, medians = true): void {
  expect([...found.keys()].sort()).toEqual([...wanted.keys()].sort());
  for (const [key, want] of wanted) {
    const got = found.get(key) as unknown as Record<string, number | null>;
    for (const name of Object.keys(want)) {
      if (name === 'median' && !medians) continue;
      if (!near(got[name], want[name]))
        expect({ key, name, value: got[name] }).toEqual({ key, name, value: want[name] });
    }
  }
}

async function tableOf(kind: Kind, rollup: Rollup): Promise<Map<string, Row>> {
  const rows = await sql.query<Row>(`select * from ${kind.kind}_readings_${rollup}`);
  return new Map(rows.map((row) => [`${row.twin}|${iso(row.bucket.getTime())}|${row.metric}`, row]));
}

async function answered(kind: Kind, rollup: Rollup, nowMs: number): Promise<Map<string, Row & { complete: boolean }>> {
  const out = new Map<string, Row & { complete: boolean }>();
  for (let cursor: string | undefined; ; ) {
    const page = await aggregates(sql, clockAt(nowMs), kind, rollup, {
      span: { from: T0 - DAY_MS, to: T0 + 30 * DAY_MS },
      limit: 2,
      cursor,
    });
    for (const item of page.items) {
      const key = `${item.twinId.split(':d')[1]}|${item.bucket}|${item.metric}`;
      expect(out.has(key)).toBe(false);
      out.set(key, item as unknown as Row & { complete: boolean });
    }
    if (page.nextCursor === null) return out;
    cursor = page.nextCursor;
  }
}

async function marks(rollup: Rollup): Promise<(twin: number) => number> {
  const rows = await sql.query<{ twin: number; done_to: Date }>(
    'select twin, done_to from rollup_marks where rollup = $1',
    [rollup],
  );
  const byTwin = new Map(rows.map((row) => [row.twin, row.done_to.getTime()]));
  return (twin) => byTwin.get(twin) ?? 0;
}

const options = { latenessMs: LATENESS_MS };

describe('rollups', () => {
  it('follow readings that come in order, late, as backfill, after gaps, with rounds that end anywhere', async () => {
    const random = seededRandom(11);
    const devices = [1, 2, 3]
      .map((twin) => new Device(twin, boiler))
      .concat([4, 5].map((twin) => new Device(twin, gadget)));
    let closed = 0;
    for (let round = 0; round < 30; round++) {
      for (const device of devices) {
        const seeds: ReadingSeed[] = [];
        const base = device.newest || T0 + device.twin * MINUTE_MS;
        // Now and then a device is off for days.
        let at = base + (random() < 0.05 ? 3 * DAY_MS : 0);
        for (let i = 0; i < 20; i++) {
          at += Math.floor(random() * 20 * MINUTE_MS);
          const late = random() < 0.2 ? Math.floor(random() * LATENESS_MS) : 0;
          const back = random() < 0.06 ? Math.floor(random() * 2 * DAY_MS) : 0;
          const values: Record<string, number> =
            device.kind === boiler
              ? {
                  ...(random() < 0.8 ? { heat: random() * 90 } : { flow: 1 }),
                  ...(random() < 0.5 ? { flow: random() } : {}),
                }
              : { [`m${Math.floor(random() * 2)}`]: random() };
          const seed = device.take(Math.max(T0, at - late - back), values);
          // The door knows a reading of the same instant and metrics.
          if (!stored.concat(seeds as never).some((s) => s.twin === seed.twin && s.at === seed.at)) seeds.push(seed);
        }
        await store(device.kind, seeds);
        // The summary may lag behind the journal by a cut.
        if (random() < 0.8) await device.summary();
      }
      const clock = clockAt(T0 + round * 7 * HOUR_MS);
      for (const kind of [boiler, gadget]) {
        const stop = new AbortController();
        const slow = {
          ...clock,
          after(ms: number, callback: () => void) {
            if (random() < 0.15) stop.abort();
            return clock.after(ms, callback);
          },
        };
        await rollUp(sql, random() < 0.5 ? slow : clock, kind, { ...options, signal: stop.signal });
        if (round % 6 === 5) {
          for (const rollup of ['hourly', 'daily'] as const) {
            await rollUp(sql, clock, kind, options);
            const upTo = await marks(rollup);
            const table = [...(await tableOf(kind, rollup))].filter(([, row]) => row.bucket.getTime() < upTo(row.twin));
            compare(new Map(table), expected(kind, rollup, upTo));
            closed += table.length;
            compare(
              await answered(kind, rollup, T0 + 20 * DAY_MS),
              expected(kind, rollup, () => Number.POSITIVE_INFINITY),
              rollup === 'hourly',
            );
          }
        }
      }
    }
    expect(closed).toBeGreaterThan(1_000);
  });

  it('close a bucket only when nothing that is folded can land there', async () => {
    const device = new Device(1, boiler);
    await store(boiler, [
      device.take(T0 + 50 * MINUTE_MS, { heat: 1 }),
      device.take(T0 + HOUR_MS + 9 * MINUTE_MS, { heat: 2 }),
    ]);
    await device.summary();
    await rollUp(sql, clockAt(T0), boiler, options);
    expect((await tableOf(boiler, 'hourly')).size).toBe(0);
    await store(boiler, [
      device.take(T0 + HOUR_MS - MINUTE_MS / 2, { heat: 3 }),
      device.take(T0 + HOUR_MS + 10 * MINUTE_MS, { heat: 4 }),
    ]);
    await device.summary();
    await rollUp(sql, clockAt(T0), boiler, options);
    expect((await tableOf(boiler, 'hourly')).get(`1|${iso(T0)}|heat`)).toMatchObject({
      record_count: 2,
      avg: 2,
      median: 2,
    });
  });

  it('write the last hours of a device that has gone quiet, and again when it comes back', async () => {
    const device = new Device(1, boiler);
    await store(boiler, [device.take(T0 + MINUTE_MS, { heat: 1 })]);
    await device.summary();
    await rollUp(sql, clockAt(T0 + 5 * MINUTE_MS), boiler, options);
    expect((await tableOf(boiler, 'hourly')).size).toBe(0);
    await rollUp(sql, clockAt(T0 + 30 * MINUTE_MS), boiler, options);
    expect((await tableOf(boiler, 'hourly')).get(`1|${iso(T0)}|heat`)).toMatchObject({ record_count: 1, avg: 1 });
    expect((await tableOf(boiler, 'daily')).get(`1|${iso(T0)}|flow`)).toMatchObject({
      record_count: 1,
      null_count: 1,
      avg: null,
    });
    await store(boiler, [device.take(T0 + 40 * MINUTE_MS, { heat: 3 })]);
    await device.summary();
    const page = await aggregates(sql, clockAt(T0 + HOUR_MS), boiler, 'hourly', { span: { from: T0 }, metric: 'heat' });
    expect(page.items).toMatchObject([{ record_count: 2, avg: 2, median: 2, complete: false }]);
    await rollUp(sql, clockAt(T0 + 2 * HOUR_MS), boiler, options);
    expect((await tableOf(boiler, 'hourly')).get(`1|${iso(T0)}|heat`)).toMatchObject({ record_count: 2, avg: 2 });
  });

  it('do nothing more when nothing has come', async () => {
    const device = new Device(1, boiler);
    await store(
      boiler,
      Array.from({ length: 100 }, (_, i) => device.take(T0 + i * HOUR_MS, { heat: i })),
    );
    await device.summary();
    const first = await rollUp(sql, clockAt(T0 + 200 * HOUR_MS), boiler, options);
    expect(first).toMatchObject({ complete: true });
    expect(first.rows).toBeGreaterThan(190);
    expect(await rollUp(sql, clockAt(T0 + 200 * HOUR_MS), boiler, options)).toMatchObject({ complete: true, rows: 0 });
  });

  it('are computed again when the lateness window changes', async () => {
    const device = new Device(1, boiler);
    await store(
      boiler,
      Array.from({ length: 30 }, (_, i) => device.take(T0 + i * HOUR_MS, { heat: i })),
    );
    await device.summary();
    await rollUp(sql, clockAt(T0), boiler, options);
    // Folded under a wider window: it has a revision and lies where buckets are closed.
    await store(boiler, [{ twin: 1, at: T0 + 20 * HOUR_MS + 1, revision: 500, values: { heat: 1_000 } }]);
    await rollUp(sql, clockAt(T0), boiler, { latenessMs: 12 * HOUR_MS });
    const upTo = await marks('hourly');
    expect(upTo(1)).toBe(T0 + 17 * HOUR_MS);
    compare(
      await answered(boiler, 'hourly', T0 + DAY_MS),
      expected(boiler, 'hourly', () => Number.POSITIVE_INFINITY),
    );
  });

  it('of a backfilled hour that is not marked yet are written too', async () => {
    await store(boiler, [{ twin: 9, at: T0 + 5, revision: null, values: { heat: 7 } }]);
    await putTwins(sql, [{ twin: 9, id: 'd9', at: T0 + 30 * MINUTE_MS }]);
    await rollUp(sql, clockAt(T0), boiler, options);
    expect((await tableOf(boiler, 'hourly')).get(`9|${iso(T0)}|heat`)).toMatchObject({ avg: 7 });
    expect(await sql.query('select * from rollup_dirty')).toEqual([]);
  });

  it('let one node work at a time: a step that was taken does nothing', async () => {
    const device = new Device(1, boiler);
    await store(
      boiler,
      Array.from({ length: 30 }, (_, i) => device.take(T0 + i * HOUR_MS, { heat: i })),
    );
    await device.summary();
    const stepNo = await openRollups(sql, boiler, LATENESS_MS);
    expect(await closeBuckets(sql, boiler, 'hourly', stepNo, 0, 1)).toMatchObject({
      taken: true,
      worked: 1,
      rows: 48,
      last: 1,
    });
    await store(boiler, [{ twin: 1, at: T0 + 1, revision: null, values: { heat: 7 } }]);
    for (const step of [
      () => closeBuckets(sql, boiler, 'hourly', stepNo, 0, 1),
      () => settle(sql, boiler, 'hourly', stepNo, 0, 1, T0 + 99 * DAY_MS),
      () => mend(sql, boiler, stepNo, 1),
    ]) {
      expect(await step()).toMatchObject({ taken: false, worked: 0, rows: 0 });
    }
    expect((await sql.query('select * from rollup_dirty')).length).toBe(1);
    expect(await stepNoOf(sql, boiler)).toBe(stepNo + 1);
    expect(await mend(sql, boiler, stepNo + 1, 5)).toMatchObject({ taken: true, worked: 1 });
    expect((await tableOf(boiler, 'hourly')).get(`1|${iso(T0)}|heat`)).toMatchObject({ record_count: 2 });
  });
});
