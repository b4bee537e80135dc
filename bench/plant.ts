import { JetStreamLog } from '../actors/log/jetstream.ts';
import { systemClock } from '../actors/protocol/clock.ts';
import { loadKinds } from '../actors/runtime/kind-registry.ts';
import { Pg } from '../actors/store/pg.ts';
import { PostgresStore } from '../actors/store/postgres.ts';
import { loadSettings } from '../config/settings.ts';
import { NodeProcess } from '../test/e2e/node-process.ts';
import { findNats, type NatsServer } from '../test/servers/nats.ts';
import { findPostgres, type PostgresServer } from '../test/servers/postgres.ts';
import { treeCpuS } from './cpu.ts';
import { temporaryFolder } from './temporary.ts';

/**
 * NATS, PostgreSQL and nodes as processes of this machine, for scenarios that measure what they cost: each part's CPU,
 * memory and bytes can be asked for. The log is opened by the bench too, so that it can be filled as ingest fills it.
 */
export interface CpuS {
  nodes: number;
  database: number;
  nats: number;
}

export interface PlantOptions {
  shards?: number;
  /** Of every node. */
  env?: Record<string, string>;
}

/** What a node says of itself at /metrics. */
export interface Vitals {
  resident: number;
  rssBytes: number;
  heapBytes: number;
}

/** Environment of a node whose garbage the bench collects. */
export const INSPECTED = { NODE_OPTIONS: '--inspect=127.0.0.1:0' } as const;

export class Plant {
  readonly postgres: PostgresServer;
  readonly nats: NatsServer;
  readonly sql: Pg;
  readonly log: JetStreamLog;
  readonly shards: number;
  readonly env: Record<string, string>;
  readonly nodes = new Map<string, NodeProcess>();
  readonly #folder = temporaryFolder('plant');

  /** Null, with a printed reason, where the servers cannot be had. */
  static async open({ shards = 256, env = {} }: PlantOptions = {}): Promise<Plant | null> {
    const postgres = await findPostgres();
    const nats = postgres && (await findNats());
    if (postgres === null || nats === null) {
      await postgres?.stop();
      return null;
    }
    const url = await postgres.database();
    const sql = await Pg.open({ url, maxConnections: 4 });
    // also makes the tables, so that scenarios may look before the first node is there
    await new PostgresStore(sql).open((await loadKinds()).all(), shards);
    const log = await JetStreamLog.open({
      connection: { url: nats.url, name: 'bench', firstWithinMs: 10_000 },
      clock: systemClock,
      shards,
      maxBytes: loadSettings({}).logMaxBytes,
    });
    return new Plant(postgres, nats, url, sql, log, shards, env);
  }

  private constructor(
    postgres: PostgresServer,
    nats: NatsServer,
    url: string,
    sql: Pg,
    log: JetStreamLog,
    shards: number,
    env: Record<string, string>,
  ) {
    this.postgres = postgres;
    this.nats = nats;
    this.sql = sql;
    this.log = log;
    this.shards = shards;
    this.env = {
      NATS_URL: nats.url,
      DATABASE_URL: url,
      SHARDS: String(shards),
      METRICS_PORT: '0',
      LOG_LEVEL: 'warn',
      // a machine that is busy with other work needs more for a commit than 0.4 of the default
      TTL_MS: String(sizeOf('TTL_MS', loadSettings({}).ttlMs)),
      DEMO: 'off',
      RATE_LIMIT_PER_MINUTE: '10000000',
      ...env,
    };
  }

  /** Resolves when the node serves. */
  async start(name: string, env: Record<string, string> = {}): Promise<NodeProcess> {
    const { path } = this.#folder;
    const node = NodeProcess.start(path, { ...this.env, NODE_ID: name, DATA_DIR: `${path}/${name}`, ...env });
    this.nodes.set(name, node);
    await node.until(/keys, devices/);
    return node;
  }

  /** SIGTERM; the exit code. */
  async end(name: string): Promise<number> {
    const node = this.nodes.get(name)!;
    this.nodes.delete(name);
    node.signal('SIGTERM');
    return await node.ended();
  }

  /** Resolves when all shards are owned and divided as evenly as they can be. */
  async balanced(): Promise<void> {
    const least = Math.floor(this.shards / this.nodes.size);
    await this.#until(async () => {
      const rows = await this.sql.query<{ owner: string; n: number }>(
        'select owner, count(*)::int as n from shards where owner is not null group by owner',
      );
      const living = rows.filter(({ owner }) => this.nodes.has(owner));
      const owned = living.reduce((sum, { n }) => sum + n, 0);
      // rendezvous divides unevenly by itself; half a share is a node that has joined
      return owned === this.shards && living.length === this.nodes.size && living.every(({ n }) => n >= least / 2);
    }, 60_000);
  }

  /** Seconds of CPU so far of the nodes that live and of both servers. */
  cpuS(): CpuS {
    const { pid: postgres } = this.postgres;
    const { pid: nats } = this.nats;
    return {
      nodes: [...this.nodes.values()].reduce((sum, { pid }) => sum + treeCpuS(pid), 0),
      database: postgres === null ? Number.NaN : treeCpuS(postgres),
      nats: nats === null ? Number.NaN : treeCpuS(nats),
    };
  }

  async vitals(name: string): Promise<Vitals> {
    const [, url] = await this.nodes.get(name)!.until(/(http:\/\/\S+\/metrics)/);
    const text = await (await fetch(url)).text();
    const read = (metric: string): number =>
      Number(text.match(new RegExp(`^${metric} (\\S+)`, 'm'))?.[1] ?? Number.NaN);
    return {
      resident: read('twinmesh_twins_resident'),
      rssBytes: read('process_resident_memory_bytes'),
      heapBytes: read('nodejs_heap_size_used_bytes') + read('nodejs_external_memory_bytes'),
    };
  }

  /** Has a node collect what it no longer needs, through its inspector: it has to be started with `INSPECTED`. */
  async collectGarbage(name: string): Promise<void> {
    const [, url] = await this.nodes.get(name)!.until(/Debugger listening on (ws:\/\/\S+)/);
    const socket = new WebSocket(url);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.onopen = () => socket.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }));
        socket.onmessage = () => resolve();
        socket.onerror = () => reject(new Error(`the inspector of ${name} does not answer`));
      });
    } finally {
      socket.close();
    }
  }

  /** Bytes of write-ahead log so far. */
  async walBytes(): Promise<number> {
    const [{ bytes }] = await this.sql.query<{ bytes: number }>(
      `select (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8 as bytes`,
    );
    return bytes;
  }

  /** Bytes of tables with their indexes. */
  async bytesOf(...tables: string[]): Promise<number> {
    const [{ bytes }] = await this.sql.query<{ bytes: number }>(
      'select sum(pg_total_relation_size(name::regclass))::float8 as bytes from unnest($1::text[]) as t(name)',
      [tables],
    );
    return bytes;
  }

  /** What nodes have warned of, each sentence once with how often. */
  complaints(): string[] {
    const counts = new Map<string, number>();
    for (const [name, { output }] of this.nodes)
      for (const line of output.split('\n')) {
        if (!line.startsWith('{')) continue;
        const { level, msg } = JSON.parse(line) as { level?: number | string; msg?: string };
        if (level === 'info' || level === 'debug' || (typeof level === 'number' && level < 40)) continue;
        const text = `${name}: ${msg}`;
        counts.set(text, (counts.get(text) ?? 0) + 1);
      }
    return [...counts].map(([text, n]) => `${n} × ${text}`);
  }

  async close(): Promise<void> {
    await Promise.all([...this.nodes.keys()].map((name) => this.end(name)));
    await this.log.close();
    await this.sql.close();
    await this.nats.stop();
    await this.postgres.stop();
    this.#folder.remove();
  }

  async #until(done: () => Promise<boolean>, withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!(await done())) {
      if (performance.now() > deadline) throw new Error(`not within ${withinMs / 1000} s`);
      await pause(50);
    }
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Difference of two looks, part by part, and their sum. */
export function spent(before: CpuS, after: CpuS): CpuS & { total: number } {
  const nodes = after.nodes - before.nodes;
  const database = after.database - before.database;
  const nats = after.nats - before.nats;
  return { nodes, database, nats, total: nodes + database + nats };
}

/** A size that the environment may make smaller (or larger) for a try. */
export function sizeOf(name: string, size: number): number {
  const given = Number(process.env[name]);
  return Number.isFinite(given) && given > 0 ? given : size;
}
