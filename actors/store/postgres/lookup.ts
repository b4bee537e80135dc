import { TwinmeshError } from '../../protocol/errors.ts';
import type { Kind } from '../../protocol/kind.ts';
import type { HistoryRow } from '../port.ts';
import type { Sql } from '../sql.ts';
import { narrowValues, type ReadingRow, readingColumns, wideValues } from './journal.ts';
import { Batch, Parameters, prepared } from './statement.ts';

/** History rows at the given (twin, at): one descent of the index for each. */
export async function lookup(
  sql: Sql,
  kinds: ReadonlyMap<string, Kind>,
  kindName: string,
  wanted: readonly { twin: number; at: number }[],
): Promise<HistoryRow[]> {
  const kind = kinds.get(kindName);
  if (!kind) throw new TwinmeshError('unknown_kind', `There is no kind "${kindName}".`);
  if (wanted.length === 0) return [];
  const parameters = new Parameters();
  const batch = new Batch(parameters, wanted.length)
    .int8('twin', (i) => wanted[i].twin)
    .timestamp('at', (i) => wanted[i].at);
  const text = `
    select r.* from (select distinct twin, at from ${batch.from('w')}) w cross join lateral (
       select ${readingColumns(kind)} from ${kind.kind}_readings r where r.twin = w.twin and r.at = w.at offset 0) r`;
  const rows = await sql.query<ReadingRow>(text, parameters.values, prepared(text, true));
  return kind.openMetrics ? mergeRows(rows) : rows.map((row) => historyRowOf(row, wideValues(kind, row)));
}

/** Rows of one reading: of one revision, or of one identity where it was stored as backfill. */
function mergeRows(rows: readonly ReadingRow[]): HistoryRow[] {
  const groups = new Map<string, ReadingRow[]>();
  for (const row of rows) {
    const set = row.metricSet ?? row.metric;
    const name =
      row.revision !== null
        ? `${row.twin} ${row.revision}`
        : JSON.stringify([row.twin, row.at, row.key, row.seq, row.sensor, set]);
    const group = groups.get(name);
    if (group) group.push(row);
    else groups.set(name, [row]);
  }
  return [...groups.values()].map((group) => historyRowOf(group[0], narrowValues(group)));
}

function historyRowOf(row: ReadingRow, values: Record<string, number>): HistoryRow {
  return { twin: row.twin, at: Math.round(row.at), key: row.key, seq: row.seq, sensor: row.sensor, values };
}
