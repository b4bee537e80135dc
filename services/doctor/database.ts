import { messageOf } from '../../actors/protocol/errors.ts';
import { Pg } from '../../actors/store/pg.ts';
import { type Sql, SqlError } from '../../actors/store/sql.ts';
import type { Settings } from '../../config/settings.ts';
import { databaseUrlOf } from '../parts.ts';
import { type Check, placeOf, type Tell } from './check.ts';

/** PostgreSQL itself: reachable, able, durable, and with room for our connections. Its tables are looked at elsewhere. */
const TESTED_MAJOR = 15;

export async function openPatientSql(settings: Settings): Promise<Sql> {
  return await Pg.open({
    url: databaseUrlOf(settings),
    maxConnections: 3,
    connectTimeoutMs: 5_000,
    statementTimeoutMs: 10_000,
    applicationName: `twinmesh doctor ${settings.nodeId}`,
  });
}

/** `failure`: why it could not be opened; null when it could. */
export function databaseCheck(failure: () => Promise<unknown | null>): Check {
  return {
    part: 'database',
    async look({ settings, sql }, tell) {
      if (settings.databaseUrl === null) {
        tell.ok('the embedded one, in the data folder');
        return;
      }
      const reason = await failure();
      const db = await sql();
      if (reason !== null || db === null) unreachable(settings.databaseUrl, reason, tell);
      else await server(db, settings, tell);
    },
  };
}

interface Facts {
  version: string;
  number: number;
  create: boolean;
  schema: string | null;
  user: string;
  superuser: boolean;
  replica: boolean;
  readOnly: string;
  synchronousCommit: string;
  fsync: string;
  fullPageWrites: string;
  maxConnections: number;
  reserved: number;
  used: number;
  timescale: string | null;
}

const FACTS = `select current_setting('server_version') as version, current_setting('server_version_num')::int as number,
  coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) as create, current_schema() as schema, current_user::text as user,
  (select rolsuper from pg_roles where rolname = current_user) as superuser,
  pg_is_in_recovery() as replica, current_setting('transaction_read_only') as "readOnly",
  current_setting('synchronous_commit') as "synchronousCommit", current_setting('fsync') as fsync,
  current_setting('full_page_writes') as "fullPageWrites", current_setting('max_connections')::int as "maxConnections",
  current_setting('superuser_reserved_connections')::int as reserved,
  (select coalesce(sum(numbackends), 0)::int from pg_stat_database) as used,
  (select extversion from pg_extension where extname = 'timescaledb') as timescale`;

async function server(db: Sql, settings: Settings, tell: Tell): Promise<void> {
  const startedAt = performance.now();
  await db.query('select 1');
  const tookMs = performance.now() - startedAt;
  const [facts] = await db.query<Facts>(FACTS);
  const place = placeOf(settings.databaseUrl as string, 5432);
  tell.ok(`PostgreSQL ${facts.version} at ${place} answers in ${tookMs.toFixed(1)} ms`);
  if (facts.number < TESTED_MAJOR * 10_000)
    tell.warning(
      `PostgreSQL ${facts.version} is older than what twinmesh is tested with`,
      `Upgrade to ${TESTED_MAJOR} or newer.`,
    );
  if (facts.replica || facts.readOnly === 'on')
    tell.fault('this server only reads', 'Point DATABASE_URL at the primary.');
  if (!facts.create)
    tell.fault(
      `${facts.user} may not create tables in the schema ${facts.schema ?? '(none)'}`,
      `As its owner: grant create, usage on schema ${facts.schema ?? 'public'} to "${facts.user}". Or let the owner migrate.`,
    );
  if (facts.superuser)
    tell.warning(`${facts.user} is a superuser`, 'Make a role for twinmesh that only owns its own database.');
  durability(facts, tell);
  connections(facts, settings, tell);
  if (facts.timescale === null) tell.ok('without TimescaleDB: plain tables, rollups kept by twinmesh');
  else tell.ok(`TimescaleDB ${facts.timescale}`);
}

function durability({ synchronousCommit, fsync, fullPageWrites }: Facts, tell: Tell): void {
  const off: string[] = [];
  if (synchronousCommit === 'off' || synchronousCommit === 'local') off.push(`synchronous_commit=${synchronousCommit}`);
  if (fsync === 'off') off.push('fsync=off');
  if (fullPageWrites === 'off') off.push('full_page_writes=off');
  if (off.length === 0) tell.ok(`commits are durable (synchronous_commit=${synchronousCommit}, fsync=on)`);
  else
    tell.warning(
      `${off.join(', ')}: what was acknowledged may be lost when the server's machine fails`,
      'Switch it on in postgresql.conf, or take it out of DATABASE_URL.',
    );
}

function connections({ maxConnections, reserved, used }: Facts, { databasePool }: Settings, tell: Tell): void {
  const open = maxConnections - reserved;
  const says = `${used} of ${open} connections are used, and this node may open ${databasePool}`;
  if (databasePool > open) tell.fault(says, 'Lower DATABASE_POOL, or raise max_connections.');
  else if (used + databasePool > open)
    tell.warning(says, 'The sum of DATABASE_POOL over all nodes must stay below: lower it, or raise max_connections.');
  else tell.ok(says);
}

const ANSWERS: Record<string, [string, string]> = {
  '28P01': ['the password is refused', 'Correct the password in DATABASE_URL or PG_PASSWORD.'],
  '28000': ['the role is refused', 'Look at the role in DATABASE_URL, and at pg_hba.conf of the server.'],
  '3D000': ['the database does not exist', 'Create it (createdb), or correct the name in DATABASE_URL.'],
  '53300': ['all connections are taken', 'Raise max_connections, or lower DATABASE_POOL of the nodes.'],
  '57P03': ['the server is starting', 'Wait, and look at its log.'],
};

function unreachable(url: string, reason: unknown, tell: Tell): void {
  const state = reason instanceof SqlError ? reason.sqlState : undefined;
  const known = state === undefined ? undefined : ANSWERS[state];
  const place = placeOf(url, 5432);
  if (known) tell.fault(`PostgreSQL at ${place}: ${known[0]}`, known[1]);
  else
    tell.fault(
      `PostgreSQL at ${place} cannot be used: ${messageOf(reason)}`,
      'Start it, or correct host, port and TLS in DATABASE_URL; telemetry waits in the log meanwhile.',
    );
}
