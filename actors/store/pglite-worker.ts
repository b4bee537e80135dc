import fs from 'node:fs';
import path from 'node:path';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { PGlite, type PGliteOptions } from '@electric-sql/pglite';
import { NodeFS } from '@electric-sql/pglite/nodefs';
import type { PgliteReply, PgliteRequest, PgliteSettings } from './pglite-message.ts';
import { Protocol } from './pglite-protocol.ts';
import { Upkeep } from './pglite-upkeep.ts';

/**
 * The thread that PGlite computes on: takes statements one after the other, those with priority first, and looks
 * after the database in between (upkeep). It owns the database; the thread's end is the database's end.
 *
 *  1 A statement is answered only after PostgreSQL has committed it, and with `durable` after fsync of its WAL.
 *  2 After a PANIC or FATAL nothing more is answered: the thread ends, and its owner starts another, which recovers.
 */
const port = parentPort;
if (!port) throw new Error('pglite-worker runs as a worker thread');
const settings = workerData as PgliteSettings;

const urgent: PgliteRequest[] = [];
const ordinary: PgliteRequest[] = [];
let running = false;
let idleTimer: NodeJS.Timeout | undefined;

/** Emscripten's file system ignores fsync; this one passes it on. */
class DurableFs extends NodeFS {
  override async init(pg: PGlite, options: Parameters<NodeFS['init']>[1]): ReturnType<NodeFS['init']> {
    const result = await super.init(pg, options);
    result.emscriptenOpts.preRun?.push((module) => {
      const streams = (module as unknown as { NODEFS: { stream_ops: Record<string, unknown> } }).NODEFS.stream_ops;
      streams.fsync = (stream: { nfd?: number }) => {
        if (stream.nfd !== undefined) fs.fsyncSync(stream.nfd);
        return 0;
      };
    });
    return result;
  }
}

/** What the server said last on its way down: its own words are the best reason. */
let lastWords = '';

function optionsFor(dir: string | null): PGliteOptions {
  const startParams = PGlite.defaultStartParams.filter((param) => param !== '-F' || !settings.durable || dir === null);
  // fdatasync, the default, is a no-op below Emscripten; fsync is passed on.
  for (const setting of ['wal_sync_method=fsync', 'jit=off', 'min_wal_size=256MB', ...settings.parameters]) {
    startParams.push('-c', setting);
  }
  return {
    ...(dir === null ? {} : { fs: new DurableFs(dir) }),
    startParams,
    relaxedDurability: false,
    parsers: {
      20: Number,
      1700: Number,
      1082: (text: string) => text,
      17: (text: string) => new Uint8Array(Buffer.from(text.slice(2), 'hex')),
    },
    onStderr(text: string) {
      if (/PANIC|FATAL/.test(text)) lastWords = text.replace(/^.*?(PANIC|FATAL):\s*/, '');
      return false;
    },
  };
}

/** A new database is made beside its place and moved there: a start that was killed half way leaves nothing behind. */
async function open(): Promise<PGlite> {
  if (settings.dir === null) return await PGlite.create(optionsFor(null));
  if (!fs.existsSync(path.join(settings.dir, 'PG_VERSION'))) {
    const fresh = `${settings.dir}.new`;
    fs.rmSync(fresh, { recursive: true, force: true });
    const first = await PGlite.create(optionsFor(fresh));
    await first.close();
    fs.renameSync(fresh, settings.dir);
  }
  return await PGlite.create(optionsFor(settings.dir));
}

function say(reply: PgliteReply): void {
  port!.postMessage(reply);
}

function bytesOf(request: PgliteRequest): number {
  if (request.type !== 'query') return 0;
  let bytes = 0;
  for (const param of request.params) if (param instanceof Uint8Array) bytes += param.byteLength;
  return bytes;
}

function take(): PgliteRequest | undefined {
  // Drained here as well, so that a checkpoint that came in during a statement overtakes what waits.
  for (let message = receiveMessageOnPort(port!); message; message = receiveMessageOnPort(port!)) {
    enqueue(message.message as PgliteRequest);
  }
  return urgent.shift() ?? ordinary.shift();
}

function enqueue(request: PgliteRequest): void {
  (request.type === 'query' && request.priority ? urgent : ordinary).push(request);
}

async function start(): Promise<void> {
  const db = await open();
  const protocol = new Protocol(db);
  const upkeep = new Upkeep({
    query: (text) => protocol.query(text, []),
    nowMs: () => performance.now(),
    ...(settings.checkpointBytes === null ? {} : { checkpointBytes: settings.checkpointBytes }),
  });

  const run = async (request: PgliteRequest): Promise<void> => {
    try {
      if (request.type === 'exec') {
        await db.exec(request.text);
        say({ id: request.id, rows: [] });
      } else if (request.type === 'query') {
        say({ id: request.id, rows: await protocol.query(request.text, request.params, request.name) });
      }
    } catch (error) {
      const { message, code, severity } = error as { message?: string; code?: string; severity?: string };
      const fatal = code === undefined || severity === 'PANIC' || severity === 'FATAL';
      say({
        id: request.id,
        error: { message: fatal && lastWords ? lastWords : String(message ?? error), sqlState: code, fatal },
      });
      if (fatal) process.exit(1);
      // A failed statement of several may leave its transaction open.
      if (request.type === 'exec') await db.exec('rollback');
    }
  };

  const loop = async (): Promise<void> => {
    if (running) return;
    running = true;
    clearTimeout(idleTimer);
    for (let request = take(); request; request = take()) {
      if (request.type === 'close') {
        await db.close();
        say({ id: request.id, rows: [] });
        port!.close();
        return;
      }
      await run(request);
      await upkeep.afterStatement(bytesOf(request)).catch(() => undefined);
    }
    running = false;
    if (upkeep.pending) idleTimer = setTimeout(idle, settings.idleMs);
  };

  const idle = (): void => {
    running = true;
    upkeep
      .whenIdle()
      // Upkeep that fails (a full disk) must not take the database down with it; statements will say what is wrong.
      .catch(() => undefined)
      .finally(() => {
        running = false;
        void loop();
      });
  };

  port!.on('message', (request: PgliteRequest) => {
    enqueue(request);
    void loop();
  });
  say({ id: 0, rows: [] });
}

start().catch((error: unknown) => {
  const { message, code } = error as { message?: string; code?: string };
  say({ id: 0, error: { message: lastWords || String(message ?? error), sqlState: code, fatal: true } });
  process.exit(1);
});
