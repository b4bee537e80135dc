import { startMesh } from '../../test/servers/mesh.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';

/** Three nodes restarted one after the other while another node calls them a thousand times a second. */
const TWINS = 3_000;
const CALLS_PER_S = Number(process.env.CALLS ?? 1_000);
const COMMAND_EVERY = 10;

const scenario: Scenario = {
  name: 'rolling-restart',
  title: 'Restarting three nodes one after the other at 1,000 calls/s',
  async run(say) {
    const mesh = await startMesh({ shards: 256 });
    if (mesh === null) return [];
    try {
      const { broker } = mesh;
      for (const name of ['a', 'b', 'c']) await mesh.start(name, { ROLES: 'host,ingest' });
      await mesh.settled();
      await broker.waitForServices(['twins', 'ingest'], 10_000);
      const now = Date.now();
      const lines = Array.from({ length: TWINS }, (_, i) =>
        JSON.stringify({ twinId: `machine:R${i}`, at: now, values: { temperature: 60 + (i % 10) } }),
      );
      await broker.call('ingest.submit', {
        protocol: 'http',
        address: '/api/v1/telemetry',
        payload: lines.join('\n'),
        ndjson: true,
      });
      const calls = new Calls(mesh.broker);
      calls.begin();
      await pause(3_000);
      say(`warm: p99 ${percentile(calls.times, 0.99).toFixed(1)} ms over ${calls.times.length} calls`);
      calls.reset();
      const took: number[] = [];
      for (const name of ['a', 'b', 'c']) {
        const from = performance.now();
        const code = await mesh.end(name);
        took.push(performance.now() - from);
        say(`${name} ended with ${code} in ${Math.round(took.at(-1)!)} ms; ${calls.failed} failed so far`);
        await mesh.start(name, { ROLES: 'host,ingest' });
        await mesh.settled();
        await pause(2_000);
        say(`${name} is back; p99 so far ${percentile(calls.times, 0.99).toFixed(1)} ms`);
      }
      await calls.end();
      for (const [why, n] of calls.reasons) say(`failed: ${n} × ${why}`);
      const { times } = calls;
      return [
        { what: `calls during three restarts (a tenth of them commands)`, value: times.length, unit: 'calls' },
        { what: 'failed', value: calls.failed, unit: 'calls', atMost: 0 },
        { what: 'p50', value: percentile(times, 0.5), unit: 'ms' },
        { what: 'p99', value: percentile(times, 0.99), unit: 'ms', atMost: 500 },
        { what: 'longest', value: Math.max(...times), unit: 'ms' },
        { what: 'stop of a node, longest', value: Math.max(...took), unit: 'ms' },
      ] satisfies Figure[];
    } finally {
      await mesh.stop();
    }
  },
};

class Calls {
  times: number[] = [];
  failed = 0;
  readonly reasons = new Map<string, number>();
  readonly #broker: { call(action: string, params: object): Promise<unknown> };
  #timer: NodeJS.Timeout | undefined;
  #open = 0;

  constructor(broker: unknown) {
    this.#broker = broker as never;
  }

  /** An open loop: a call that is slow does not slow the next. */
  begin(): void {
    const startedAt = performance.now();
    let sent = 0;
    this.#timer = setInterval(() => {
      const due = Math.floor(((performance.now() - startedAt) / 1000) * CALLS_PER_S);
      for (; sent < due; sent++) void this.#one(sent);
    }, 5);
  }

  reset(): void {
    this.times = [];
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#open > 0) await pause(20);
  }

  async #one(k: number): Promise<void> {
    const from = performance.now();
    const twinId = `machine:R${(k * 7919) % TWINS}`;
    this.#open++;
    try {
      if (k % COMMAND_EVERY === 0) await this.#broker.call('twins.desired', { twinId, patch: { temperature: k % 90 } });
      else {
        const view = (await this.#broker.call('twins.get', { twinId })) as { twinId: string; stale: unknown };
        if (view.stale !== null) throw new Error(`stale: ${JSON.stringify(view.stale)}`);
      }
      this.times.push(performance.now() - from);
    } catch (error) {
      this.failed++;
      const why = `${(error as { code?: string }).code ?? ''} ${(error as Error).message.replace(/\d+/g, 'N').slice(0, 80)}`;
      this.reasons.set(why, (this.reasons.get(why) ?? 0) + 1);
    } finally {
      this.#open--;
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export default scenario;
