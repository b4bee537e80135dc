/**
 * What autovacuum and the checkpointer do in a server, for PGlite, which has neither: without it the write-ahead log
 * grows until the next clean stop (and a start after a crash replays all of it), and snapshots that were replaced
 * fill the disk.
 *
 *  1 A checkpoint after at most `checkpointBytes` of WAL and what is written between two looks, earlier when idle.
 *  2 A table is vacuumed and analyzed when a fifth of it is dead or has changed, one table at a time between statements.
 */
export class Upkeep {
  readonly #query: (text: string) => Promise<Record<string, unknown>[]>;
  readonly #nowMs: () => number;
  readonly #checkpointBytes: number;
  #sinceLook = 0;
  #bytes = 0;
  #lastVacuumMs: number;
  #checkpointAt: number | null = null;
  #dirty = false;

  constructor(options: {
    query: (text: string) => Promise<Record<string, unknown>[]>;
    nowMs: () => number;
    checkpointBytes?: number;
  }) {
    this.#query = options.query;
    this.#checkpointBytes = options.checkpointBytes ?? CHECKPOINT_BYTES;
    this.#nowMs = options.nowMs;
    this.#lastVacuumMs = options.nowMs();
  }

  /** Statements have run since the last idle look. */
  get pending(): boolean {
    return this.#dirty;
  }

  /** Called after every statement, with the bytes it brought: looks at the WAL now and then, and at the tables once in VACUUM_EVERY_MS. */
  async afterStatement(bytes: number): Promise<void> {
    this.#dirty = true;
    this.#bytes += bytes;
    if (++this.#sinceLook < LOOK_EVERY && this.#bytes < LOOK_EVERY_BYTES) return;
    this.#sinceLook = 0;
    this.#bytes = 0;
    await this.#checkpoint(this.#checkpointBytes);
    if (this.#nowMs() - this.#lastVacuumMs >= VACUUM_EVERY_MS) await this.#vacuum();
  }

  async whenIdle(): Promise<void> {
    this.#dirty = false;
    await this.#vacuum();
    await this.#checkpoint(IDLE_CHECKPOINT_BYTES);
  }

  async #checkpoint(bytes: number): Promise<void> {
    const [row] = await this.#query(`select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 as written`);
    const written = Number(row.written);
    this.#checkpointAt ??= written;
    if (written - this.#checkpointAt < bytes) return;
    await this.#query('checkpoint');
    this.#checkpointAt = written;
  }

  async #vacuum(): Promise<void> {
    this.#lastVacuumMs = this.#nowMs();
    const rows = await this.#query(`
      select relname from pg_stat_user_tables
      where n_dead_tup > 2000 + 0.2 * n_live_tup or n_mod_since_analyze > 2000 + 0.2 * n_live_tup
      order by n_dead_tup desc limit 3`);
    for (const { relname } of rows) await this.#query(`vacuum (analyze) "${String(relname).replaceAll('"', '""')}"`);
  }
}

const LOOK_EVERY = 32;
const LOOK_EVERY_BYTES = 8 * 1024 * 1024;
/** What a start after a crash has to replay, at most: a few seconds. */
const CHECKPOINT_BYTES = 256 * 1024 * 1024;
const IDLE_CHECKPOINT_BYTES = 16 * 1024 * 1024;
const VACUUM_EVERY_MS = 20_000;
