import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Kind } from '../../actors/protocol/kind.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { bucketRows, ROLLUP_COLUMNS } from '../../actors/store/queries/bucketing.ts';
import { findTimescale, timescaleSql } from '../../actors/store/timescale.ts';
import { findPostgres } from '../servers/postgres.ts';

/**
 * TimescaleDB's server cannot be had here. What can be held without it: that every statement parses and binds on
 * PostgreSQL against functions of the same signatures, that it may run twice, that its aggregates answer what our
 * rollups do, and that nothing of it runs where the extension is not.
 */
const server = await findPostgres();
const kinds = (await loadKinds([])).all();

/** Signatures of TimescaleDB 2.17, as its documentation has them; each call is noted. */
const STUBS = `
create table calls (name text not null, relation regclass not null, what text);
create schema timescaledb_information;
create table timescaledb_information.hypertables (hypertable_schema name, hypertable_name name, compression_enabled boolean);
create function create_hypertable(relation regclass, time_column_name name, partitioning_column name default null, number_partitions integer default null,
  associated_schema_name name default null, associated_table_prefix name default null, chunk_time_interval anyelement default null::bigint,
  create_default_indexes boolean default true, if_not_exists boolean default false, partitioning_func regproc default null,
  migrate_data boolean default false, chunk_target_size text default null, chunk_sizing_func regproc default null, time_partitioning_func regproc default null)
  returns void language plpgsql as $$
begin
  perform from pg_attribute where attrelid = relation and attname = time_column_name and attnotnull and atttypid = 'timestamptz'::regtype;
  if not found then raise exception 'no such time column'; end if;
  -- A unique index without the time column is what TimescaleDB would refuse.
  perform from pg_index where indrelid = relation and indisunique;
  if found then raise exception 'cannot create a unique index without the column "at" (used in partitioning)'; end if;
  insert into calls values ('create_hypertable', relation, chunk_time_interval::text);
end $$;
create function add_compression_policy(hypertable regclass, compress_after "any", if_not_exists boolean default false,
  schedule_interval interval default null, initial_start timestamptz default null, timezone text default null) returns integer language internal as 'int4um';
create function add_continuous_aggregate_policy(continuous_aggregate regclass, start_offset "any", end_offset "any", schedule_interval interval,
  if_not_exists boolean default false, initial_start timestamptz default null, timezone text default null) returns integer language internal as 'int4um';
create function time_bucket(bucket_width interval, ts timestamptz) returns timestamptz immutable parallel safe strict language sql
  as $$ select date_bin(bucket_width, ts, 'epoch') $$;
`;

/** Without what only the extension's own grammar knows: options of its namespace. */
function plain(text: string): string {
  return text
    .replace(/ with \(timescaledb\.[^)]*\)/g, '')
    .replace(
      /alter table (\w+) set \(timescaledb\.[^;]*;/g,
      `update timescaledb_information.hypertables set compression_enabled = true where hypertable_name = '$1';`,
    )
    .replace(/select add_(compression|continuous_aggregate)_policy\('(\w+)'[^;]*;/g, (call, name, relation) => {
      // "any" cannot be called in plain PostgreSQL without a C function: the call is planned, its arguments are bound.
      return `do $p$ begin execute $e$explain ${call.slice(0, -1)}$e$; end $p$; insert into calls values ('${name}', '${relation}');`;
    });
}

describe.skipIf(server === null)('TimescaleDB', () => {
  let sql: Pg;

  beforeAll(async () => {
    sql = await Pg.open({ url: await server!.database() });
    await new PostgresStore(sql).open(kinds, 4);
  });
  afterAll(async () => {
    await sql?.close();
    await server?.stop();
  });

  it('is not asked for anything where it is not', async () => {
    expect(await findTimescale(sql)).toBeNull();
    expect(await sql.query(`select from settings where name = 'timescale'`)).toEqual([]);
  });

  it('is asked for what PostgreSQL can parse and bind, twice over', async () => {
    await sql.exec(STUBS);
    await sql.exec(
      kinds
        .map(
          (kind) =>
            `insert into timescaledb_information.hypertables values (current_schema(), '${kind.kind}_readings', false);`,
        )
        .join('\n'),
    );
    const text = timescaleSql(kinds, { community: true });
    for (let i = 0; i < 2; i++) await sql.exec(plain(text));
    const calls = await sql.query(
      'select name, count(*)::int as calls, count(distinct relation)::int as relations from calls group by 1 order by 1',
    );
    expect(calls).toEqual([
      { name: 'compression', calls: 2 * kinds.length, relations: kinds.length },
      { name: 'continuous_aggregate', calls: 4 * kinds.length, relations: 2 * kinds.length },
      { name: 'create_hypertable', calls: 2 * kinds.length, relations: kinds.length },
    ]);
    expect(
      await sql.query('select distinct compression_enabled as on from timescaledb_information.hypertables'),
    ).toEqual([{ on: true }]);
  });

  it('under the Apache licence is asked for hypertables only', () => {
    const text = timescaleSql(kinds, { community: false });
    expect(text.match(/create_hypertable/g)).toHaveLength(kinds.length);
    expect(text).not.toMatch(/compress_|continuous|policy/);
  });

  it('aggregates as our rollups do', async () => {
    const kind = kinds.find((each) => each.kind === 'machine') as Kind;
    await sql.exec(`insert into machine_readings (shard, twin, at, received_at, revision, temperature, vibration)
      select 0, 1 + i % 3, timestamptz '2026-01-01' + i * interval '7 minutes', now(), i, 20 + sin(i) * 10, nullif(i % 5, 0)
      from generate_series(1, 2000) i`);
    for (const step of ['hourly', 'daily'] as const) {
      const view = `machine_readings_${step}_live`;
      await sql.exec(`refresh materialized view ${view}`);
      const ours = `with w (twin, lo, hi) as (select twin, timestamptz '-infinity', timestamptz 'infinity' from machine_readings group by 1),
        ours (${ROLLUP_COLUMNS.join(', ')}) as (${bucketRows(kind, step, 'w')})`;
      for (const metric of ['temperature', 'vibration']) {
        const [{ buckets, different }] = await sql.query<{ buckets: number; different: number }>(
          `${ours} select count(*)::int as buckets, count(*) filter (where o.twin is null or t.twin is null
             or (o.min, o.max, o.record_count - o.null_count) is distinct from (t.${metric}_min, t.${metric}_max, t.${metric}_count)
             or abs(o.avg - t.${metric}_avg) > 1e-9 or abs(o.std - t.${metric}_std) > 1e-9)::int as different
           from (select * from ours where metric = '${metric}') o
           full join ${view} t on t.twin = o.twin and t.bucket = o.bucket`,
        );
        expect([metric, step, buckets > 20, different]).toEqual([metric, step, true, 0]);
      }
    }
  });
});
