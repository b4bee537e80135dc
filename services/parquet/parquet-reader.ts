import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import type { ObjectStore } from '../../mixins/object-store.ts';

/** A Parquet file in object storage, read row group by row group. What it throws says what is wrong with the file. */
export interface ParquetFile {
  readonly groups: readonly ParquetGroup[];
  readonly rows: number;
  /** The rows of a group, in the order of the file. TIMESTAMP: Date; INT64: bigint. */
  read(index: number): Promise<Record<string, unknown>[]>;
}

export interface ParquetGroup {
  rows: number;
  /** Least and greatest value of a column, as far as the footer tells. */
  bounds(column: string): readonly [unknown, unknown] | null;
}

/** A footer is read in one go where it is not longer. */
const FOOTER_BYTES = 65_536;

/** `bytes` is how long the file has to be. Throws `not_found`, `unavailable`, or what the footer's reader finds wrong. */
export async function openParquet(objects: ObjectStore, key: string, bytes: number): Promise<ParquetFile> {
  const file: AsyncBuffer = {
    byteLength: bytes,
    async slice(start, end = bytes) {
      const from = start < 0 ? Math.max(0, bytes + start) : start;
      const read = await objects.read(key, from, end);
      if (read.length !== end - from) throw new Error('it is shorter than it was');
      return read.buffer.byteLength === read.length
        ? (read.buffer as ArrayBuffer)
        : (read.slice().buffer as ArrayBuffer);
    },
  };
  const metadata = await parquetMetadataAsync(file, { initialFetchSize: Math.min(FOOTER_BYTES, bytes) });
  const groups = metadata.row_groups.map(
    (group): ParquetGroup => ({
      rows: Number(group.num_rows),
      bounds(column) {
        const chunk = group.columns.find(({ meta_data: meta }) => meta?.path_in_schema[0] === column);
        const { min_value: min, max_value: max } = chunk?.meta_data?.statistics ?? {};
        return min === undefined || max === undefined ? null : [min, max];
      },
    }),
  );
  const starts: number[] = [];
  let rows = 0;
  for (const group of groups) {
    starts.push(rows);
    rows += group.rows;
  }
  return {
    groups,
    rows,
    read: (index) => readGroup(file, metadata, starts[index], groups[index].rows),
  };
}

async function readGroup(
  file: AsyncBuffer,
  metadata: FileMetaData,
  rowStart: number,
  count: number,
): Promise<Record<string, unknown>[]> {
  const rows = await parquetReadObjects({ file, metadata, rowStart, rowEnd: rowStart + count });
  if (rows.length !== count) throw new Error(`it has ${rows.length} rows where its footer says ${count}`);
  return rows;
}
