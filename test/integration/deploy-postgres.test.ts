import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { NodeProcess, ROOT } from '../e2e/node-process.ts';
import { findPostgres } from '../servers/postgres.ts';

/** deploy/postgres on a real server: who may do what, and that nodes need no right to change the schema. */
const server = await findPostgres();
const kinds = (await loadKinds([])).all();

describe.skipIf(server === null)('roles of the database', () => {
  let superuser: string;
  let owner: Pg;
  let runtime: Pg;
  let reader: Pg;
  const asRole = (role: string) => {
    const url = new URL(superuser);
    url.username = `twinmesh_${role}`;
    url.password = `${role}pw`;
    return url.toString();
  };

  const psql = (...args: string[]) =>
    spawnSync('psql', ['-v', 'ON_ERROR_STOP=1', '-q', superuser, ...args], { encoding: 'utf8' });
  const roles = () =>
    psql(
      ...['owner', 'runtime', 'reader'].flatMap((role) => ['-v', `${role}_password=${role}pw`]),
      '-f',
      join(ROOT, 'deploy/postgres/roles.sql'),
    );

  beforeAll(async () => {
    superuser = await server!.database();
    for (let i = 0; i < 2; i++) expect(roles()).toMatchObject({ status: 0, stderr: '' });
    owner = await Pg.open({ url: asRole('owner') });
    runtime = await Pg.open({ url: asRole('runtime') });
    reader = await Pg.open({ url: asRole('reader') });
  });
  afterAll(async () => {
    for (const sql of [owner, runtime, reader]) await sql?.close();
    await server?.stop();
  });

  it('let only the owner make the schema', async () => {
    await expect(new PostgresStore(runtime).open(kinds, 16)).rejects.toThrow(/permission denied/);
  });

  it('are served by `migrate`, which the owner runs first and may run again', async () => {
    for (let i = 0; i < 2; i++) {
      const migrate = NodeProcess.run(
        ROOT,
        [join(ROOT, 'services/migrate-cli.ts'), '--grants', join(ROOT, 'deploy/postgres/grants.sql')],
        { DATABASE_URL: asRole('owner'), SHARDS: '16' },
      );
      expect(await migrate.ended(), migrate.output).toBe(0);
      expect(migrate.output).toMatch(/schema version \d+, 16 shards/);
    }
  });

  it('let a node open, claim and write without DDL', async () => {
    const statements: string[] = [];
    const watched = {
      query: (text: string, ...rest: never[]) => {
        statements.push(text);
        return runtime.query(text, ...rest);
      },
      exec: (text: string) => {
        statements.push(text);
        return runtime.exec(text);
      },
      close: async () => undefined,
    };
    const store = new PostgresStore(watched as never);
    await store.open(kinds, 16);
    await store.beat('n1');
    const claimed = await store.claim('n1', [{ shard: 0, owner: null, epoch: 0 } as never]);
    expect(claimed).toHaveLength(1);
    expect(statements.length).toBeGreaterThan(5);
    expect(statements.filter((text) => /\b(create|alter|drop|truncate|grant)\s/i.test(text))).toEqual([]);
  });

  const DDL = [
    'create table mine (x int)',
    'create temporary table mine (x int)',
    'drop table twins',
    'truncate events',
    'alter table twins add column x int',
    'create or replace function rollup_dirtied() returns trigger language plpgsql as $$ begin return null; end $$',
    'drop trigger machine_readings_backfill on machine_readings',
    'create role mine',
    'create schema mine',
    `copy (select 1) to program 'true'`,
    `select pg_read_file('/etc/passwd')`,
    `alter role twinmesh_runtime superuser`,
    'set role twinmesh_owner',
  ];

  it.each(DDL)('refuse to the runtime: %s', async (text) => {
    await expect(runtime.query(text)).rejects.toThrow(/permission denied|must be (owner|superuser|a member)/);
  });

  it('let the reader read, and nothing else', async () => {
    expect(await reader.query('select count(*)::int as n from shards')).toEqual([{ n: 16 }]);
    for (const table of ['keys', 'audit']) {
      await expect(reader.query(`select * from ${table}`)).rejects.toThrow(/permission denied/);
    }
    // Its transactions are read-only by default, which it could change; the rights hold without that.
    await expect(reader.query('delete from shards')).rejects.toThrow(/permission denied|read-only/);
    const session = await Pg.open({ url: asRole('reader') });
    try {
      await expect(
        session.exec('set default_transaction_read_only = off; set transaction_read_only = off; delete from shards'),
      ).rejects.toThrow(/permission denied/);
    } finally {
      await session.close();
    }
  });
});
