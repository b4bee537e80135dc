import type { Kind } from '../protocol/kind.ts';
import type { Sql } from './sql.ts';

/**
 * What TimescaleDB does for history where its extension is in the database (2.12 or newer); without it nothing of this
 * runs, and tables, names and answers are the same.
 *
 *  1 `<kind>_readings` become hypertables, cut by event time; rows that are there move. Their one index stays the one
 *    that the table has.
 *  2 Chunks are compressed after 7 days, by twin, so that the history of one twin is read, and dropped, by itself.
 *  3 `<kind>_readings_hourly` and `_daily` stay tables that we keep, because a bucket there is closed by what a twin has
 *    folded, carries the median, and outlives the readings. Continuous aggregates stand beside them as
 *    `<kind>_readings_hourly_live` and `_daily_live`, up to date to the second, for dashboards and SQL.
 *  4 Retention stays ours: a policy of the server drops chunks by age alone, also those above a snapshot.
 *
 * 2 and 3 need the community edition; the one under the Apache licence gets hypertables.
 */
export interface Timescale {
  version: string;
  /** Whether compression and continuous aggregates are there. */
  community: boolean;
}

const COMPRESS_AFTER = '7 days';
/** A chunk of readings: small enough to be dropped, large enough that years of them are hundreds. */
const CHUNK = '7 days';
const STEPS = [
  { name: 'hourly', width: '1 hour', back: '3 days', lag: '1 hour', every: '15 minutes' },
  { name: 'daily', width: '1 day', back: '14 days', lag: '1 day', every: '1 hour' },
] as const;

/** Null where the extension is not in the database. */
export async function findTimescale(sql: Pick<Sql, 'query'>): Promise<Timescale | null> {
  const [row] = await sql.query<{ version: string; license: string | null }>(
    `select extversion as version, current_setting('timescaledb.license', true) as license
     from pg_extension where extname = 'timescaledb'`,
  );
  return row === undefined ? null : { version: row.version, community: row.license !== 'apache' };
}

/** Statements that bring the tables of the kinds there; each may run again. They come after `kindTables`. */
export function timescaleSql(kinds: readonly Kind[], { community }: Pick<Timescale, 'community'>): string {
  return kinds
    .flatMap((kind) => [
      hypertable(kind),
      ...(community ? [compression(kind), ...STEPS.map((s) => live(kind, s))] : []),
    ])
    .join('\n');
}

function hypertable(kind: Kind): string {
  return `select create_hypertable('${kind.kind}_readings', 'at', chunk_time_interval => interval '${CHUNK}',
  create_default_indexes => false, if_not_exists => true, migrate_data => true);`;
}

function compression(kind: Kind): string {
  const table = `${kind.kind}_readings`;
  // Changing it again is refused while compressed chunks are there, and it never differs.
  return `do $$ begin
  if not exists (select from timescaledb_information.hypertables
                 where hypertable_schema = current_schema() and hypertable_name = '${table}' and compression_enabled) then
    alter table ${table} set (timescaledb.compress, timescaledb.compress_segmentby = 'twin', timescaledb.compress_orderby = 'at desc');
  end if;
end $$;
select add_compression_policy('${table}', interval '${COMPRESS_AFTER}', if_not_exists => true);`;
}

/**
 * A row a twin and bucket, a column a metric and statistic; where metrics are open, a row a metric. A metric that a kind
 * gets later is in it once the view has been dropped: nothing but dashboards stands on it.
 */
function live(kind: Kind, step: (typeof STEPS)[number]): string {
  const table = `${kind.kind}_readings`;
  const view = `${table}_${step.name}_live`;
  const statistics = (column: string, prefix: string) =>
    ['avg', 'min', 'max']
      .map((name) => `${name}(${column}) as "${prefix}${name}"`)
      .concat(`stddev_samp(${column}) as "${prefix}std"`, `count(${column}) as "${prefix}count"`)
      .join(', ');
  const columns = kind.openMetrics
    ? statistics('value', '')
    : kind.metricNames.map((name) => statistics(`"${name}"`, `${name}_`)).join(',\n    ');
  const metric = kind.openMetrics ? 'metric, ' : '';
  return `create materialized view if not exists ${view} with (timescaledb.continuous, timescaledb.materialized_only = false) as
  select twin, ${metric}time_bucket(interval '${step.width}', at) as bucket, count(*) as record_count,
    ${columns}
  from ${table} group by twin, ${metric}time_bucket(interval '${step.width}', at) with no data;
select add_continuous_aggregate_policy('${view}', start_offset => interval '${step.back}', end_offset => interval '${step.lag}',
  schedule_interval => interval '${step.every}', if_not_exists => true);`;
}
