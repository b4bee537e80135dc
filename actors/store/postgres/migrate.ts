import { createHash } from 'node:crypto';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { Kind } from '../../protocol/kind.ts';
import { kindTables, MIGRATIONS } from '../schema.ts';
import { type Sql, SqlError } from '../sql.ts';
import { findTimescale, timescaleSql } from '../timescale.ts';
import { viewsOf } from '../views.ts';

/**
 * Brings the database to this version.
 *
 *  1 Each step is one transaction under one advisory lock: nodes that start together do it once, in order.
 *  2 Each step names what it was decided on and gives up when that has changed meanwhile; then it is decided again.
 *  3 Tables of kinds are only touched when their definition has changed: `alter table` would wait for, and block, writers.
 *  4 Nothing but rows is written where everything is as it has to be: a role without the right to change the schema can
 *    open a database that another one has migrated.
 */
export async function migrate(sql: Sql, kinds: readonly Kind[], shards: number): Promise<void> {
  if (!Number.isInteger(shards) || shards < 1 || shards > 4096) {
    throw new TwinmeshError('wrong_shard_count', `The shard count must be 1 to 4096, not ${shards}.`, {
      asked: shards,
    });
  }
  await settle(() => schema(sql));
  await settle(() => kindsAndViews(sql, kinds));
  await settle(() => timescale(sql, kinds));
  await shardRows(sql, shards);
}

/** Any number; the same in every version. */
const LOCK = 'select pg_advisory_xact_lock(8112260117204914);';
const CHANGED_MEANWHILE = '40001';
const NEWEST = MIGRATIONS[MIGRATIONS.length - 1].version;

async function settle(step: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await step();
      return;
    } catch (error) {
      if (!(error instanceof SqlError && error.sqlState === CHANGED_MEANWHILE && tries < 20)) throw error;
    }
  }
}

async function schema(sql: Sql): Promise<void> {
  const version = await versionOf(sql);
  if (version > NEWEST) {
    throw new TwinmeshError(
      'newer_schema',
      `The database has schema version ${version}; this program knows up to ${NEWEST}.`,
      { found: version, known: NEWEST },
    );
  }
  if (version === NEWEST) return;
  const due = MIGRATIONS.filter((migration) => migration.version > version);
  const unchanged =
    version === 0
      ? // Asked of the catalog's rows: a name lookup may answer from a cache that is older than the lock.
        `not exists (select from pg_tables where schemaname = current_schema() and tablename = 'settings')`
      : `(select (value->>'version')::int from settings where name = 'schema') = ${version}`;
  await sql.exec(`${LOCK}
${guard(unchanged)}
${due.map((migration) => migration.sql).join('\n')}
insert into settings (name, value) values ('schema', '{"version": ${NEWEST}}')
  on conflict (name) do update set value = excluded.value;`);
}

async function versionOf(sql: Sql): Promise<number> {
  const [{ there }] = await sql.query<{ there: boolean }>(`select to_regclass('settings') is not null as there`);
  if (!there) return 0;
  const [row] = await sql.query<{ version: number }>(
    `select (value->>'version')::int as version from settings where name = 'schema'`,
  );
  return row?.version ?? 0;
}

async function kindsAndViews(sql: Sql, kinds: readonly Kind[]): Promise<void> {
  const tables = kinds.map(kindTables).join('\n');
  const views = viewsOf(kinds);
  const digest = createHash('sha256').update(tables).update(views).digest('hex');
  const [row] = await sql.query<{ digest: string }>(
    `select value->>'digest' as digest from settings where name = 'kinds'`,
  );
  if (row?.digest === digest) return;
  const found = row === undefined ? 'null' : `'${row.digest}'`;
  await sql.exec(`${LOCK}
${guard(`(select value->>'digest' from settings where name = 'kinds') is not distinct from ${found}`)}
${tables}
${views}
insert into settings (name, value) values ('kinds', '{"digest": "${digest}"}')
  on conflict (name) do update set value = excluded.value;`);
}

async function timescale(sql: Sql, kinds: readonly Kind[]): Promise<void> {
  const found = await findTimescale(sql);
  if (found === null) return;
  const statements = timescaleSql(kinds, found);
  const digest = createHash('sha256').update(statements).digest('hex');
  const [row] = await sql.query<{ digest: string }>(
    `select value->>'digest' as digest from settings where name = 'timescale'`,
  );
  if (row?.digest === digest) return;
  const before = row === undefined ? 'null' : `'${row.digest}'`;
  await sql.exec(`${LOCK}
${guard(`(select value->>'digest' from settings where name = 'timescale') is not distinct from ${before}`)}
${statements}
insert into settings (name, value) values ('timescale', '{"digest": "${digest}"}')
  on conflict (name) do update set value = excluded.value;`);
}

async function shardRows(sql: Sql, shards: number): Promise<void> {
  await sql.query(
    `insert into settings (name, value) values ('shards', to_jsonb($1::int)) on conflict (name) do nothing`,
    [shards],
  );
  const [{ count }] = await sql.query<{ count: number }>(
    `select (value#>>'{}')::int as count from settings where name = 'shards'`,
  );
  if (count !== shards) {
    throw new TwinmeshError(
      'wrong_shard_count',
      `The database was created with ${count} shards; it cannot be opened with ${shards}.`,
      { created: count, asked: shards },
    );
  }
  await sql.query('insert into shards (shard) select generate_series(0, $1::int - 1) on conflict (shard) do nothing', [
    shards,
  ]);
}

function guard(unchanged: string): string {
  return `do $$ begin if (${unchanged}) is not true then
  raise exception 'the schema has changed meanwhile' using errcode = '${CHANGED_MEANWHILE}';
end if; end $$;`;
}
