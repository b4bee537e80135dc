import type { Kind } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import type { HistoryRow } from './history-table.ts';
import type { Span } from './span.ts';

/** Readings that retention has dropped from the database, from wherever they are kept. One is opened a request. */
export interface OlderReadings {
  /**
   * One twin's, in the order of history-table.ts, backwards where `descending`. May hold readings that the database has too.
   * What cannot be read is left out and noted.
   */
  readings(kind: Kind, twin: OlderTwin, span: Partial<Span>, descending: boolean): AsyncIterable<HistoryRow>;
  /** A sentence for each part that could not be read so far. */
  readonly notes: readonly string[];
}

export interface OlderTwin {
  twin: number;
  id: string;
}

/**
 * Up to where retention may have dropped readings of a twin, ms of event time; 0 where it has not. From there on the
 * database has every reading (retention.ts T2).
 */
export async function trimmedTo(sql: Sql, twin: number): Promise<number> {
  const [row] = await sql.query<{ trimmed: Date }>(
    `select trimmed_to as trimmed from rollup_marks where twin = $1::bigint and rollup = 'daily'`,
    [twin],
    { name: 'trimmed_to' },
  );
  return row?.trimmed.getTime() ?? 0;
}
