import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { type ArchivedFile, archivedDays, archivedFiles } from '../../actors/store/queries/archive.ts';
import { compareRows, type HistoryRow, setOfRow } from '../../actors/store/queries/history-table.ts';
import type { OlderReadings, OlderTwin } from '../../actors/store/queries/older.ts';
import { mergeRows } from '../../actors/store/queries/readings.ts';
import { DAY_MS, floorTo, type Span } from '../../actors/store/queries/span.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';
import { openParquet, type ParquetFile } from '../parquet/parquet-reader.ts';

/**
 * Archived history, read again.
 *
 *  1 Of a file only its footer and the row groups are read that may hold the twin and the span; what was read last is kept,
 *    bounded in rows, because the next twin is often in the same group.
 *  2 A file that is missing or damaged is noted and left out; the answer goes on.
 *  3 Only files that the database has in its books are read: what a crash left lying about is not there.
 */
const KEPT_FILES = 200;
const KEPT_ROWS = 200_000;
const MOST_NOTES = 20;
const WINDOW_MS = 32 * DAY_MS;

export class Archive {
  readonly #sql: Sql;
  readonly #objects: ObjectStore;
  readonly #files = new Map<string, Promise<ParquetFile>>();
  readonly #groups = new Map<string, Promise<HistoryRow[]>>();
  #rows = 0;

  constructor(sql: Sql, objects: ObjectStore) {
    this.#sql = sql;
    this.#objects = objects;
  }

  /** For one request: it collects its own notes. */
  reader(): OlderReadings {
    const notes = new Set<string>();
    return {
      get notes() {
        return [...notes];
      },
      readings: (kind, twin, span, descending) =>
        this.#readings(kind, twin, span, descending, (note) => {
          if (notes.size < MOST_NOTES) notes.add(note);
        }),
    };
  }

  close(): void {
    this.#objects.close();
  }

  async *#readings(
    kind: Kind,
    twin: OlderTwin,
    span: Partial<Span>,
    descending: boolean,
    note: (text: string) => void,
  ): AsyncGenerator<HistoryRow, void, void> {
    const compare = (a: HistoryRow, b: HistoryRow) => (descending ? compareRows(b, a) : compareRows(a, b));
    for await (const files of this.#fileDays(kind, twin, span, descending)) {
      yield* mergeRows(
        files.map((file) => this.#rowsOf(file, kind, twin, span, descending, note)),
        compare,
      );
    }
  }

  /** The files of one day after the other. The book is read some weeks at a time: most questions end in the first. */
  async *#fileDays(
    kind: Kind,
    twin: OlderTwin,
    span: Partial<Span>,
    descending: boolean,
  ): AsyncGenerator<ArchivedFile[], void, void> {
    const days = await archivedDays(this.#sql, kind.kind);
    if (days === null) return;
    const from = floorTo(Math.max(span.from ?? 0, days.first), DAY_MS);
    const to = Math.min(span.to ?? Number.POSITIVE_INFINITY, days.last + DAY_MS);
    const windows: Span[] = [];
    for (let at = from; at < to; at += WINDOW_MS) windows.push({ from: at, to: Math.min(to, at + WINDOW_MS) });
    for (const window of descending ? windows.reverse() : windows) {
      const byDay = Map.groupBy(await archivedFiles(this.#sql, kind.kind, window, twin.id), ({ day }) => day.getTime());
      const order = [...byDay.keys()].sort((a, b) => (descending ? b - a : a - b));
      for (const day of order) yield byDay.get(day)!;
    }
  }

  async *#rowsOf(
    file: ArchivedFile,
    kind: Kind,
    twin: OlderTwin,
    span: Partial<Span>,
    descending: boolean,
    note: (text: string) => void,
  ): AsyncGenerator<HistoryRow, void, void> {
    const { from = 0, to = Number.POSITIVE_INFINITY } = span;
    const name = `${kind.kind}:${twin.id}`;
    try {
      const { groups } = await this.#open(file);
      const wanted = groups.flatMap(({ bounds }, index) => {
        const [first, last] = bounds('twin_id') ?? [name, name];
        const [lo, hi] = bounds('at') ?? [0, to];
        return (first as string) <= name && name <= (last as string) && Number(lo) < to && Number(hi) >= from
          ? [index]
          : [];
      });
      for (const index of descending ? wanted.reverse() : wanted) {
        const rows = await this.#group(file, index, kind);
        for (let i = 0; i < rows.length; i++) {
          const row = rows[descending ? rows.length - 1 - i : i];
          const at = row.at.getTime();
          // The twin's number is the database's; a database that was set up anew has given it another.
          if (row.twin_id === name && at >= from && at < to) yield { ...row, twin: twin.twin };
        }
      }
    } catch (error) {
      this.#files.delete(file.key);
      note(noteOf(file, error));
    }
  }

  async #open(file: ArchivedFile): Promise<ParquetFile> {
    const { key, bytes, rows } = file;
    const open = async () => {
      const opened = await openParquet(this.#objects, key, bytes);
      if (opened.rows !== rows) throw new Error(`it has ${opened.rows} rows instead of ${rows}`);
      return opened;
    };
    return await kept(this.#files, key, open, () => {
      while (this.#files.size > KEPT_FILES) this.#files.delete(this.#files.keys().next().value!);
    });
  }

  async #group(file: ArchivedFile, index: number, kind: Kind): Promise<HistoryRow[]> {
    const key = `${file.key}#${index}`;
    const read = async () => {
      const { read } = await this.#open(file);
      const rows = (await read(index)).map((row) => rowOf(kind, row));
      this.#rows += rows.length;
      return rows;
    };
    return await kept(this.#groups, key, read, async () => {
      for (const [oldest, rows] of this.#groups) {
        if (this.#rows <= KEPT_ROWS || oldest === key) return;
        this.#groups.delete(oldest);
        this.#rows -= (await rows.catch(() => [])).length;
      }
    });
  }
}

/** The value under a key, made once; the last used stays longest, and what failed does not stay. */
async function kept<Value>(
  map: Map<string, Promise<Value>>,
  key: string,
  make: () => Promise<Value>,
  trim: () => void | Promise<void>,
): Promise<Value> {
  const found = map.get(key);
  if (found !== undefined) {
    map.delete(key);
    map.set(key, found);
    return await found;
  }
  const made = make();
  map.set(key, made);
  try {
    const value = await made;
    await trim();
    return value;
  } catch (error) {
    if (map.get(key) === made) map.delete(key);
    throw error;
  }
}

/** Throws where a row cannot have been written by the archiver. */
function rowOf(kind: Kind, row: Record<string, unknown>): HistoryRow {
  if (!(row.at instanceof Date) || !(row.received_at instanceof Date) || typeof row.twin_id !== 'string')
    throw new Error('a row has no time or no twin');
  const out: Record<string, unknown> = { ...row, twin: 0, revision: numberOf(row.revision), seq: numberOf(row.seq) };
  for (const name of ['key', 'sensor', 'unit', 'metric_set']) out[name] = row[name] ?? null;
  for (const name of kind.openMetrics ? [] : kind.metricNames) out[name] = row[name] ?? null;
  out.o_set = setOfRow(kind, out);
  return out as HistoryRow;
}

function numberOf(value: unknown): number | null {
  return value === null || value === undefined ? null : Number(value);
}

function noteOf(file: ArchivedFile, error: unknown): string {
  const day = file.day.toISOString().slice(0, 10);
  const { code } = error instanceof TwinmeshError ? error : { code: 'damaged' };
  const fault =
    code === 'not_found'
      ? 'is missing'
      : code === 'unavailable'
        ? 'cannot be reached'
        : `is damaged (${messageOf(error).slice(0, 120)})`;
  return `${file.key} ${fault}: what it has of ${day} is left out.`;
}
