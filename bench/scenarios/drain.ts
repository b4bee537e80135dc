import { shardOf } from '../../actors/protocol/twin-id.ts';
import { startMesh } from '../../test/servers/mesh.ts';
import { pause, sizeOf } from '../plant.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';

const NODES = ['a', 'b', 'c'];
const SHARDS = 64;
const TWINS = 3_000;
const CALLS_PER_S = sizeOf('CALLS', 500);
const TURNS = sizeOf('ROUNDS', 6);
const COMMAND_EVERY = 10;
const MOVES_WITHIN_MS = 20_000;

interface Call {
  shard: number;
  sentAt: number;
  tookMs: number;
}

/** Nodes emptied by name and filled again while another node calls twins anywhere: what callers feel of a handoff in order. */
const scenario: Scenario = {
  name: 'drain',
  title: `${NODES.length} node processes drained and undrained by name at ${CALLS_PER_S} calls/s, one in ten a command`,
  async run(say) {
    const mesh = await startMesh({ shards: SHARDS, ttlMs: 2_000, env: { DEMO: 'off', LOG_LEVEL: 'warn' } });
    if (mesh === null) return [];
    try {
      const { broker, sql } = mesh;
      for (const name of NODES) await mesh.start(name, { ROLES: 'host,ingest' });
      await mesh.settled();
      await broker.waitForServices(['twins', 'ingest', 'nodes'], 10_000);
      const at = Date.now();
      await broker.call('ingest.submit', {
        protocol: 'http',
        address: '/api/v1/telemetry',
        payload: Array.from({ length: TWINS }, (_, i) =>
          JSON.stringify({ twinId: `machine:D${i}`, at, values: { temperature: 60 + (i % 10) } }),
        ).join('\n'),
        ndjson: true,
      });
      const owned = async (): Promise<Map<number, string | null>> =>
        new Map(
          (await sql.query<{ shard: number; owner: string | null }>('select shard::int, owner from shards')).map(
            ({ shard, owner }) => [shard, owner],
          ),
        );
      const spread = async (wanted: (counts: Map<string, number>) => boolean): Promise<void> => {
        const deadline = performance.now() + MOVES_WITHIN_MS;
        for (;;) {
          const counts = new Map<string, number>();
          for (const owner of (await owned()).values())
            if (owner !== null) counts.set(owner, (counts.get(owner) ?? 0) + 1);
          const all = [...counts.values()].reduce((sum, n) => sum + n, 0);
          if (all === SHARDS && wanted(counts)) return;
          if (performance.now() > deadline) throw new Error(`shards have not moved: ${[...counts].join(' ')}`);
          await pause(20);
        }
      };
      const callers = new Callers(broker);
      callers.begin();
      await pause(4_000);
      const steady = callers.take();
      say(`undisturbed: p99 ${p99(steady).toFixed(1)} ms of ${steady.length} calls`);
      const calls: Call[] = [];
      const gaps: number[] = [];
      const drains: number[] = [];
      let moves = 0;
      for (let turn = 0; turn < TURNS; turn++) {
        const name = NODES[turn % NODES.length];
        const before = await owned();
        const from = performance.now();
        await broker.call('nodes.drain', { node: name }, { timeout: 40_000 });
        drains.push(performance.now() - from);
        await spread((counts) => !counts.has(name));
        await pause(500);
        const between = await owned();
        await broker.call('nodes.undrain', { node: name }, { timeout: 40_000 });
        await spread((counts) => (counts.get(name) ?? 0) >= Math.floor(SHARDS / NODES.length) / 2);
        await pause(1_000);
        const after = await owned();
        const moved = new Set(
          [...before.keys()].filter((s) => before.get(s) !== between.get(s) || between.get(s) !== after.get(s)),
        );
        moves += moved.size;
        const during = callers.take();
        const slow = during.reduce((most, call) => (moved.has(call.shard) ? Math.max(most, call.tookMs) : most), 0);
        gaps.push(longestGap(during, moved));
        calls.push(...during);
        say(
          `${name} emptied in ${Math.round(drains[turn])} ms and filled, ${moved.size} shards moved: p99 ${p99(during).toFixed(1)} ms, slowest at a moved shard ${slow.toFixed(0)} ms; ${callers.failed} failed so far`,
        );
      }
      await callers.end();
      for (const [why, n] of callers.reasons) say(`failed: ${n} × ${why}`);
      const times = calls.map(({ tookMs }) => tookMs);
      return [
        { what: `calls while ${moves} shards moved, p99`, value: percentile(times, 0.99), unit: 'ms', atMost: 200 },
        { what: 'undisturbed, p99', value: p99(steady), unit: 'ms' },
        { what: 'failed', value: callers.failed, unit: 'calls', atMost: 0 },
        { what: 'longest call', value: Math.max(...times), unit: 'ms' },
        {
          what: 'longest that callers of a moved shard waited without any answer from it',
          value: Math.max(...gaps),
          unit: 'ms',
        },
        { what: 'drain of a node, longest', value: Math.max(...drains), unit: 'ms' },
      ] satisfies Figure[];
    } finally {
      await mesh.stop();
    }
  },
};
export default scenario;

/** How long a shard that moved left callers without any answer while at least one waited, ms: the longest. */
function longestGap(calls: readonly Call[], moved: ReadonlySet<number>): number {
  let longest = 0;
  for (const shard of moved) {
    const answers = calls
      .filter((call) => call.shard === shard)
      .map(({ sentAt, tookMs }) => ({ sentAt, at: sentAt + tookMs }))
      .sort((a, b) => a.at - b.at);
    // of this answer and those after it, the one that was asked first: since then somebody waits
    const waitsSince = answers.map(({ sentAt }) => sentAt);
    for (let i = answers.length - 2; i >= 0; i--) waitsSince[i] = Math.min(waitsSince[i], waitsSince[i + 1]);
    answers.forEach(({ at }, i) => {
      const before = i === 0 ? Number.NEGATIVE_INFINITY : answers[i - 1].at;
      longest = Math.max(longest, at - Math.max(before, waitsSince[i]));
    });
  }
  return longest;
}

function p99(calls: readonly Call[]): number {
  return percentile(
    calls.map(({ tookMs }) => tookMs),
    0.99,
  );
}

/** An open loop: a call that is slow does not slow the next. */
class Callers {
  failed = 0;
  readonly reasons = new Map<string, number>();
  readonly #broker: { call(action: string, params: object): Promise<unknown> };
  #calls: Call[] = [];
  #timer: NodeJS.Timeout | undefined;
  #open = 0;

  constructor(broker: { call(action: string, params: object): Promise<unknown> }) {
    this.#broker = broker;
  }

  begin(): void {
    const startedAt = performance.now();
    let sent = 0;
    this.#timer = setInterval(() => {
      const due = Math.floor(((performance.now() - startedAt) / 1000) * CALLS_PER_S);
      for (; sent < due; sent++) void this.#one(sent);
    }, 2);
  }

  /** The calls answered since last time. */
  take(): Call[] {
    const calls = this.#calls;
    this.#calls = [];
    return calls;
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#open > 0) await pause(20);
  }

  async #one(k: number): Promise<void> {
    const sentAt = performance.now();
    const twinId = `machine:D${(k * 7919) % TWINS}`;
    this.#open++;
    try {
      if (k % COMMAND_EVERY === 0) await this.#broker.call('twins.desired', { twinId, patch: { temperature: k % 90 } });
      else {
        const view = (await this.#broker.call('twins.get', { twinId })) as { stale: unknown };
        if (view.stale !== null) throw new Error(`stale: ${JSON.stringify(view.stale)}`);
      }
      this.#calls.push({ shard: shardOf(twinId, SHARDS), sentAt, tookMs: performance.now() - sentAt });
    } catch (error) {
      this.failed++;
      const why = `${(error as { code?: string }).code ?? ''} ${(error as Error).message.replace(/\d+/g, 'N').slice(0, 80)}`;
      this.reasons.set(why, (this.reasons.get(why) ?? 0) + 1);
    } finally {
      this.#open--;
    }
  }
}
