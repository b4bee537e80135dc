import { JetStreamLog } from '../actors/log/jetstream.ts';
import type { Log } from '../actors/log/port.ts';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import type { Sql } from '../actors/store/sql.ts';
import type { Settings } from '../config/settings.ts';
import { livingNodes } from './living-nodes.ts';

/**
 * Which log the positions in this database belong to. Nodes of one database that read different logs would each acknowledge
 * what the others never read; a node that goes back to a log in memory would move positions past messages that were
 * acknowledged and not read yet. Both are refused at start.
 */
const READ = `select value->>'is' as is from settings where name = 'log'`;
const WRITE = `insert into settings (name, value) values ('log', jsonb_build_object('is', $1::text))
  on conflict (name) do update set value = excluded.value`;
const MEMORY = 'memory';

export function identityOf(log: Log): string {
  return log instanceof JetStreamLog ? `jetstream ${log.made}` : MEMORY;
}

/** Throws `conflict`. Takes half a ttl where the log is another one than the database knows. */
export async function claimLog(sql: Sql, log: Log, { nodeId, ttlMs }: Settings): Promise<void> {
  const identity = identityOf(log);
  const [known] = await sql.query<{ is: string }>(READ);
  if (known?.is === identity) return;
  if (known !== undefined) {
    const others = (await livingNodes(sql, ttlMs)).filter((node) => node !== nodeId);
    if (others.length > 0) {
      const message = `${others.join(', ')} serve this database with another log; all nodes need the same NATS_URL, or none.`;
      throw new TwinmeshError('conflict', message);
    }
    if (identity === MEMORY) {
      const message =
        'This database was served by a mesh, whose log may hold what was acknowledged and not read yet. Set NATS_URL; or, once twinmesh_log_lag_readings is 0, delete the row "log" of the table settings and start again.';
      throw new TwinmeshError('conflict', message);
    }
  }
  await recordLog(sql, identity);
}

export async function recordLog(sql: Sql, identity: string): Promise<void> {
  await sql.query(WRITE, [identity]);
}
