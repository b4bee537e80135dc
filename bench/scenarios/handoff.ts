import { MemoryLog } from '../../actors/log/memory.ts';
import { Directory } from '../../actors/placement/directory.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { shardOf } from '../../actors/protocol/twin-id.ts';
import { Host } from '../../actors/runtime/host.ts';
import { type KindRegistry, loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';

const SHARDS = 64;
const TWINS = 10_000;
const MANY_TWINS = 30_000;
const TTL_MS = 2_000;
const CALLS_PER_S = 1_000;
const WRITES = 0.1;
const KILLS = 10;
const RETRY_MS = 5;
/** What a broadcast of the mesh takes. */
const TOLD_AFTER_MS = 1;
const NAMES = ['n1', 'n2', 'n3'];

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Node {
  host: Host;
  close(): Promise<void>;
}

/** Hosts over one PostgreSQL in one process, which tell each other what moves as the mesh does. */
class Mesh {
  readonly nodes = new Map<string, Node>();
  readonly #url: string;
  readonly #kinds: KindRegistry;
  readonly directory: Directory;
  readonly #look: Pg;

  constructor(url: string, kinds: KindRegistry, look: Pg) {
    this.#url = url;
    this.#kinds = kinds;
    this.#look = look;
    const store = new PostgresStore(look);
    const ask = () => store.shards();
    this.directory = new Directory({ shards: SHARDS, look: ask, clock: systemClock, everyMs: 500, onError() {} });
    this.directory.start();
  }

  async start(name: string): Promise<void> {
    const sql = await Pg.open({ url: this.#url, priorityAnswerMs: TTL_MS * 0.4 });
    const store = new PostgresStore(sql);
    await store.open(this.#kinds.all(), SHARDS);
    const log = new MemoryLog({ clock: systemClock, maxReadings: 1_000 });
    const others = (): void => {
      for (const [other, { host }] of this.nodes) if (other !== name) host.nudge();
    };
    const host = new Host({
      node: name,
      kinds: this.#kinds,
      store,
      log,
      clock: systemClock,
      random: Math.random,
      shards: SHARDS,
      ttlMs: TTL_MS,
      onMoved: (moved) => {
        setTimeout(() => {
          this.directory.observe(moved);
          others();
        }, TOLD_AFTER_MS);
      },
    });
    const close = async (): Promise<void> => {
      this.nodes.delete(name);
      await log.close();
      await sql.close();
    };
    this.nodes.set(name, { host, close });
    await host.start();
    others();
  }

  get owned(): number {
    let owned = 0;
    for (const { host } of this.nodes.values()) owned += host.status().shards.owned;
    return owned;
  }

  async served(): Promise<void> {
    while (this.owned < SHARDS) await sleep(1);
  }

  async close(): Promise<void> {
    this.directory.close();
    for (const { host, close } of [...this.nodes.values()]) {
      await host.stop();
      await close();
    }
    await this.#look.close();
  }
}

/** Calls at a steady rate to whoever the directory says owns the twin; refused ones are sent again until they are answered. */
class Callers {
  readonly #mesh: Mesh;
  #waited: number[] = [];
  #keys = 0;
  #going = true;
  failed = 0;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
  }

  async run(): Promise<void> {
    const startedAt = performance.now();
    const open = new Set<Promise<void>>();
    for (let sent = 0; this.#going; ) {
      const due = ((performance.now() - startedAt) / 1000) * CALLS_PER_S;
      for (; sent < due; sent++) {
        const call = this.call(Math.floor(Math.random() * TWINS), Math.random() < WRITES).finally(() =>
          open.delete(call),
        );
        open.add(call);
      }
      await sleep(1);
    }
    await Promise.all(open);
  }

  stop(): void {
    this.#going = false;
  }

  async call(number: number, writes: boolean): Promise<void> {
    const twinId = `mote:${number}`;
    const { directory, nodes } = this.#mesh;
    const key = `k${++this.#keys}`;
    for (const startedAt = performance.now(); ; await sleep(RETRY_MS)) {
      const host = nodes.get(directory.ownerOf(shardOf(twinId, SHARDS)) ?? '')?.host;
      try {
        if (host === undefined) continue;
        const command = { name: 'attributes', key, by: 'bench', patch: { turn: key } } as const;
        if (writes) await host.command(twinId, command, { create: true });
        else await host.get(twinId);
        this.#waited.push(performance.now() - startedAt);
        return;
      } catch (error) {
        if (error instanceof TwinmeshError && ['not_owner', 'unavailable'].includes(error.code)) continue;
        this.failed++;
        return;
      }
    }
  }

  /** How long the calls since last time have waited for their answers, ms. */
  take(): number[] {
    const waited = this.#waited;
    this.#waited = [];
    return waited;
  }
}

const scenario: Scenario = {
  name: 'handoff',
  title: `three hosts over one PostgreSQL, ${SHARDS} shards, ${TWINS.toLocaleString('en-US')} motes, ${CALLS_PER_S.toLocaleString('en-US')} calls/s, one in ten a command, ttl ${TTL_MS / 1000} s`,
  async run(say) {
    const server = await findPostgres();
    if (server === null) {
      say('skipped: no PostgreSQL here');
      return [];
    }
    try {
      const kinds = await loadKinds();
      const url = await server.database();
      const look = await Pg.open({ url });
      await new PostgresStore(look).open(kinds.all(), SHARDS);
      return [
        ...(await handoffs(new Mesh(url, kinds, look), say)),
        await stopping(await server.database(), kinds, say),
      ];
    } finally {
      await server.stop();
    }
  },
};
export default scenario;

async function handoffs(mesh: Mesh, say: (line: string) => void): Promise<Figure[]> {
  for (const name of NAMES) await mesh.start(name);
  await mesh.served();
  await mesh.directory.doubt();
  const callers = new Callers(mesh);
  for (let i = 0; i < TWINS; i += 500)
    await Promise.all(Array.from({ length: 500 }, (_, k) => callers.call(i + k, true)));
  await sleep(2_000);
  const running = callers.run();
  callers.take();
  await sleep(2_000);
  const steady = callers.take();
  say(`undisturbed: p99 ${percentile(steady, 0.99).toFixed(1)} ms`);
  const moving: number[] = [];
  for (const name of NAMES) {
    const { host, close } = mesh.nodes.get(name)!;
    const share = host.status().shards.owned;
    await host.stop();
    await mesh.served();
    await close();
    await mesh.start(name);
    while (mesh.nodes.get(name)!.host.status().shards.owned < share) await sleep(1);
    const calls = callers.take();
    say(
      `${name} restarted, ${share} shards each way: p99 ${percentile(calls, 0.99).toFixed(1)} ms of ${calls.length} calls`,
    );
    moving.push(...calls);
  }
  const failovers: number[] = [];
  for (let i = 0; i < KILLS; i++) {
    const name = NAMES[i % NAMES.length];
    const { host, close } = mesh.nodes.get(name)!;
    const share = host.status().shards.owned;
    host.kill();
    mesh.nodes.delete(name);
    const killedAt = performance.now();
    await mesh.served();
    failovers.push((performance.now() - killedAt) / 1000);
    await close();
    await mesh.start(name);
    while (mesh.nodes.get(name)!.host.status().shards.owned < share) await sleep(1);
  }
  callers.stop();
  await running;
  await mesh.close();
  return [
    { what: 'calls while shards move, p99', value: percentile(moving, 0.99), unit: 'ms', atMost: 200 },
    { what: 'calls while shards move, slowest', value: Math.max(...moving), unit: 'ms' },
    { what: 'calls failed', value: callers.failed, unit: 'calls', atMost: 0 },
    { what: `failover of ${KILLS} kills, p50`, value: percentile(failovers, 0.5), unit: 's', atMost: 3.5 },
    { what: 'slowest', value: Math.max(...failovers), unit: 's', atMost: 8 },
  ];
}

/** How long a host with all twins resident and none in a snapshot takes to stop. */
async function stopping(url: string, kinds: KindRegistry, say: (line: string) => void): Promise<Figure> {
  const look = await Pg.open({ url });
  await new PostgresStore(look).open(kinds.all(), SHARDS);
  const mesh = new Mesh(url, kinds, look);
  await mesh.start('one');
  await mesh.served();
  await mesh.directory.doubt();
  const callers = new Callers(mesh);
  for (let i = 0; i < MANY_TWINS; i += 1_000)
    await Promise.all(Array.from({ length: 1_000 }, (_, k) => callers.call(i + k, true)));
  await sleep(2_000);
  const { host } = mesh.nodes.get('one')!;
  const { resident } = host.status().twins;
  const startedAt = performance.now();
  await host.stop();
  const seconds = (performance.now() - startedAt) / 1000;
  say(`${resident} resident twins put away`);
  await mesh.close();
  return { what: `stop with ${MANY_TWINS.toLocaleString('en-US')} resident twins`, value: seconds, unit: 's' };
}
