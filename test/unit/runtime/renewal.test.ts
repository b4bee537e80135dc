import { describe, expect, it } from 'vitest';
import { MemoryLog } from '../../../actors/log/memory.ts';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { defineTwin } from '../../../actors/protocol/kind.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { Host } from '../../../actors/runtime/host.ts';
import { registryOf } from '../../../actors/runtime/kind-registry.ts';
import { MemoryStore } from '../../../actors/store/memory.ts';
import { Process, Scheduler } from '../../simulation/clock.ts';

const SHARDS = 4;
const PUMP = defineTwin({
  kind: 'pump',
  version: 1,
  title: 'pump',
  description: 'for tests',
  metrics: { heat: { unit: '°C', min: -100, max: 100 } },
  formats: [{ name: 'x', example: {}, decode: () => ({ id: 'b', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: 60_000, panes: 6 } },
  detectors: {},
  rules: [],
  silentAfterMs: 6_000_000,
  graph: { type: 'X' },
  digest: () => '',
});

async function started() {
  const scheduler = new Scheduler(2_000_000);
  const { clock, breathe } = new Process('p', scheduler, 1);
  const store = new MemoryStore();
  const log = new MemoryLog({ clock, maxReadings: 10_000 });
  await store.open([PUMP], SHARDS);
  const random = seededRandom(1);
  const options = { node: 'one', kinds: registryOf([PUMP]), store, log, clock, breathe, random, shards: SHARDS };
  const host = new Host({ ...options, ttlMs: 60_000 });
  const pass = async (ms: number) => {
    await new Promise((resolve) => setImmediate(resolve));
    await scheduler.run(scheduler.time + ms);
  };
  void host.start();
  await pass(2_000);
  expect(host.status().shards.owned).toBe(SHARDS);
  const at = clock.now();
  const readings = [{ kind: 'pump', id: 'a', at, values: { heat: 7 } }];
  void log.append({ shard: shardOf('pump:a', SHARDS), id: 'm1', receivedAt: at, readings });
  await pass(1_000);
  return { host, store, pass };
}

describe('shards that are claimed anew after a doubt', () => {
  it('keep their memory where nobody has had them in between', async () => {
    const { host, pass } = await started();
    const before = host.custody.shards.get(shardOf('pump:a', SHARDS));
    for (let shard = 0; shard < SHARDS; shard++) host.custody.renew(shard);
    expect(host.custody.epochOf(0)).toBeUndefined();
    await pass(1_000);
    expect(host.custody.shards.get(shardOf('pump:a', SHARDS))).toBe(before);
    expect(host.custody.busy.size).toBe(0);
    expect(before?.twins.has('pump:a')).toBe(true);
  });

  it('do not hold up a node that stops while the store is gone', async () => {
    const { host, store, pass } = await started();
    const gone = () => Promise.reject(new TwinmeshError('store_down', 'nobody is there'));
    Object.assign(store, { claim: gone, shards: gone, beat: gone, nodes: gone, commit: gone, release: gone });
    host.custody.renew(0);
    await pass(100);
    let hasStopped = false;
    void host.stop().then(() => {
      hasStopped = true;
    });
    await pass(60_000);
    expect(hasStopped).toBe(true);
    expect(host.custody.shards.size).toBe(0);
  });
});
