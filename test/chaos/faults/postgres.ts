import { setTimeout as sleep } from 'node:timers/promises';
import { connected } from '../audit.ts';
import { between, type Fault, pick } from '../fault.ts';

/** What happens to the database alone: it restarts, throws sessions out, loses an answer, or somebody holds a snapshot open. */
const LARGE_BYTES = 1_500;

export const POSTGRES_FAULTS: readonly Fault[] = [
  {
    name: 'immediate restart',
    target: 'postgres',
    async inject({ mesh }) {
      const startedAt = performance.now();
      await mesh.servers.postgres.restart('SIGQUIT');
      return `${Math.round(performance.now() - startedAt)} ms`;
    },
  },
  {
    name: 'pg_terminate_backend',
    target: 'postgres',
    async inject({ mesh }) {
      const [{ count }] = await mesh.audit.query<{ count: number }>(
        `select count(pg_terminate_backend(pid))::int as count from pg_stat_activity
         where application_name like 'twinmesh%' and datname = current_database()`,
      );
      return `${count} sessions`;
    },
  },
  {
    name: 'cut after the commit was sent',
    target: 'postgres',
    async inject({ mesh, random }) {
      const node = pick(
        mesh.withRole('host').filter((host) => host.running),
        random,
      );
      const relay = node.link.relays.get('postgres');
      if (!relay) throw new Error(`${node.name} reaches PostgreSQL without a relay.`);
      const cut = await Promise.race([relay.cutAfterNextLarge(LARGE_BYTES), sleep(5_000, 'none')]);
      relay.disarm();
      if (cut === 'none') throw new Error(`${node.name} sent nothing of ${LARGE_BYTES} bytes within 5 s.`);
      return node.name;
    },
  },
  {
    name: 'open snapshot elsewhere',
    target: 'postgres',
    async inject({ mesh, random }) {
      const ms = between(4_000, 6_000, random);
      const client = await connected(mesh.servers.databaseUrl);
      await client.query('begin isolation level repeatable read');
      await client.query('select count(*) from shards');
      await sleep(ms);
      await client.query('rollback');
      await client.end();
      return `${Math.round(ms)} ms`;
    },
  },
];
