import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { CommittedPosition } from '../../actors/log/jetstream-stream.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { HeldSnapshot } from '../../actors/store/held-snapshot.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { findTimescale } from '../../actors/store/timescale.ts';
import { findProgram, libpqEnv, run } from './libpq.ts';
import type { Manifest } from './manifest.ts';

/** The database of a backup: what it holds, how PostgreSQL's is dumped and put back, and what a restored one forgets. */
export const DUMP_FILE = 'database.dump';

interface Ask {
  query<Row>(text: string): Promise<Row[]>;
}

export interface Contents {
  schemaVersion: number;
  shards: number;
  timescale: string | null;
  settings: Manifest['settings'];
  rows: Manifest['rows'];
}

/** Throws `bad_request` where the database is not one of twinmesh. */
export async function contentsOf(sql: Ask): Promise<Contents> {
  const names = await tablesOf(sql);
  if (!names.includes('settings') || !names.includes('shards'))
    throw new TwinmeshError('bad_request', 'The database holds nothing of twinmesh: there is nothing to back up.');
  const settings = await sql.query<{ name: string; value: unknown }>('select name, value from settings order by name');
  const settingOf = (name: string) => settings.find((row) => row.name === name)?.value;
  const schemaVersion = (settingOf('schema') as { version?: number } | undefined)?.version;
  const shards = settingOf('shards');
  if (typeof schemaVersion !== 'number' || typeof shards !== 'number')
    throw new TwinmeshError('bad_request', 'The database is not finished: start a node on it first.');
  const timescale = (await findTimescale(sql))?.version ?? null;
  return { schemaVersion, shards, timescale, settings, rows: await rowsOf(sql, names) };
}

/** Rows of each table but `settings`. */
export async function rowsOf(sql: Ask, names: readonly string[]): Promise<Manifest['rows']> {
  const rows: Manifest['rows'] = {};
  for (const name of names) {
    if (name === 'settings') continue;
    const quoted = `"${name.replaceAll('"', '""')}"`;
    const [{ count }] = await sql.query<{ count: number }>(`select count(*)::float8 as count from ${quoted}`);
    rows[name] = count;
  }
  return rows;
}

async function tablesOf(sql: Ask): Promise<string[]> {
  const tables = await sql.query<{ name: string }>(
    `select relname::text as name from pg_class c where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
       and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') order by relname`,
  );
  return tables.map(({ name }) => name);
}

export async function positionsOf(sql: Ask): Promise<CommittedPosition[]> {
  const rows = await sql.query<CommittedPosition>(
    `select shard, position::float8 as position, position_id as "positionId",
       (date_part('epoch', position_at) * 1000)::float8 as "positionAt" from shards order by shard`,
  );
  return rows.map((row) => ({ ...row, positionAt: row.positionAt === null ? null : Math.round(row.positionAt) }));
}

async function majorOf(sql: Ask): Promise<number> {
  const [{ number }] = await sql.query<{ number: number }>(
    `select current_setting('server_version_num')::int as number`,
  );
  return Math.trunc(number / 10_000);
}

/** Throws before anything is written where the database cannot be dumped. The answer dumps it. */
export async function dumpOf(url: string, snapshot: HeldSnapshot): Promise<(file: string) => Promise<void>> {
  const program = await findProgram('pg_dump', await majorOf(snapshot));
  const env = libpqEnv(url, program.major);
  return async (file) => {
    // Owners and rights are those of the server that it is restored on.
    const what = ['--format=custom', '--compress=1', '--no-owner', '--no-privileges', `--snapshot=${snapshot.id}`];
    const { code, faults } = await run(program.file, [...what, `--file=${file}`, '--no-password'], env);
    if (code !== 0) throw new TwinmeshError('store_down', `pg_dump failed: ${faults.trim()}`);
    fs.chmodSync(file, 0o600);
  };
}

/** Throws `conflict` where anything is in the database, and before anything is written where it cannot be restored. */
export async function restoreOf(
  url: string,
  sql: Sql,
  timescale: string | null,
): Promise<(file: string) => Promise<void>> {
  const [{ n }] = await sql.query<{ n: number }>(
    `select count(*)::int as n from pg_class c where relnamespace = current_schema()::regnamespace
       and relkind in ('r', 'p', 'v', 'm', 'f') and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')`,
  );
  if (n > 0)
    throw new TwinmeshError(
      'conflict',
      `The database of DATABASE_URL is not empty (${n} tables and views). Make a new one (createdb) and point DATABASE_URL at it.`,
    );
  const program = await findProgram('pg_restore', await majorOf(sql));
  const { PGDATABASE = '', ...env } = libpqEnv(url, program.major);
  return async (file) => {
    const folder = fs.mkdtempSync(path.join(tmpdir(), 'twinmesh-restore-'));
    try {
      const listed = await run(program.file, ['--list', file], {});
      if (listed.code !== 0) throw new TwinmeshError('bad_request', `pg_restore: ${listed.faults.trim()}`);
      // Without the rows of `settings` no node can start on what is not whole yet.
      const list = path.join(folder, 'list');
      fs.writeFileSync(
        list,
        listed.out.replace(
          /^.* (TABLE DATA \S+ settings|EXTENSION - timescaledb|COMMENT - EXTENSION timescaledb) .*$/gm,
          '',
        ),
      );
      const how = ['--single-transaction', '--exit-on-error', '--no-owner', '--no-privileges', '--no-password'];
      const into = `--dbname=dbname='${PGDATABASE.replace(/[\\']/g, '\\$&')}'`;
      if (timescale !== null) await beforeTimescale(sql, timescale);
      const { code, faults } = await run(program.file, [...how, `--use-list=${list}`, into, file], env);
      if (timescale !== null) await sql.query('select timescaledb_post_restore()');
      if (code !== 0) throw new TwinmeshError('store_down', `pg_restore failed: ${faults.trim()}`);
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** TimescaleDB's own procedure: the same version of the extension first, and its background jobs at rest meanwhile. */
async function beforeTimescale(sql: Sql, version: string): Promise<void> {
  await sql.exec(`create extension if not exists timescaledb version '${version.replaceAll("'", "''")}'`);
  const found = await findTimescale(sql);
  if (found?.version !== version)
    throw new TwinmeshError(
      'conflict',
      `The backup has TimescaleDB ${version}, the database ${found?.version}: restore into the same version, then upgrade.`,
    );
  await sql.query('select timescaledb_pre_restore()');
}

/**
 * The last step of a restore, in one statement: what belonged to the cluster that was backed up is forgotten, and the
 * settings make the database one that nodes start on.
 *
 * Positions begin anew, although the runtime notices by itself that the log is another one: it would then read from a
 * time on, and the clock of the new server may be behind that of the old one. Reading from the beginning needs no clock,
 * and what had been committed is recognised. The reading under suspicion is named by its position: it goes as well.
 */
export async function settle(sql: Sql, settings: Manifest['settings']): Promise<void> {
  await sql.query(
    `with shards_free as (
       update shards set owner = null, attempts = 0, position = 0, position_id = null, position_at = null),
     nodes_gone as (delete from nodes),
     suspects_gone as (delete from sink_cursors where sink = '~suspect')
     insert into settings (name, value) select name, value from jsonb_to_recordset($1::jsonb) as s(name text, value jsonb)
     on conflict (name) do nothing`,
    [JSON.stringify(settings)],
  );
}
