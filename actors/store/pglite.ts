import fs from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { messageOf } from '../protocol/errors.ts';
import { type DataDir, dataDirError, openDataDir, requireSpace } from './data-dir.ts';
import type { PgliteReply, PgliteRequest, PgliteSettings } from './pglite-message.ts';
import { endsSession, type QueryOptions, type Sql, SqlError } from './sql.ts';

export interface PgliteOptions {
  /** The folder of the data (`DATA_DIR`); the cluster is made in `pg` below it. Left out: in memory, gone at close. */
  dataDir?: string;
  /** fsync at every commit (default). Off: survives the death of the process, not power loss. */
  durable?: boolean;
  /** Write-ahead log between two checkpoints: what a start after a crash replays at most. Default 256 MB. */
  checkpointBytes?: number;
  /** Further server parameters, `name=value`. */
  parameters?: string[];
}

type Request = PgliteRequest extends infer R ? (R extends { id: number } ? Omit<R, 'id'> : never) : never;

interface Waiting {
  resolve(rows: unknown[]): void;
  reject(error: unknown): void;
}

/**
 * `Sql` over PGlite, which computes on a thread of its own. Owns the thread and the lock of the folder.
 *
 *  1 One process at a time has the folder open.
 *  2 When the thread dies, what was in flight is `unknown`, and the next statement starts a new thread, whose
 *    PostgreSQL recovers from its WAL.
 */
export class Pglite implements Sql {
  readonly #settings: PgliteSettings;
  readonly #dir: DataDir | null;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | null = null;
  #starting: Promise<void> | null = null;
  #closed = false;
  #lastId = 0;

  private constructor(settings: PgliteSettings, dir: DataDir | null) {
    this.#settings = settings;
    this.#dir = dir;
  }

  /** Opens the database, made on first use. Throws `data_dir`. */
  static async open(options: PgliteOptions = {}): Promise<Pglite> {
    const dir = options.dataDir === undefined ? null : openDataDir(options.dataDir);
    const settings: PgliteSettings = {
      dir: dir && path.join(dir.path, 'pg'),
      durable: options.durable ?? true,
      parameters: options.parameters ?? [],
      checkpointBytes: options.checkpointBytes ?? null,
      idleMs: 5000,
    };
    const sql = new Pglite(settings, dir);
    try {
      if (dir && settings.dir) requireSpaceForNew(dir.path, settings.dir);
      await sql.#ready();
    } catch (error) {
      dir?.release();
      throw dir ? dataDirError(dir.path, error) : error;
    }
    return sql;
  }

  async query<Row>(text: string, params: readonly unknown[] = [], options: QueryOptions = {}): Promise<Row[]> {
    const request = { type: 'query' as const, text, params, priority: options.priority === true, name: options.name };
    return (await this.#ask(request, options.giveAway ? transferable(params) : [])) as Row[];
  }

  async exec(text: string): Promise<void> {
    await this.#ask({ type: 'exec', text }, []);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const worker = this.#worker;
    if (worker) {
      const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
      // A thread that dies instead of answering has left the folder as a crash would: safe.
      await this.#send(worker, { type: 'close' }, []).catch(() => undefined);
      await worker.terminate();
      await ended;
    }
    this.#dir?.release();
  }

  async #ask(request: Request, transfer: ArrayBuffer[]): Promise<unknown[]> {
    if (this.#closed) throw new SqlError('not_sent', 'The embedded database is closed.');
    if (!this.#worker || this.#starting) {
      try {
        await this.#ready();
      } catch (error) {
        throw new SqlError('not_sent', `The embedded database does not start: ${messageOf(error)}`, undefined, {
          cause: error,
        });
      }
    }
    return await this.#send(this.#worker!, request, transfer);
  }

  #send(worker: Worker, request: Request, transfer: ArrayBuffer[]): Promise<unknown[]> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId;
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ ...request, id }, transfer);
    });
  }

  #ready(): Promise<void> {
    if (this.#worker && !this.#starting) return Promise.resolve();
    this.#starting ??= this.#start().finally(() => {
      this.#starting = null;
    });
    return this.#starting;
  }

  async #start(): Promise<void> {
    const worker = new Worker(new URL('./pglite-worker.ts', import.meta.url), { workerData: this.#settings });
    this.#worker = worker;
    const started = new Promise<unknown[]>((resolve, reject) => this.#waiting.set(0, { resolve, reject }));
    let died: unknown = null;
    worker.on('message', (reply: PgliteReply) => this.#receive(reply));
    worker.on('error', (error) => {
      died = error;
    });
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = null;
      const reason = died === null ? 'its thread ended' : messageOf(died);
      for (const [id, { reject }] of this.#waiting) {
        this.#waiting.delete(id);
        reject(new SqlError('unknown', `The embedded database stopped: ${reason}`, undefined, { cause: died }));
      }
    });
    await started;
  }

  #receive(reply: PgliteReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (!waiting) return;
    if (!reply.error) {
      waiting.resolve(reply.rows);
      return;
    }
    const { message, sqlState, fatal } = reply.error;
    const outcome = fatal || endsSession(sqlState, undefined) ? 'unknown' : 'refused';
    waiting.reject(new SqlError(outcome, message, sqlState));
  }
}

function requireSpaceForNew(dataDir: string, cluster: string): void {
  if (!fs.existsSync(path.join(cluster, 'PG_VERSION'))) requireSpace(dataDir);
}

/** The buffers that parameters have to themselves; small ones are cheaper to copy. */
function transferable(params: readonly unknown[]): ArrayBuffer[] {
  const buffers: ArrayBuffer[] = [];
  for (const param of params) {
    if (param instanceof Uint8Array && param.buffer.byteLength > 4096 && param.buffer instanceof ArrayBuffer) {
      buffers.push(param.buffer);
    }
  }
  return buffers;
}
