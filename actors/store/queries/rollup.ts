import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { bucketRows, ROLLUP_COLUMNS, stepInterval } from './bucketing.ts';
import { tableOf } from './history-table.ts';
import { Binder } from './page.ts';
import { type Rollup, rollupTable } from './rolled.ts';

/**
 * Keeps `<kind>_readings_hourly` and `_daily`: avg, min, max, std, median, record_count and null_count of each metric of
 * each twin, in small steps that any node may take at any time.
 *
 * A bucket is closed when the twin has folded a reading so new that nothing folded later can land in it (the newest event
 * time less the lateness window has passed its end). `rollup_marks.done_to` is the end of the last closed bucket.
 *
 * Invariants:
 *  U1  A step is one statement: its rows and its mark land together or not at all, so that a crash costs nothing and
 *      a step done twice changes nothing.
 *  U2  Each step moves `rollup_state.step_no` by one from what was read before the step's snapshot was taken. Of two nodes
 *      that read the same number one does nothing: no step ever writes what an older snapshot saw.
 *  U3  Every reading in a closed bucket counts: what is folded cannot land there, and what is not folded (backfill)
 *      leaves a row in `rollup_dirty`, in its own transaction, that stays until the buckets have been computed again.
 *  U4  Another lateness window takes all marks back, because U3's argument rests on it. Computing again is harmless.
 *  U5  A bucket from which retention may have dropped readings (before the twin's `trimmed_to`) is never computed again.
 *  U6  Buckets after the mark may be there for twins that have gone quiet (settle); who needs exactness reads raw there.
 */
export interface StepResult {
  /** False: another node took this step; leave the rest to it. */
  taken: boolean;
  /** Twins (or days of twins) that the step worked on: 0 means that nothing was left behind `after`. */
  worked: number;
  /** Rows of the rollup written. */
  rows: number;
  /** Highest twin worked on: where the next step goes on. */
  last: number;
}

/** Where the buckets of a twin begin that are not closed. */
const OPEN_FROM = `greatest(coalesce(m.done_to, 'epoch'), coalesce(m.trimmed_to, 'epoch'))`;
/** How many buckets of one twin a step takes at most. */
const BUCKETS_A_STEP: Record<Rollup, number> = { hourly: 24, daily: 1 };

/** Makes the state of a kind, and takes the marks back where the lateness window is another. Answers the number of the next step. */
export async function openRollups(sql: Sql, kind: Kind, latenessMs: number): Promise<number> {
  const [row] = await sql.query<{ step_no: number; lateness_ms: number }>(
    `insert into rollup_state (kind, lateness_ms) values ($1::text, $2::bigint)
     on conflict (kind) do update set kind = excluded.kind returning step_no, lateness_ms`,
    [kind.kind, latenessMs],
  );
  if (row.lateness_ms === latenessMs) return row.step_no;
  const reset = await sql.query<{ step_no: number }>(
    `with fence as (
       update rollup_state set step_no = step_no + 1, lateness_ms = $2::bigint where kind = $1::text and step_no = $3::bigint returning step_no
     ), back as (
       update rollup_marks set done_to = 'epoch', settled = 0
       where exists (select from fence) and twin in (select twin from twins where kind = $1::text)
     )
     select step_no from fence`,
    [kind.kind, latenessMs, row.step_no],
  );
  return reset[0]?.step_no ?? (await stepNoOf(sql, kind));
}

export async function stepNoOf(sql: Sql, kind: Kind): Promise<number> {
  const [row] = await sql.query<{ step_no: number }>('select step_no from rollup_state where kind = $1::text', [
    kind.kind,
  ]);
  return row?.step_no ?? 0;
}

/** Closes buckets of up to `twins` twins with a key above `after`. */
export async function closeBuckets(
  sql: Sql,
  kind: Kind,
  rollup: Rollup,
  stepNo: number,
  after: number,
  twins: number,
): Promise<StepResult> {
  const b = new Binder();
  const step = stepInterval(rollup);
  const name = b.add(rollup, '::text');
  const closable = `date_bin(${step}, t.at - f.lateness_ms * interval '1 millisecond', 'epoch')`;
  return await take(
    sql,
    `with fence as (${fence(kind, stepNo, b)}),
     due as materialized (
       select t.twin, ${OPEN_FROM} as mark, ${closable} as closable
       from fence f cross join twins t left join rollup_marks m on m.twin = t.twin and m.rollup = ${name}
       where t.kind = ${b.add(kind.kind, '::text')} and t.twin > ${b.add(after, '::bigint')} and t.at is not null
         and ${closable} > ${OPEN_FROM}
       order by t.twin limit ${b.add(twins, '::int')}
     ), work as materialized (
       -- From the first reading that is not rolled, so that a gap of years is one step.
       select d.twin, s.lo, least(d.closable, s.lo + ${BUCKETS_A_STEP[rollup]} * ${step}) as hi
       from due d
       cross join lateral (select min(r.at) as at from ${tableOf(kind)} r where r.twin = d.twin and r.at >= d.mark and r.at < d.closable) first
       cross join lateral (select date_bin(${step}, first.at, 'epoch') as lo) s
     ), rolled as (${aggregate(kind, rollup, 'work')}),
     marked as (
       insert into rollup_marks (twin, rollup, done_to) select twin, ${name}, hi from work
       on conflict (twin, rollup) do update set done_to = excluded.done_to returning 1
     )
     select ${counts('work', 'twin')}`,
    b,
  );
}

/**
 * Writes the buckets after the mark of up to `twins` twins that have been quiet since before `quietSinceMs` (received
 * time), so that the last hour of a device that has stopped is in the tables too. The mark stays (U6).
 */
export async function settle(
  sql: Sql,
  kind: Kind,
  rollup: Rollup,
  stepNo: number,
  after: number,
  twins: number,
  quietSinceMs: number,
): Promise<StepResult> {
  const b = new Binder();
  const name = b.add(rollup, '::text');
  return await take(
    sql,
    `with fence as (${fence(kind, stepNo, b)}),
     work as materialized (
       select t.twin, t.revision, ${OPEN_FROM} as lo, 'infinity'::timestamptz as hi
       from fence f cross join twins t left join rollup_marks m on m.twin = t.twin and m.rollup = ${name}
       where t.kind = ${b.add(kind.kind, '::text')} and t.twin > ${b.add(after, '::bigint')} and t.at is not null
         and t.received_at < ${b.time(quietSinceMs)} and t.revision > coalesce(m.settled, 0)
       order by t.twin limit ${b.add(twins, '::int')}
     ), rolled as (${aggregate(kind, rollup, 'work')}),
     marked as (
       insert into rollup_marks (twin, rollup, done_to, settled) select twin, ${name}, lo, revision from work
       on conflict (twin, rollup) do update set settled = excluded.settled returning 1
     )
     select ${counts('work', 'twin')}`,
    b,
  );
}

/** Computes the buckets again that backfill landed in: up to `days` days of twins, with all hours of them that are marked. */
export async function mend(sql: Sql, kind: Kind, stepNo: number, days: number): Promise<StepResult> {
  const b = new Binder();
  const name = b.add(kind.kind, '::text');
  return await take(
    sql,
    `with fence as (${fence(kind, stepNo, b)}),
     first as materialized (
       select x.twin, x.at from fence f cross join rollup_dirty x where x.kind = ${name} order by x.twin, x.at limit 5000
     ), day as materialized (
       select distinct twin, date_bin(${stepInterval('daily')}, at, 'epoch') as lo from first order by 1, 2 limit ${b.add(days, '::int')}
     ), marks as materialized (
       select x.twin, x.at, d.lo from day d join rollup_dirty x
         on x.kind = ${name} and x.twin = d.twin and x.at >= d.lo and x.at < d.lo + ${stepInterval('daily')}
     ), days as materialized (
       select d.twin, d.lo, d.lo + ${stepInterval('daily')} as hi
       from day d left join rollup_marks m on m.twin = d.twin and m.rollup = 'daily' where d.lo >= coalesce(m.trimmed_to, 'epoch')
     ), hours as materialized (
       select distinct m.twin, date_bin(${stepInterval('hourly')}, m.at, 'epoch') as lo, date_bin(${stepInterval('hourly')}, m.at, 'epoch') + ${stepInterval('hourly')} as hi
       from marks m join days d on d.twin = m.twin and d.lo = m.lo
     ), hourly as (${aggregate(kind, 'hourly', 'hours')}),
     rolled as (${aggregate(kind, 'daily', 'days')}),
     cleaned as (
       delete from rollup_dirty x using day d
       where x.kind = ${name} and x.twin = d.twin and x.at >= d.lo and x.at < d.lo + ${stepInterval('daily')} returning 1
     )
     select ${counts('day', 'twin')}`,
    b,
  );
}

function fence(kind: Kind, stepNo: number, b: Binder): string {
  return `update rollup_state set step_no = step_no + 1 where kind = ${b.add(kind.kind, '::text')} and step_no = ${b.add(stepNo, '::bigint')}
     returning lateness_ms`;
}

function counts(work: string, twin: string): string {
  return `(select count(*) from fence) > 0 as taken, (select count(*) from ${work}) as worked,
    (select count(*) from rolled) as rows, (select coalesce(max(${twin}), 0) from ${work}) as last`;
}

async function take(sql: Sql, text: string, b: Binder): Promise<StepResult> {
  const [row] = await sql.query<StepResult>(text, b.values);
  return row;
}

/** Inserts the rollup rows of each (twin, lo, hi) in `work`. */
function aggregate(kind: Kind, rollup: Rollup, work: string): string {
  const values = ROLLUP_COLUMNS.slice(3);
  return `
       insert into ${rollupTable(kind, rollup)} (${ROLLUP_COLUMNS.join(', ')}) ${bucketRows(kind, rollup, `${work} w`)}
       on conflict (twin, metric, bucket) do update set ${values.map((name) => `${name} = excluded.${name}`).join(', ')} returning 1`;
}
