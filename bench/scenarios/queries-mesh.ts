import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { startMesh } from '../../test/servers/mesh.ts';
import type { Task, Times } from '../http-client.ts';
import { pause, sizeOf } from '../plant.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';

const NODES = ['a', 'b', 'c'];
const TWINS = 3_000;
const PER_SECOND = sizeOf('CALLS', 1_000);
const SECONDS = sizeOf('SECONDS', 20);
const WARM_S = 5;
const PER_POST = 500;

/** Any twin from any node: two of three requests reach a gateway that does not own the twin and ask the node that does. */
const scenario: Scenario = {
  name: 'queries-mesh',
  title: `${PER_SECOND.toLocaleString('en-US')} requests/s for any of ${TWINS.toLocaleString('en-US')} twins at any of ${NODES.length} nodes`,
  async run(say) {
    const mesh = await startMesh({ shards: 256, ttlMs: 10_000, env: { DEMO: 'off', LOG_LEVEL: 'warn' } });
    if (mesh === null) return [];
    try {
      const urls: string[] = [];
      let key = '';
      for (const name of NODES) {
        const node = await mesh.start(name);
        urls.push((await node.until(/API\s+(http:\S+)\/api\/v1\/twins/))[1]);
        key ||= node.output.match(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/)?.[0] ?? '';
      }
      if (key === '') throw new Error('no node printed a key');
      await mesh.settled();
      await seed(urls[0], key);
      say(`${TWINS} twins over ${[...mesh.directory.counts()].map(([node, n]) => `${node}: ${n}`).join(', ')} shards`);

      const task = { urls, key, path: '/api/v1/twins/machine:Q{n}', twins: TWINS, perSecond: PER_SECOND };
      await request({ ...task, seconds: WARM_S });
      const http = await request({ ...task, seconds: SECONDS });
      told('HTTP', http, say);
      await mesh.broker.waitForServices(['twins'], 10_000);
      await calls(mesh.broker, WARM_S);
      const called = await calls(mesh.broker, SECONDS);
      told('broker.call', called, say);
      return [
        figure(`one twin over HTTP, p95 at ${PER_SECOND} requests/s`, http, 8),
        { what: 'requests failed', value: http.failed.length, unit: 'requests', atMost: 0 },
        figure(`one twin by broker.call, p95 at ${PER_SECOND} calls/s`, called, 8),
        { what: 'calls failed', value: called.failed.length, unit: 'calls', atMost: 0 },
      ];
    } finally {
      await mesh.stop();
    }
  },
};
export default scenario;

function figure(what: string, { times, lateMs }: Times, atMost: number): Figure {
  const at = (p: number): string => percentile(times, p).toFixed(1);
  const note = `p50 ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)}; ${times.length} answered, the client at most ${lateMs.toFixed(0)} ms late`;
  return { what, value: percentile(times, 0.95), unit: 'ms', atMost, note };
}

function told(what: string, { times, failed, lateMs }: Times, say: (line: string) => void): void {
  say(
    `${what}: p95 ${percentile(times, 0.95).toFixed(1)} ms of ${times.length}, ${failed.length} failed, client up to ${lateMs.toFixed(0)} ms late`,
  );
  for (const why of new Set(failed)) say(`failed: ${why}`);
}

async function seed(url: string, key: string): Promise<void> {
  const at = Date.now();
  for (let start = 0; start < TWINS; start += PER_POST) {
    const readings = Array.from({ length: PER_POST }, (_, i) => ({
      twinId: `machine:Q${start + i}`,
      at,
      values: { temperature: 60 + (i % 10), vibration: 1.2, pressure: 45, power: 250 },
    }));
    const response = await fetch(`${url}/api/v1/telemetry`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify(readings),
    });
    const { data } = (await response.json()) as { data?: { accepted: number } };
    if (data?.accepted !== PER_POST) throw new Error(`${response.status}: ${JSON.stringify(data)}`);
  }
}

/** By the client process. */
function request(task: Task): Promise<Times> {
  const program = fileURLToPath(new URL('../http-client.ts', import.meta.url));
  const child = spawn(process.execPath, [program], { stdio: ['pipe', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stdin.end(JSON.stringify(task));
  return new Promise((resolve, reject) => {
    child.on('exit', (code) =>
      code === 0 ? resolve(JSON.parse(output)) : reject(new Error(`the client ended with ${code}`)),
    );
  });
}

async function calls(
  broker: { call(action: string, params: object): Promise<unknown> },
  seconds: number,
): Promise<Times> {
  const result: Times = { times: [], failed: [], lateMs: 0 };
  const open = new Set<Promise<void>>();
  const startedAt = performance.now();
  const one = async (n: number): Promise<void> => {
    const from = performance.now();
    try {
      await broker.call('twins.get', { twinId: `machine:Q${(n * 7919) % TWINS}` });
      result.times.push(performance.now() - from);
    } catch (error) {
      result.failed.push((error as Error).message);
    }
  };
  for (let sent = 0; sent < PER_SECOND * seconds; ) {
    const now = performance.now() - startedAt;
    for (; (sent / PER_SECOND) * 1000 <= now && sent < PER_SECOND * seconds; sent++) {
      result.lateMs = Math.max(result.lateMs, now - (sent / PER_SECOND) * 1000);
      const call = one(sent).finally(() => open.delete(call));
      open.add(call);
    }
    await pause(1);
  }
  await Promise.all(open);
  return result;
}
