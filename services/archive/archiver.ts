import type { Clock } from '../../actors/protocol/clock.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import {
  type ArchivedFile,
  type ArchiveRow,
  type ArchiveTwin,
  archivedFiles,
  archiveState,
  daysWrittenSince,
  forget,
  forgetEmpty,
  type LateDay,
  lateDays,
  oldestReading,
  readingsToArchive,
  register,
  twinsWithReadings,
} from '../../actors/store/queries/archive.ts';
import { compareRows, type HistoryRow } from '../../actors/store/queries/history-table.ts';
import type { OlderReadings } from '../../actors/store/queries/older.ts';
import { DAY_MS } from '../../actors/store/queries/span.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';
import { parquetOf } from '../parquet/parquet-writer.ts';
import {
  archiveColumns,
  dayPrefix,
  fileKey,
  isByAsset,
  runName,
  runTimeOf,
  startOfDay,
  summaryKey,
} from './archive-layout.ts';
import { DaySummary } from './day-summary.ts';

/**
 * Writes whole days of history to the archive, and what came late beside them.
 *
 * Invariants:
 *  V1  A file counts from the moment it is in the books, which happens for all files of a day in one statement (A1): a
 *      crash before leaves files that nobody reads, and the day is written again.
 *  V2  What is written is counted per twin; rows that came while a day was written, or after, make the counts differ and
 *      are written beside it later, each once (A2).
 *  V3  Memory holds a row group, the twins of a day, and of a late day the places of one twin's archived rows.
 *  V4  Expired days: first the files go, then the books. A crash between leaves files that are missing, and the next
 *      round ends it.
 */
export interface ArchiverOptions {
  sql: Sql;
  objects: ObjectStore;
  clock: Clock;
  /** Days that ended so long ago are written. */
  afterMs: number;
  /** Days that began longer ago go; 0: none. */
  keepMs: number;
  /** What is in the archive already, for what came late. */
  archived(): OlderReadings;
  signal?: AbortSignal;
}

export interface ArchiveRound {
  /** False: ended early, by the signal or because another node took a step. */
  complete: boolean;
  days: number;
  files: number;
  rows: number;
  lateRows: number;
  expiredFiles: number;
}

const ROW_GROUP = 8_192;
const MOST_ROWS_A_FILE = 5_000_000;
const MOST_LATE_DAYS = 1_000;
const SWEPT_FOR_MS = 7 * DAY_MS;

export class Archiver {
  readonly #options: ArchiverOptions;

  constructor(options: ArchiverOptions) {
    this.#options = options;
  }

  /**
   * Days of one kind that are due, and what came late in days that end before `lateBefore`; where that is every day, also
   * what earlier runs have left behind.
   */
  async round(kind: Kind, lateBefore: number): Promise<ArchiveRound> {
    const { sql, clock, afterMs, signal } = this.#options;
    const round: ArchiveRound = { complete: false, days: 0, files: 0, rows: 0, lateRows: 0, expiredFiles: 0 };
    await this.#expire(kind, round);
    const due = startOfDay(clock.now() - afterMs);
    let state = await archiveState(sql, kind);
    const oldestKept = this.expiredBefore();
    for (;;) {
      if (signal?.aborted) return round;
      const from = Math.max(state.done_to.getTime(), oldestKept);
      const oldest = from >= due ? null : await oldestReading(sql, kind, from);
      if (oldest === null || startOfDay(oldest) >= due) break;
      if (!(await this.#day(kind, state.step_no, startOfDay(oldest), round))) return round;
      state = await archiveState(sql, kind);
    }
    const to = Math.min(lateBefore, state.done_to.getTime());
    if (to > oldestKept && !(await this.#late(kind, { from: oldestKept, to }, round))) return round;
    if (lateBefore >= state.done_to.getTime()) await this.#sweep(kind);
    await forgetEmpty(sql, kind);
    round.complete = true;
    return round;
  }

  /** Start of the oldest day that is kept; 0 where all are. */
  expiredBefore(): number {
    const { clock, keepMs } = this.#options;
    return keepMs === 0 ? 0 : startOfDay(clock.now() - keepMs);
  }

  /** Answers false where the round has to end. */
  async #day(kind: Kind, stepNo: number, day: number, round: ArchiveRound): Promise<boolean> {
    const { sql, clock } = this.#options;
    const span = { from: day, to: day + DAY_MS };
    const twins = await twinsWithReadings(sql, kind, span);
    const run = runName(clock.now());
    const written = new Written(kind);
    try {
      for (const [part, group] of fileGroups(kind, twins).entries()) {
        if (this.#options.signal?.aborted) throw new Ended();
        const key = fileKey(kind, day, group[0].id, run, part, false);
        await this.#file(key, kind, readingsToArchive(sql, kind, group, span), written, false);
      }
    } catch (error) {
      await this.#undo(written);
      if (error instanceof Ended) return false;
      throw error;
    }
    return await this.#book(kind, stepNo, day, written, day + DAY_MS, round);
  }

  /** Rows that came after their day was written. Answers false where the round has to end. */
  async #late(kind: Kind, span: { from: number; to: number }, round: ArchiveRound): Promise<boolean> {
    const { sql, clock, signal } = this.#options;
    const found = await lateDays(sql, kind, span, MOST_LATE_DAYS);
    const byDay = Map.groupBy(found, ({ day }) => day.getTime());
    for (const [day, twins] of [...byDay.entries()].sort(([a], [b]) => a - b)) {
      if (signal?.aborted) return false;
      const { step_no: stepNo } = await archiveState(sql, kind);
      const run = runName(clock.now());
      const written = new Written(kind);
      try {
        const sorted = twins.sort((a, b) => (a.id < b.id ? -1 : 1));
        for (const [part, group] of fileGroups(kind, sorted).entries()) {
          const key = fileKey(kind, day, group[0].id, run, part, true);
          await this.#file(key, kind, this.#lateRows(kind, group as LateDay[], day, written), written, true);
        }
      } catch (error) {
        await this.#undo(written);
        throw error;
      }
      if (!(await this.#book(kind, stepNo, day, written, null, round))) return false;
      round.lateRows += written.files.reduce((sum, file) => sum + file.rows, 0);
    }
    return true;
  }

  /** Of the rows that the database has those that the archive has not; all of them are counted. */
  async *#lateRows(
    kind: Kind,
    twins: readonly LateDay[],
    day: number,
    written: Written,
  ): AsyncGenerator<ArchiveRow[], void, void> {
    const { sql, archived } = this.#options;
    const span = { from: day, to: day + DAY_MS };
    for (const twin of twins) {
      const there: HistoryRow[] = [];
      for await (const { at, revision, key, seq, sensor, o_set } of archived().readings(kind, twin, span, false))
        there.push({ at, revision, key, seq, sensor, o_set } as HistoryRow);
      let next = 0;
      written.rows.set(twin.twin, 0);
      for await (const page of readingsToArchive(sql, kind, [twin], span)) {
        const fresh = page.filter((row) => {
          while (next < there.length && compareRows(there[next], row) < 0) next++;
          return next >= there.length || compareRows(there[next], row) !== 0;
        });
        written.rows.set(twin.twin, written.rows.get(twin.twin)! + page.length);
        if (fresh.length > 0) yield fresh;
      }
    }
  }

  async #file(
    key: string,
    kind: Kind,
    pages: AsyncIterable<ArchiveRow[]>,
    written: Written,
    late: boolean,
  ): Promise<void> {
    const { objects, clock } = this.#options;
    const facts = { first: '', last: '', rows: 0 };
    const counted = async function* () {
      for await (const page of pages) {
        for (const row of page) {
          if (facts.rows === 0 || row.id < facts.first) facts.first = row.id;
          if (facts.rows === 0 || row.id > facts.last) facts.last = row.id;
          facts.rows++;
          written.summary.add(row);
          if (!late) written.rows.set(row.twin, (written.rows.get(row.twin) ?? 0) + 1);
        }
        yield page;
      }
    };
    written.keys.push(key);
    // A twin's rows stay in one group, so that reading one twin reads little of the others.
    const options = { rows: ROW_GROUP, most: 2 * ROW_GROUP, together: (row: ArchiveRow) => row.twin };
    const sum = await objects.put(key, parquetOf(archiveColumns(kind), counted(), options));
    if (facts.rows === 0) {
      await objects.remove([key]);
      return;
    }
    const { first: first_id, last: last_id, rows } = facts;
    written.files.push({ key, first_id, last_id, rows, ...sum, late, written_at: new Date(clock.now()) });
  }

  async #book(
    kind: Kind,
    stepNo: number,
    day: number,
    written: Written,
    doneTo: number | null,
    round: ArchiveRound,
  ): Promise<boolean> {
    const { sql, objects } = this.#options;
    const files = written.files.map((file) => ({ ...file, kind: kind.kind, day: new Date(day) }));
    // Where this throws nobody knows whether it landed: the files stay, and are swept up if it did not.
    if (!(await register(sql, kind, stepNo, { day, doneTo, files, rows: written.rows }))) {
      await this.#undo(written);
      return false;
    }
    round.days++;
    round.files += files.length;
    round.rows += files.reduce((sum, file) => sum + file.rows, 0);
    if (files.length === 0) return true;
    // It comes last: it says nothing that the books do not, and a crash before it loses nothing but itself.
    const earlier = files.some(({ late }) => late) ? await this.#earlierSummary(kind, day) : null;
    written.summary.merge(earlier);
    const all = await archivedFiles(sql, kind.kind, { from: day, to: day + 1 });
    await objects.put(summaryKey(kind.kind, day), [Buffer.from(written.summary.text(day, all))]);
    return true;
  }

  async #earlierSummary(kind: Kind, day: number): Promise<unknown> {
    const { objects } = this.#options;
    try {
      const pieces: Uint8Array[] = [];
      for await (const piece of objects.stream(summaryKey(kind.kind, day))) pieces.push(piece);
      return JSON.parse(Buffer.concat(pieces).toString('utf8'));
    } catch {
      return null;
    }
  }

  /** Files that this run has written and nobody will ever read. */
  async #undo(written: Written): Promise<void> {
    await this.#options.objects.remove(written.keys).catch(() => undefined);
  }

  /**
   * Files that a run has left behind which broke off, in days that were written not long ago: each day that broke off was
   * written again. A run that is under way somewhere is younger.
   */
  async #sweep(kind: Kind): Promise<void> {
    const { sql, objects, clock } = this.#options;
    const now = clock.now();
    for (const day of await daysWrittenSince(sql, kind, Math.max(0, now - SWEPT_FOR_MS))) {
      const known = new Set((await archivedFiles(sql, kind.kind, { from: day, to: day + 1 })).map(({ key }) => key));
      const left: string[] = [];
      for await (const { key } of objects.list(dayPrefix(kind.kind, day))) {
        const begun = runTimeOf(key);
        if (begun !== null && !known.has(key) && begun < now - DAY_MS) left.push(key);
      }
      await objects.remove(left);
    }
  }

  async #expire(kind: Kind, round: ArchiveRound): Promise<void> {
    const { sql, objects } = this.#options;
    const before = this.expiredBefore();
    if (before <= 0) return;
    const files = (await archivedFiles(sql, kind.kind, { to: before })).filter(({ day }) => day.getTime() < before);
    const days = new Set(files.map(({ day }) => day.getTime()));
    await objects.remove([...files.map(({ key }) => key), ...[...days].map((day) => summaryKey(kind.kind, day))]);
    await forget(sql, kind, before);
    round.expiredFiles += files.length;
  }
}

/** What one run has written of a day. */
class Written {
  readonly keys: string[] = [];
  readonly files: Omit<ArchivedFile, 'kind' | 'day'>[] = [];
  /** Rows of each twin, by its key. */
  readonly rows = new Map<number, number>();
  readonly summary: DaySummary;

  constructor(kind: Kind) {
    this.summary = new DaySummary(kind);
  }
}

class Ended extends Error {}

/** The twins of each file: one, or as many as fit. */
function fileGroups<Twin extends ArchiveTwin>(kind: Kind, twins: readonly Twin[]): Twin[][] {
  const groups: Twin[][] = [];
  let rows = Number.POSITIVE_INFINITY;
  for (const twin of twins) {
    if (isByAsset(kind) || rows + twin.rows > MOST_ROWS_A_FILE) {
      groups.push([]);
      rows = 0;
    }
    groups[groups.length - 1].push(twin);
    rows += twin.rows;
  }
  return groups;
}
