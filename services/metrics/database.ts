import { Gauge, type Registry } from 'prom-client';
import type { Clock } from '../../actors/protocol/clock.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { glance } from './glance.ts';

/**
 * What the database says about itself, about open alerts and about how fresh each kind is. Only what a role without
 * special rights may see; every node asks, so that queries take the maximum over nodes.
 */
export interface DatabaseOptions {
  registry: Registry;
  clock: Clock;
  sql: Pick<Sql, 'query'>;
  onFailure(): void;
  keepMs?: number;
}

interface Look {
  database: Record<keyof typeof FIGURES, number>;
  alerts: { kind: string; severity: string; state: string; alerts: number }[];
  fresh: { kind: string; age: number }[];
}

/** Gauges, because the server counts since its own reset and not since our start; `rate` works on them as on counters. */
const FIGURES = {
  connections: ['twinmesh_database_connections', 'Connections to the database server, of everybody.'],
  connectionsMax: ['twinmesh_database_connections_max', 'Connections that the database server allows.'],
  bytes: ['twinmesh_database_bytes', 'Size of the database on disk.'],
  commits: ['twinmesh_database_commits', 'Transactions committed since the statistics were reset.'],
  rollbacks: ['twinmesh_database_rollbacks', 'Transactions rolled back since the statistics were reset.'],
  blocksHit: ['twinmesh_database_blocks_hit', 'Blocks found in the cache of the server.'],
  blocksRead: ['twinmesh_database_blocks_read', 'Blocks read from disk.'],
  inserted: ['twinmesh_database_rows_inserted', 'Rows inserted.'],
  updated: ['twinmesh_database_rows_updated', 'Rows updated.'],
  deleted: ['twinmesh_database_rows_deleted', 'Rows deleted.'],
  deadlocks: ['twinmesh_database_deadlocks', 'Deadlocks since the statistics were reset.'],
  temporaryBytes: ['twinmesh_database_temporary_bytes', 'Bytes that queries wrote to temporary files.'],
  deadRows: ['twinmesh_database_dead_rows', 'Dead rows of the ownership tables that vacuum has not cleared.'],
} as const;

export function watchDatabase(options: DatabaseOptions): void {
  const { registry, sql } = options;
  const latest = glance<Look>({
    clock: options.clock,
    look: () => lookAt(sql),
    onFailure: options.onFailure,
    keepMs: options.keepMs ?? 10_000,
  });
  const gauge = (name: string, help: string, labelNames: string[], fill: (gauge: Gauge, look: Look) => void): void => {
    const made: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      async collect() {
        const seen = await latest();
        made.reset();
        if (seen) fill(made, seen);
      },
    });
  };
  for (const [figure, [name, help]] of Object.entries(FIGURES)) {
    gauge(name, help, [], (g, { database }) => g.set(database[figure as keyof typeof FIGURES]));
  }
  gauge('twinmesh_alerts', 'Alerts that are not resolved.', ['kind', 'severity', 'state'], (g, { alerts }) => {
    for (const { alerts: count, ...labels } of alerts) g.set(labels, count);
  });
  gauge('twinmesh_freshness_seconds', 'Since the newest reading of a kind was received.', ['kind'], (g, { fresh }) => {
    for (const { kind, age } of fresh) g.set({ kind }, age);
  });
}

async function lookAt(sql: Pick<Sql, 'query'>): Promise<Look> {
  const [database] = await sql.query<Look['database']>(
    `select (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as connections,
       current_setting('max_connections')::int as "connectionsMax", pg_database_size(current_database())::float8 as bytes,
       xact_commit::float8 as commits, xact_rollback::float8 as rollbacks, blks_hit::float8 as "blocksHit",
       blks_read::float8 as "blocksRead", tup_inserted::float8 as inserted, tup_updated::float8 as updated,
       tup_deleted::float8 as deleted, deadlocks::float8, temp_bytes::float8 as "temporaryBytes",
       (select coalesce(sum(n_dead_tup), 0)::float8 from pg_stat_user_tables where relname in ('shards', 'nodes', 'twins')) as "deadRows"
     from pg_stat_database where datname = current_database()`,
  );
  const alerts = await sql.query<Look['alerts'][number]>(
    `select kind, severity, state, count(*)::int as alerts from alerts where state in ('raised', 'acknowledged') group by 1, 2, 3`,
  );
  const fresh = await sql.query<Look['fresh'][number]>(
    `select kind, extract(epoch from now() - max(received_at))::float8 as age from twins where not retired group by 1`,
  );
  return { database, alerts, fresh };
}
