import pg from 'pg';
import { messageOf } from '../protocol/errors.ts';
import { endsSession, type QueryOptions, type Sql, SqlError } from './sql.ts';

export interface PgOptions {
  /** `postgres://user:password@host:port/database`, with the parameters that libpq knows. */
  url: string;
  /** Connections at most, of which two are for what has priority. Default 10, at least 3. */
  maxConnections?: number;
  /** true: verified against the system's authorities; `ca`: PEM of the authority to verify against. Default: as the URL's sslmode says. */
  tls?: boolean | { ca?: string; cert?: string; key?: string; rejectUnauthorized?: boolean };
  /** A statement that takes longer is cancelled by the server. Default 30 s. */
  statementTimeoutMs?: number;
  /** How much longer than that an answer is waited for before the connection counts as lost. Default 10 s. */
  answerMarginMs?: number;
  /** A session that idles in a transaction for so long is ended by the server; keep it below the ttl of ownership. Default 5 s. */
  idleInTransactionTimeoutMs?: number;
  /**
   * How long an answer to a statement with priority (beat, claim, commit), and a connection for it, is waited for before
   * that connection counts as lost. Below half the ttl, so that a node whose server hangs knows it before others take over.
   * Default: as for the others.
   */
  priorityAnswerMs?: number;
  /** How long to wait for a connection. Default 5 s. */
  connectTimeoutMs?: number;
  applicationName?: string;
  /** Told how long a statement has waited for its connection, ms, whether it got one or not. */
  onAcquired?(waitedMs: number): void;
}

/** Connections of a pool: those that run a statement, those that could, and the statements that wait for one. */
export interface PoolCounts {
  active: number;
  idle: number;
  waiting: number;
  max: number;
}

/**
 * `Sql` over PostgreSQL with a bounded pool of connections.
 *
 *  1 Two connections are kept for statements with priority: long queries of people cannot keep a checkpoint waiting.
 *  2 A statement whose connection was lost is `unknown`, also when the server did not answer for much longer than
 *    statement_timeout allows (a network that swallows packets); that connection is never used again.
 */
export class Pg implements Sql {
  readonly #ordinary: pg.Pool;
  readonly #priority: pg.Pool;
  readonly #onAcquired: PgOptions['onAcquired'];

  private constructor(ordinary: pg.Pool, priority: pg.Pool, onAcquired: PgOptions['onAcquired']) {
    this.#ordinary = ordinary;
    this.#priority = priority;
    this.#onAcquired = onAcquired;
  }

  /** The connections as they are now; those for what has priority apart. */
  get pools(): { ordinary: PoolCounts; priority: PoolCounts } {
    return { ordinary: countsOf(this.#ordinary), priority: countsOf(this.#priority) };
  }

  /** Connects once to tell a wrong URL or a missing server right away. Throws SqlError. */
  static async open(options: PgOptions): Promise<Pg> {
    const max = Math.max(3, options.maxConnections ?? 10);
    const sql = new Pg(
      new pg.Pool({ ...configOf(options), max: max - PRIORITY_CONNECTIONS }),
      new pg.Pool({ ...configOf(options), ...promptness(options), max: PRIORITY_CONNECTIONS }),
      options.onAcquired,
    );
    for (const pool of [sql.#ordinary, sql.#priority]) {
      // Without listeners the loss of a connection, idle or not, takes the process down. Whoever waits for an answer
      // on it gets the error as well; nobody else needs to know.
      pool.on('error', () => undefined);
      pool.on('connect', (client) => client.on('error', () => undefined));
    }
    try {
      await sql.query('select 1', [], { priority: true });
    } catch (error) {
      await sql.close();
      throw error;
    }
    return sql;
  }

  async query<Row>(text: string, params: readonly unknown[] = [], options: QueryOptions = {}): Promise<Row[]> {
    const pool = options.priority ? this.#priority : this.#ordinary;
    const result = await run(
      pool,
      (client) =>
        client.query({
          text,
          values: params.map(parameterOf),
          name: options.name,
          ...(options.answerMs === undefined ? {} : { query_timeout: options.answerMs }),
        } as pg.QueryConfig),
      this.#onAcquired,
    );
    return result.rows as Row[];
  }

  async exec(text: string): Promise<void> {
    // A migration may wait for its lock and take its time.
    await run(this.#ordinary, (client) =>
      client.query({ text: `set local statement_timeout = 0;\n${text}`, query_timeout: DAY_MS } as pg.QueryConfig),
    );
  }

  async close(): Promise<void> {
    await Promise.all([this.#ordinary, this.#priority].map((pool) => (pool.ended ? undefined : pool.end())));
  }
}

const PRIORITY_CONNECTIONS = 2;
const DAY_MS = 86_400_000;

function countsOf(pool: pg.Pool): PoolCounts {
  const { totalCount, idleCount, waitingCount, options } = pool;
  return { active: totalCount - idleCount, idle: idleCount, waiting: waitingCount, max: options.max };
}

async function run<T>(
  pool: pg.Pool,
  statement: (client: pg.PoolClient) => Promise<T>,
  onAcquired?: PgOptions['onAcquired'],
): Promise<T> {
  const askedAt = performance.now();
  let client: pg.PoolClient;
  try {
    client = await pool.connect();
  } catch (error) {
    throw new SqlError('not_sent', `PostgreSQL cannot be reached: ${messageOf(error)}`, sqlStateOf(error), {
      cause: error,
    });
  } finally {
    onAcquired?.(performance.now() - askedAt);
  }
  try {
    const result = await statement(client);
    client.release();
    return result;
  } catch (error) {
    const refused = error instanceof pg.DatabaseError && !endsSession(error.code, error.severity);
    client.release(!refused);
    throw new SqlError(refused ? 'refused' : 'unknown', messageOf(error), sqlStateOf(error), { cause: error });
  }
}

function sqlStateOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

function promptness({ priorityAnswerMs, connectTimeoutMs = 5000 }: PgOptions): pg.PoolConfig {
  if (priorityAnswerMs === undefined) return {};
  return {
    query_timeout: priorityAnswerMs,
    connectionTimeoutMillis: Math.min(connectTimeoutMs, priorityAnswerMs),
  };
}

function configOf(options: PgOptions): pg.PoolConfig {
  const statementTimeoutMs = options.statementTimeoutMs ?? 30_000;
  const settings = [
    'synchronous_commit=on',
    `statement_timeout=${Math.round(statementTimeoutMs)}`,
    `idle_in_transaction_session_timeout=${Math.round(options.idleInTransactionTimeoutMs ?? 5000)}`,
    'timezone=UTC',
    'datestyle=ISO',
    'extra_float_digits=1',
    'jit=off',
  ];
  return {
    connectionString: withServerSettings(options.url, settings),
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5000,
    // The server cancels first; this is for a server that is not heard of any more.
    query_timeout: statementTimeoutMs > 0 ? statementTimeoutMs + (options.answerMarginMs ?? 10_000) : undefined,
    keepAlive: true,
    application_name: options.applicationName ?? 'twinmesh',
    types: { getTypeParser: parserOf as typeof pg.types.getTypeParser },
    ...(options.tls === undefined ? {} : { ssl: options.tls === true ? { rejectUnauthorized: true } : options.tls }),
  };
}

/** Server settings ride on the start of the session (`-c name=value`), so that no connection is ever without them. */
function withServerSettings(url: string, settings: readonly string[]): string {
  const parsed = new URL(url);
  const own = parsed.searchParams.get('options');
  const ours = settings.map((setting) => `-c ${setting}`).join(' ');
  // What the URL says comes last and wins.
  parsed.searchParams.set('options', own ? `${ours} ${own}` : ours);
  return parsed.toString();
}

/** The driver sends Buffers in binary, and takes other byte arrays for lists. */
function parameterOf(param: unknown): unknown {
  if (param instanceof Uint8Array && !Buffer.isBuffer(param)) {
    return Buffer.from(param.buffer, param.byteOffset, param.byteLength);
  }
  // The driver writes dates in local time.
  return param instanceof Date ? param.toISOString() : param;
}

const NUMBERS = new Set([20, 21, 23, 26, 700, 701, 1700]);
const NUMBER_ARRAYS = new Set([1005, 1007, 1016, 1021, 1022, 1231]);

/** Values as sql.ts promises them. */
function parserOf(type: number, format?: 'text' | 'binary'): (value: string) => unknown {
  if (NUMBERS.has(type)) return Number;
  if (NUMBER_ARRAYS.has(type)) return (value) => (textArray(value) as (string | null)[]).map(numberOrNull);
  if (type === 1082) return (value) => value;
  return pg.types.getTypeParser(type, format as 'text') as (value: string) => unknown;
}

const textArray = pg.types.getTypeParser(1009 as number, 'text') as (value: string) => unknown;

function numberOrNull(value: string | null): number | null {
  return value === null ? null : Number(value);
}
