import { TwinmeshError } from '../protocol/errors.ts';

/**
 * The narrow gate to PostgreSQL that queries and the store speak through: PGlite in a worker, or `pg`.
 *
 * Both adapters agree on values. Out: timestamptz as Date, date as 'YYYY-MM-DD', int8, float8 and numeric as number,
 * json and jsonb parsed, bytea as Uint8Array, arrays of these as arrays. In: string, number, boolean, Date, null,
 * arrays of these; json and jsonb as JSON text; a Uint8Array goes as it is, in PostgreSQL's binary format
 * (bytea, or the arrays that column.ts makes).
 */
export interface Sql {
  /** Runs one statement with $1… parameters and answers its rows. Throws SqlError. */
  query<Row = Record<string, unknown>>(
    text: string,
    params?: readonly unknown[],
    options?: QueryOptions,
  ): Promise<Row[]>;
  /** Runs several statements without parameters, in one transaction, for migrations. Throws SqlError. */
  exec(text: string): Promise<void>;
  close(): Promise<void>;
}

export interface QueryOptions {
  /** Goes before everything that waits: for checkpoints, claims and beats. */
  priority?: boolean;
  /** Prepares the statement once under this name. The same name always means the same text. */
  name?: string;
  /**
   * How long its answer may take, ms, in place of what holds for others of its priority. Where a large statement on a busy
   * server is broken off, it is done for nothing, and what follows makes the server busier.
   */
  answerMs?: number;
  /** The byte arrays among the parameters are given away: they must not be read afterwards. */
  giveAway?: boolean;
}

/**
 * What is known about a statement that failed:
 * `not_sent` it never reached the server; `refused` the server answered with an error and nothing of it landed;
 * `unknown` the connection was lost in between, it may or may not have landed.
 */
export type SqlOutcome = 'not_sent' | 'refused' | 'unknown';

/**
 * `store_down` (retryable) unless the server refused the statement, which is `internal`: the statement is at fault.
 * A server that refuses because it has no room left, or may not write, is down as well: the same statement passes later.
 */
export class SqlError extends TwinmeshError {
  readonly outcome: SqlOutcome;
  /** SQLSTATE of the server, where it answered. */
  readonly sqlState: string | undefined;

  constructor(outcome: SqlOutcome, message: string, sqlState?: string, options?: ErrorOptions) {
    const full = sqlState === DISK_FULL;
    super(
      outcome === 'refused' && !isServersFault(sqlState) ? 'internal' : 'store_down',
      full ? `The database has no space left (${message}); give its disk room.` : message,
      sqlState ? { sqlState } : undefined,
      options,
    );
    this.name = 'SqlError';
    this.outcome = outcome;
    this.sqlState = sqlState;
  }
}

const DISK_FULL = '53100';

/**
 * Refusals that say nothing about the statement: disk full, connections, configured limits (53 but for 53200, memory, which
 * a smaller statement may need less of), input and output of the server's system (58), a server that may only read (25006).
 */
function isServersFault(sqlState: string | undefined): boolean {
  if (sqlState === undefined || sqlState === '53200') return false;
  return sqlState.startsWith('53') || sqlState.startsWith('58') || sqlState === '25006';
}

/**
 * Classes of SQLSTATE after which the session is gone: the server says goodbye, and whether it had committed before
 * is not known (08 connection except 08P01, a wrong message, 57P01 shutdown, 57P02 crash, 57P05 idle, 40003 statement completion unknown, 25P03 idle in transaction).
 */
export function endsSession(sqlState: string | undefined, severity: string | undefined): boolean {
  if (severity === 'FATAL' || severity === 'PANIC') return true;
  if (sqlState === undefined) return false;
  return (
    (sqlState.startsWith('08') && sqlState !== '08P01') ||
    sqlState.startsWith('57P') ||
    sqlState === '40003' ||
    sqlState === '25P03'
  );
}
