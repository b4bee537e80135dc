import { identityOf } from '../protocol/reading.ts';
import type { HistoryRow, JournalReading, Store } from '../store/port.ts';
import { count, type Deferred, type FoldingContext, journalReading } from './folding.ts';
import type { Part } from './part.ts';

/**
 * Readings older than the lateness window, decided by history: one set-based query a kind and cut.
 *
 * Invariants:
 *  1  Everything folded or stored before is seen: the caller has waited for the commit under way, and what this very part
 *     already holds is looked at here.
 *  2  Unknown ones are stored without a revision and never folded.
 */
export async function decideLate(
  store: Pick<Store, 'lookup'>,
  deferred: readonly Deferred[],
): Promise<Map<string, HistoryRow[]>> {
  const known = new Map<string, HistoryRow[]>();
  const wanted = new Map<string, { twin: number; at: number }[]>();
  const asked = new Set<string>();
  for (const { activation, reading } of deferred) {
    const key = `${activation.key}@${reading.at}`;
    if (asked.has(key)) continue;
    asked.add(key);
    const list = wanted.get(reading.kind);
    if (list) list.push({ twin: activation.key, at: reading.at });
    else wanted.set(reading.kind, [{ twin: activation.key, at: reading.at }]);
  }
  for (const [kind, list] of wanted) {
    for (const row of await store.lookup(kind, list)) remember(known, row);
  }
  return known;
}

/** Gives each deferred reading of a part its outcome and stores the unknown. */
export function applyLate(
  part: Part,
  deferred: readonly Deferred[],
  known: Map<string, HistoryRow[]>,
  context: FoldingContext,
): void {
  const twins = new Set(deferred.map(({ activation }) => activation.key));
  for (const row of part.readings) if (twins.has(row.twin)) remember(known, row);
  for (const { activation, reading, receivedAt, outcomes, index } of deferred) {
    const identity = identityOf(reading);
    const same = known
      .get(`${activation.key}@${reading.at}`)
      ?.find((row) => identityOf(asReading(row, reading.kind)) === identity);
    if (same) {
      const outcome = sameValues(same.values, reading.values) ? 'duplicate' : 'conflicting_duplicate';
      outcomes[index] = outcome;
      count(part, activation, outcome, context);
      continue;
    }
    const row = journalReading(part.shard.shard, activation.key, reading, null, receivedAt);
    part.readings.push(row);
    part.backfilled++;
    // counted beside the state, which a backfill does not touch
    activation.counts.backfilled++;
    context.counters.backfilled++;
    remember(known, row);
    outcomes[index] = 'backfill';
  }
}

function remember(known: Map<string, HistoryRow[]>, row: HistoryRow | JournalReading): void {
  const key = `${row.twin}@${row.at}`;
  const rows = known.get(key);
  if (rows) rows.push(row);
  else known.set(key, [row]);
}

function asReading(row: HistoryRow, kind: string) {
  return {
    kind,
    id: '',
    at: row.at,
    values: row.values,
    ...(row.key !== null ? { key: row.key } : {}),
    ...(row.seq !== null ? { seq: row.seq } : {}),
    ...(row.sensor !== null ? { sensor: row.sensor } : {}),
  };
}

function sameValues(a: Record<string, number>, b: Record<string, number>): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
