/** The narrow gate to PostgreSQL that queries and the store speak through: PGlite in a worker, or `pg`. */
export interface Sql {
  /** Runs one statement with $1… parameters and answers its rows. Timestamps arrive as Date, int8 and float8 as number, jsonb parsed, bytea as Uint8Array. */
  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<Row[]>;
  /** Runs several statements without parameters, for migrations. */
  exec(text: string): Promise<void>;
  close(): Promise<void>;
}
