import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { downsample } from '../../../actors/store/queries/downsample.ts';
import { DAY_MS, HOUR_MS, iso } from '../../../actors/store/queries/span.ts';
import { retain, retainEnded, retainJournal, rollUp } from '../../../actors/store/queries/upkeep.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { boiler, clockAt, keyOf, openDatabase, putReadings, putTwins, T0 } from './database.ts';

let sql: Sql;
const DAYS = 20;
const END = T0 + DAYS * DAY_MS;
const clock = clockAt(END);
const keepMs = 5 * DAY_MS;
const cutoff = END - keepMs;
const options = { latenessMs: 600_000 };

async function snapshot(twin: number, revision: number, floorAt: number, latest = true): Promise<void> {
  await sql.query(
    `insert into twin_snapshots (twin, revision, shard, twin_id, shape, kind_version, state, floor_at, received_at, latest)
     values ($1, $2, 0, 'boiler:x', 1, 1, '\\x00', $3, $3, $4)`,
    [twin, revision, iso(floorAt), latest],
  );
}

const times = async (twin: number) =>
  (await sql.query<{ at: Date }>('select at from boiler_readings where twin = $1 order by at', [twin])).map((row) =>
    row.at.getTime(),
  );

beforeAll(async () => {
  sql = await openDatabase();
  // 1: alive, covered. 2: tail from the third day. 3: no snapshot. 4: dead since the second day. 5: half a day behind.
  for (const twin of [1, 2, 3, 4, 5]) {
    const hours = twin === 4 ? 40 : DAYS * 24;
    await putReadings(
      sql,
      boiler,
      Array.from({ length: hours }, (_, i) => ({ twin, at: T0 + i * HOUR_MS, revision: i + 1, values: { heat: i } })),
    );
    await putTwins(sql, [
      { twin, id: `r${twin}`, revision: hours, at: T0 + (hours - 1) * HOUR_MS, receivedAt: T0 + (hours - 1) * HOUR_MS },
    ]);
  }
  await snapshot(1, 470, T0 + 469 * HOUR_MS);
  await snapshot(1, 100, T0 + 99 * HOUR_MS, false);
  await snapshot(1, 440, T0 + 439 * HOUR_MS, false);
  await snapshot(2, 60, T0 + 2 * DAY_MS + 12 * HOUR_MS);
  await snapshot(4, 40, T0 + 39 * HOUR_MS);
  await snapshot(5, 470, T0 + 469 * HOUR_MS);
});
afterAll(() => sql.close());

describe('retention', () => {
  it('drops nothing that is not in the rollups yet', async () => {
    expect(await retain(sql, clock, boiler, { keepMs })).toMatchObject({ rows: 0 });
    await rollUp(sql, clock, boiler, options);
    await sql.query(`update rollup_marks set settled = 0, done_to = $1 where twin = 5 and rollup = 'daily'`, [
      iso(T0 + 7 * DAY_MS),
    ]);
    const before = await downsample(sql, clock, boiler, keyOf(1, 'r1'), { span: {}, stepMs: DAY_MS });
    expect(await retain(sql, clock, boiler, { keepMs })).toMatchObject({ complete: true });
    expect(await downsample(sql, clock, boiler, keyOf(1, 'r1'), { span: {}, stepMs: DAY_MS })).toEqual(before);
    expect(Math.min(...(await times(5)))).toBe(T0 + 7 * DAY_MS);
  });

  it('drops whole days before the cutoff, and all of them', async () => {
    const left = await times(1);
    expect(left[0]).toBe(cutoff);
    expect(left.length).toBe(5 * 24);
  });

  it('never drops above the snapshot, nor of a twin without one', async () => {
    expect((await times(2))[0]).toBe(T0 + 2 * DAY_MS);
    expect((await times(3)).length).toBe(DAYS * 24);
  });

  it('drops what a silent device left, after its last hours are in the rollups', async () => {
    // Its snapshot covers up to the second day's afternoon: whole days only.
    expect((await times(4))[0]).toBe(T0 + DAY_MS);
    expect((await sql.query('select 1 from boiler_readings_hourly where twin = 4')).length).toBe(2 * 40);
  });

  it('leaves aggregates as they are when backfill comes for dropped days', async () => {
    const bucket = () =>
      sql.query(`select * from boiler_readings_daily where twin = 1 and bucket = $1 and metric = 'heat'`, [
        iso(T0 + DAY_MS),
      ]);
    const before = await bucket();
    await putReadings(sql, boiler, [{ twin: 1, at: T0 + DAY_MS + 5, revision: null, values: { heat: 10_000 } }]);
    await rollUp(sql, clock, boiler, options);
    expect(await bucket()).toEqual(before);
    expect(await sql.query('select * from rollup_dirty')).toEqual([]);
    await retain(sql, clock, boiler, { keepMs });
    expect((await times(1))[0]).toBe(cutoff);
  });

  it('survives a change of the lateness window without touching dropped days', async () => {
    const days = () =>
      sql.query('select bucket, metric, avg, record_count from boiler_readings_daily where twin = 1 order by 1, 2');
    const before = await days();
    await rollUp(sql, clock, boiler, { latenessMs: 900_000 });
    expect(await days()).toEqual(before);
  });

  it('drops old events that every sink has passed, and entries and snapshots that open only dropped history', async () => {
    for (let i = 0; i < 60; i++) {
      await sql.query(
        `insert into events (shard, seq, event_id, twin, twin_id, kind, revision, type, at, received_at, body)
         values ($1, $2, $3, 1, 'boiler:r1', 'boiler', $2, 'health.changed', $4, $4, '{}')`,
        [i % 2, i, `e${i}`, iso(T0 + i * 8 * HOUR_MS)],
      );
    }
    await sql.query(`insert into sink_cursors values ('kafka', 0, 30), ('mqtt', 0, 1000), ('mqtt', 1, 1000)`);
    for (const [revision, at] of [
      [50, T0],
      [460, T0 + DAY_MS],
      [475, T0 + DAY_MS],
      [465, END],
    ]) {
      await sql.query(`insert into entries values (1, $1, 0, 'tick', $2, '{}')`, [revision, iso(at)]);
    }
    expect(await retainJournal(sql, clock, { keepMs })).toMatchObject({ complete: true });
    const events = await sql.query<{ shard: number; seq: number }>('select shard, seq from events order by seq');
    const old = (seq: number) => T0 + seq * 8 * HOUR_MS < cutoff;
    const kept = Array.from({ length: 60 }, (_, i) => i).filter((i) => !old(i) || (i % 2 === 0 && i > 30));
    expect(events.map((event) => event.seq)).toEqual(kept);
    const entries = await sql.query<{ revision: number }>('select revision from entries order by 1');
    expect(entries.map((entry) => entry.revision)).toEqual([465, 475]);
    const snapshots = await sql.query<{ revision: number }>(
      'select revision from twin_snapshots where twin = 1 order by 1',
    );
    expect(snapshots.map((row) => row.revision)).toEqual([440, 470]);
  });
});

describe('what is on record of ended work', () => {
  const OLD = cutoff - 1_000;
  const count = async (table: string) =>
    (await sql.query<{ n: number }>(`select count(*)::int as n from ${table}`))[0].n;

  it('goes once its end is long ago, with its runs and findings, and nothing else does', async () => {
    const job = (id: string, status: string, endedAt: number | null, createdAt = OLD - DAY_MS) =>
      sql.query(
        `insert into jobs (id, type, name, status, created_at, finished_at) values ($1, 'training', $1, $2, $3, $4)`,
        [id, status, iso(createdAt), endedAt === null ? null : iso(endedAt)],
      );
    await job('taken', 'done', OLD);
    await job('owed', 'failed', OLD);
    await job('given up', 'cancelled', OLD);
    await job('ended late', 'done', cutoff + 1_000);
    await job('waits', 'queued', null);
    await job('runs', 'running', null);
    const outbox = (id: string, doneAt: number | null) =>
      sql.query('insert into mlflow_outbox (job, done_at) values ($1, $2)', [id, doneAt === null ? null : iso(doneAt)]);
    await outbox('taken', OLD);
    await outbox('owed', null);
    await outbox('ended late', null);
    const rescore = (id: string, state: string, beat: number) =>
      sql.query(
        `insert into rescores (id, model, version, from_at, to_at, window_ms, state, started_at, beat) values ($1, 'm', '1.0.0', $2, $2, 1, $3, $2, $4)`,
        [id, iso(OLD - DAY_MS), state, iso(beat)],
      );
    await rescore('old', 'done', OLD);
    await rescore('lost', 'running', OLD);
    await rescore('long', 'running', cutoff + 1_000);
    for (const [id, rows] of [
      ['old', 2_000],
      ['lost', 3],
      ['long', 5],
    ])
      await sql.query(
        `insert into rescore_differences (rescore, n, twin_id, change, what, name) select $1::text, n, 't', 'c', 'w', 'x' from generate_series(1, $2::int) n`,
        [id, rows],
      );
    expect(await retainEnded(sql, clock, { keepMs })).toMatchObject({
      complete: true,
      owed: 1,
      rows: 3 + 2_000 + 3 + 2,
    });
    expect(await sql.query('select id from jobs order by id')).toEqual(
      ['ended late', 'runs', 'waits'].map((id) => ({ id })),
    );
    expect(await sql.query('select job from mlflow_outbox')).toEqual([{ job: 'ended late' }]);
    expect(await sql.query('select id from rescores')).toEqual([{ id: 'long' }]);
    expect(await count('rescore_differences')).toBe(5);
    expect(await retainEnded(sql, clock, { keepMs })).toMatchObject({ complete: true, rows: 0, owed: 0 });
  });
});
