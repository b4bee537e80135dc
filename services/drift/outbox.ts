import type { Sql } from '../../actors/store/sql.ts';
import type { DriftTold } from './message.ts';
import type { DriftChange } from './report.ts';

/**
 * What is to be said of drift, from when it is judged until everybody who is to hear of it has taken it.
 *
 *  1 A state and what is to be said of its change are written in one statement: neither is there without the other.
 *  2 A sink leaves `waits` after it has taken it, so each takes it at least once. It is the same then: `event_id` follows from the row.
 *  3 A sink gets what there is in the order it was judged in. What it does not take holds up what comes after it, for that sink alone.
 *
 * Owns the rows. Does not own how a sink is reached (drift.service.ts).
 */
export const DRIFT_SINKS = ['live', 'notify', 'kafka', 'mqtt'] as const;
export type DriftSink = (typeof DRIFT_SINKS)[number];

export interface StateBefore {
  version: string;
  score: number;
  drifting: boolean;
}

export interface StateChange {
  change: DriftChange;
  /** As it was read; undefined where there was none. Where it is not so any more nothing is written. */
  before: StateBefore | undefined;
  /** Version that the state is of from now on. */
  version: string;
  /** Whether anybody hears of it. */
  told: boolean;
}

/** True where it was written. Of two that judge at once one writes. Throws store_down. */
export async function changeState(sql: Sql, of: StateChange, nowMs: number): Promise<boolean> {
  const { change, before, version, told } = of;
  const { model, input, kind, psi, drifting, reason } = change;
  const written = await sql.query(
    `with changed as (
       insert into drift_states (model, input, version, kind, score, drifting, since, judged_at) values ($1, $2, $3, $4, $5, $6, $7, $7)
       on conflict (model, input) do update set version = excluded.version, kind = excluded.kind, score = excluded.score,
         drifting = excluded.drifting, since = excluded.since, judged_at = excluded.judged_at
         where drift_states.version = $8::text and drift_states.drifting = $9::boolean
       returning model, input, drifting),
     said as (
       insert into drift_outbox (model, version, kind, input, psi, drifting, reason, at, waits)
       select model, $10::text, $4, input, $11::float8, drifting, $12::text, $7, $13::text[] from changed where $14::boolean)
     select model from changed`,
    [
      model,
      input,
      version,
      kind,
      psi ?? before?.score ?? 0,
      drifting,
      new Date(nowMs),
      before?.version ?? null,
      before?.drifting ?? null,
      change.version,
      psi,
      reason,
      [...DRIFT_SINKS],
      told,
    ],
  );
  return written.length > 0;
}

const AT_ONCE = 100;

/**
 * Tells each sink what it has not taken yet, and answers which of them failed, and how. `tell` resolves when it was taken. Throws
 * what the database throws.
 */
export async function passOn(
  sql: Sql,
  tell: (sink: DriftSink, told: DriftTold) => Promise<void>,
): Promise<Map<DriftSink, unknown>> {
  const failed = new Map<DriftSink, unknown>();
  const pass = async (sink: DriftSink) => {
    const rows = await sql.query<Omit<DriftTold, 'at'> & { id: number; at: Date }>(
      `select id, model, version, kind, input, psi, drifting, reason, at from drift_outbox where $1 = any(waits) order by id limit ${AT_ONCE}`,
      [sink],
    );
    for (const { id, at, ...said } of rows) {
      try {
        await tell(sink, { ...said, at: at.getTime() });
      } catch (error) {
        failed.set(sink, error);
        return;
      }
      await sql.query('update drift_outbox set waits = array_remove(waits, $2::text) where id = $1', [id, sink]);
    }
  };
  const passed = await Promise.allSettled(DRIFT_SINKS.map(pass));
  for (const one of passed) if (one.status === 'rejected') throw one.reason;
  return failed;
}

/** Forgets what is older, taken or not, and answers how many rows somebody has not taken. */
export async function forgetTold(sql: Sql, beforeMs: number): Promise<number> {
  const gone = await sql.query<{ waits: string[] }>('delete from drift_outbox where at < $1 returning waits', [
    new Date(beforeMs),
  ]);
  return gone.filter(({ waits }) => waits.length > 0).length;
}
