import pg from 'pg';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';

/**
 * A transaction that is held open so that others can read what it sees: `pg_dump --snapshot=<id>` and our own questions
 * then speak of one and the same state.
 *
 *  1 It only reads.
 *  2 While it is open PostgreSQL keeps what it sees: close it as soon as whoever needed it has opened its own.
 */
export class HeldSnapshot {
  readonly id: string;
  readonly #client: pg.Client;

  private constructor(client: pg.Client, id: string) {
    this.#client = client;
    this.id = id;
  }

  /** Throws `store_down`. */
  static async open(url: string): Promise<HeldSnapshot> {
    const client = new pg.Client({
      connectionString: url,
      application_name: 'twinmesh backup',
      connectionTimeoutMillis: 5_000,
      keepAlive: true,
    });
    // Without a listener the loss of the connection takes the process down; whoever asks next gets the error.
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.query('begin isolation level repeatable read read only');
      await client.query(`set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0;
        set local timezone = 'UTC'`);
      const { rows } = await client.query<{ id: string }>('select pg_export_snapshot() as id');
      return new HeldSnapshot(client, rows[0].id);
    } catch (error) {
      await client.end().catch(() => undefined);
      throw unavailable(error);
    }
  }

  /** Values come as the driver reads them: cast what is not text, boolean, int4, float8 or JSON. */
  async query<Row>(text: string): Promise<Row[]> {
    try {
      return (await this.#client.query(text)).rows as Row[];
    } catch (error) {
      throw unavailable(error);
    }
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }
}

function unavailable(error: unknown): TwinmeshError {
  return new TwinmeshError('store_down', `The database cannot be read: ${messageOf(error)}`, undefined, {
    cause: error,
  });
}
