import type { SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';

/**
 * Rows as a Parquet file (snappy), piece by piece.
 *
 *  1 Memory holds one row group and the footer's entries of those before (a few hundred bytes a column and group).
 *  2 A group is encoded in one go, about 5 ms for 1,000 rows of ten columns: groups are kept small, because whatever else the
 *    process does waits for it.
 */
export interface ParquetColumn<Row> {
  name: string;
  type: keyof typeof TYPES;
  /** No value is ever null. */
  required?: true;
  /** TIMESTAMP: milliseconds; INT64 and DOUBLE: a number. */
  of(row: Row): string | number | null | undefined;
}

export interface RowGroupOptions<Row> {
  /** A group is closed when it has so many rows. */
  rows: number;
  /** Rows that answer the same stay in one group, up to `most` rows. */
  together?: (row: Row) => unknown;
  most?: number;
  /** Sentences that the file carries as its metadata `notes`, asked for at its end. */
  notes?: () => readonly string[];
}

const TYPES = {
  STRING: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
  INT64: { type: 'INT64' },
  DOUBLE: { type: 'DOUBLE' },
  // Milliseconds since the epoch, in UTC.
  TIMESTAMP: { type: 'INT64', converted_type: 'TIMESTAMP_MILLIS' },
} as const satisfies Record<string, Pick<SchemaElement, 'type' | 'converted_type'>>;

export async function* parquetOf<Row>(
  columns: readonly ParquetColumn<Row>[],
  batches: AsyncIterable<readonly Row[]>,
  { rows: wanted, together, most = wanted * 4, notes }: RowGroupOptions<Row>,
): AsyncGenerator<Uint8Array, void, void> {
  const out = new ByteWriter();
  const writer = new ParquetWriter({
    writer: out,
    schema: schemaOf(columns),
    // Whole values, so that a reader can tell which group an id is in.
    statisticsTruncateLength: Number.POSITIVE_INFINITY,
    createdBy: 'twinmesh',
  });
  let group: unknown[][] = columns.map(() => []);
  let count = 0;
  let last: unknown;
  const flush = (): Uint8Array => {
    const columnData = columns.map(({ name }, i) => ({ name, data: group[i], offsetIndex: false }));
    const written = writer.write({ columnData, rowGroupSize: count });
    // It answers a promise only where its writer has an asynchronous flush.
    if (written !== undefined) throw new Error('The Parquet writer has become asynchronous.');
    group = columns.map(() => []);
    count = 0;
    return taken(out);
  };
  for await (const batch of batches) {
    for (const row of batch) {
      const key = together?.(row);
      if (count >= wanted && (together === undefined || key !== last || count >= most)) yield flush();
      last = key;
      for (let i = 0; i < columns.length; i++) group[i].push(cellOf(columns[i], row));
      count++;
    }
  }
  if (count > 0) yield flush();
  const said = notes?.() ?? [];
  if (said.length > 0) writer.kvMetadata = [{ key: 'notes', value: said.join('\n') }];
  await writer.finish();
  yield taken(out);
}

function cellOf<Row>({ type, of }: ParquetColumn<Row>, row: Row): unknown {
  const value = of(row) ?? null;
  return type === 'INT64' && value !== null ? BigInt(value) : value;
}

function schemaOf<Row>(columns: readonly ParquetColumn<Row>[]): SchemaElement[] {
  return [
    { name: 'root', num_children: columns.length },
    ...columns.map(({ name, type, required }) => ({
      name,
      ...TYPES[type],
      repetition_type: required ? ('REQUIRED' as const) : ('OPTIONAL' as const),
    })),
  ];
}

/** What has been written since the last time; its place in the buffer is used again. */
function taken(out: ByteWriter): Uint8Array {
  const bytes = out.getBytes().slice();
  out.index = 0;
  return bytes;
}
