import type { Check } from './check.ts';

/** What other programs do to the database: an old transaction keeps dead rows of the ownership tables alive, and every checkpoint slows. */
const OLD_S = 10;
const MIB = 1_048_576;

interface Session {
  pid: number;
  who: string;
  state: string | null;
  seconds: number;
}

export function sessionsCheck(oldS = OLD_S): Check {
  return {
    part: 'sessions',
    applies: ({ databaseUrl }) => databaseUrl !== null,
    async look({ sql }, tell) {
      const db = await sql();
      if (db === null) return;
      const old = await db.query<Session>(
        `select pid, coalesce(nullif(application_name, ''), usename::text, 'unknown') as who, state,
         extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
       from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and xact_start < clock_timestamp() - make_interval(secs => $1)
       order by xact_start limit 5`,
        [oldS],
      );
      for (const { pid, who, state, seconds } of old)
        tell.warning(
          `${who} (pid ${pid}) has a transaction open for ${Math.round(seconds)} s${state?.startsWith('idle') ? ', idle' : ''}`,
          `Commit sooner, or end it: select pg_terminate_backend(${pid}). idle_in_transaction_session_timeout keeps it from coming back.`,
        );
      const [{ prepared }] = await db.query<{ prepared: number }>(
        'select count(*)::int as prepared from pg_prepared_xacts where database = current_database()',
      );
      if (prepared > 0)
        tell.warning(`${prepared} prepared transactions wait`, 'Finish them: commit prepared or rollback prepared.');
      const [bloat] = await db.query<{ bytes: number; shards: number; dead: number }>(
        `select coalesce(pg_total_relation_size(to_regclass('shards')), 0)::float8 as bytes,
         coalesce((select n_live_tup from pg_stat_user_tables where relid = to_regclass('shards')), 0)::float8 as shards,
         coalesce((select n_dead_tup from pg_stat_user_tables where relid = to_regclass('shards')), 0)::float8 as dead`,
      );
      if (bloat.bytes > Math.max(16 * MIB, bloat.shards * 32_768))
        tell.warning(
          `the ownership table takes ${Math.round(bloat.bytes / MIB)} MiB for ${bloat.shards} rows (${bloat.dead} dead)`,
          'End old transactions first, then: vacuum full shards (it stops checkpoints for a moment).',
        );
      if (old.length === 0) tell.ok(`no transaction is older than ${oldS} s`);
    },
  };
}

export const sessions: Check = sessionsCheck();
