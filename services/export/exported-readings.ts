import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { type ExportQuery, exportCsv, exportedNames, exportPages } from '../../actors/store/queries/export.ts';
import type { HistoryRow } from '../../actors/store/queries/history-table.ts';
import type { OlderReadings } from '../../actors/store/queries/older.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { type ParquetColumn, parquetOf } from '../parquet/parquet-writer.ts';

/** Readings as a file: CSV, or Parquet with typed columns. */
export const FORMATS = {
  csv: { type: 'text/csv; charset=utf-8', ending: 'csv' },
  parquet: { type: 'application/vnd.apache.parquet', ending: 'parquet' },
} as const;
export type Format = keyof typeof FORMATS;

/** Rows of a row group: about 40 ms of a processor to encode. */
const GROUP_ROWS = 8_192;
const MOST_TWINS = 1_000;

/** How the outside calls the id of an asset of this kind. */
export function idColumnOf(kind: Kind): string {
  return kind.prometheusLabel ?? `${kind.kind}_id`;
}

/**
 * The file, piece by piece; `told` hears how many rows each page had. Throws `bad_request` before the first piece.
 */
export function exportedFile(
  format: Format,
  sql: Sql,
  kind: Kind,
  query: ExportQuery,
  older: OlderReadings | null,
  told: (rows: number) => void = () => undefined,
): AsyncGenerator<string | Uint8Array, void, void> {
  if (format === 'csv') return exportCsv(sql, kind, { ...query, idColumn: idColumnOf(kind), told }, older);
  const rows = async function* () {
    for await (const page of exportPages(sql, kind, query, older)) {
      told(page.rows.length);
      yield page.rows.map((row): ExportedRow => ({ id: page.id, row }));
    }
  };
  return parquetOf(columnsOf(kind, query.metric), rows(), { rows: GROUP_ROWS, notes: () => older?.notes ?? [] });
}

interface ExportedRow {
  id: string;
  row: HistoryRow;
}

function columnsOf(kind: Kind, metric: string | undefined): ParquetColumn<ExportedRow>[] {
  const TYPES: Record<string, 'STRING' | 'DOUBLE'> = kind.openMetrics ? { metric: 'STRING', unit: 'STRING' } : {};
  return [
    { name: idColumnOf(kind), type: 'STRING', required: true, of: ({ id }) => id },
    { name: 'timestamp', type: 'TIMESTAMP', required: true, of: ({ row }) => row.at.getTime() },
    ...exportedNames(kind, metric).map(
      (name): ParquetColumn<ExportedRow> => ({
        name,
        type: TYPES[name] ?? 'DOUBLE',
        of: ({ row }) => row[name] as string | number | null,
      }),
    ),
  ];
}

/** Ids out of a list separated by commas, each `id` or `kind:id`. Throws `bad_request`. */
export function idsOf(kind: string, twins: string): string[] {
  const ids = [...new Set(twins.split(',').map((text) => text.trim()))].filter((text) => text !== '');
  if (ids.length === 0 || ids.length > MOST_TWINS)
    throw new TwinmeshError('bad_request', `twins: 1 to ${MOST_TWINS} ids, separated by commas.`);
  return ids.map((text) => {
    const [of, id] = text.includes(':')
      ? [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)]
      : [kind, text];
    if (of !== kind)
      throw new TwinmeshError(
        'bad_request',
        `twins: "${text.slice(0, 100)}" is not of the kind ${kind}; a file holds one kind.`,
      );
    return id;
  });
}
