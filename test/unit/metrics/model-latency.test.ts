import { expect, it } from 'vitest';
import { MemoryLog } from '../../../actors/log/memory.ts';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import type { TwinEvent } from '../../../actors/protocol/event.ts';
import { defineTwin } from '../../../actors/protocol/kind.ts';
import type { PredictAnswer, PredictRequest } from '../../../actors/protocol/prediction.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { Host } from '../../../actors/runtime/host.ts';
import { registryOf } from '../../../actors/runtime/kind-registry.ts';
import { MemoryStore } from '../../../actors/store/memory.ts';
import { Metrics } from '../../../services/metrics.ts';
import { Process, Scheduler } from '../../simulation/clock.ts';

const SHARDS = 1;
/** The model thinks for so long. */
const THINKS_MS = 4_000;

const valve = defineTwin({
  kind: 'valve',
  version: 1,
  title: 'Valve',
  description: 'for tests',
  metrics: { heat: { unit: '°C', min: -1e9, max: 1e9 } },
  formats: [{ name: 'x', example: {}, decode: () => ({ id: 'v', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: 60_000, panes: 6 } },
  detectors: {},
  rules: [],
  models: { anomaly: { model: 'valve-anomaly', inputs: ['heat'], everyMs: 60_000, anomaly: {} } },
  silentAfterMs: 6_000_000,
  graph: { type: 'Valve' },
  digest: () => '',
});

it('the latency of what a model finds begins when the reading that it was asked about was received', async () => {
  const scheduler = new Scheduler(1_000_000);
  const { clock, breathe } = new Process('p', scheduler, 1);
  const pass = async (ms: number): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    await scheduler.run(scheduler.time + ms);
  };
  const predictor = {
    async predict({ at }: PredictRequest): Promise<PredictAnswer> {
      await new Promise<void>((resolve) => clock.after(THINKS_MS, resolve));
      const said = { model: 'valve-anomaly@1.0.0', score: 9, threshold: 1, contributions: { heat: 1 } };
      return { predictions: at.map((time) => ({ ...said, at: time })) };
    },
  };
  const store = new MemoryStore();
  await store.open([valve], SHARDS);
  const log = new MemoryLog({ clock, maxReadings: 100 });
  const host = new Host({
    node: 'one',
    kinds: registryOf([valve]),
    store,
    log,
    clock,
    breathe,
    random: seededRandom(1),
    shards: SHARDS,
    ttlMs: 60_000,
    predictor,
  });
  const metrics = new Metrics(clock);
  metrics.followHost(host);
  const told: { event: TwinEvent; afterMs: number; heardAt: number | undefined }[] = [];
  host.onEvents((events, heardAt) => {
    for (const event of events) told.push({ event, afterMs: clock.now() - receivedAt, heardAt: heardAt.get(event) });
  });
  void host.start();
  await pass(2_000);
  const receivedAt = clock.now();
  const send = (id: string, heat: number) => {
    const readings = [{ kind: 'valve', id: 'v', at: clock.now(), values: { heat } }];
    void log.append({ shard: shardOf('valve:v', SHARDS), id, receivedAt: clock.now(), readings });
  };
  send('m1', 3);
  await pass(1_000);
  // comes while the model thinks about the one before
  send('m2', 4);
  await pass(THINKS_MS);

  const found = told.find(({ event }) => event.type === 'anomaly.detected');
  expect(found?.event.body).toMatchObject({ detector: 'model', score: 9 });
  expect(found?.heardAt).toBe(receivedAt);
  expect(found?.afterMs).toBeGreaterThanOrEqual(THINKS_MS);
  // only what a model found needs it: all else was received when its reading was
  for (const { event, heardAt } of told) expect(heardAt === undefined).toBe(event.type !== 'anomaly.detected');
  const text = await metrics.text();
  expect(text).toContain('anomaly_detection_latency_ms_count 1\n');
  expect(text).toContain(`anomaly_detection_latency_ms_sum ${found?.afterMs}\n`);
  // the event itself, as it is stored, says when the answer came, as ever
  const [stored] = (await store.events(0, 0, 100)).filter(({ type }) => type === 'anomaly.detected');
  expect(stored).toEqual(found?.event);
  expect(stored.receivedAt).toBeGreaterThanOrEqual(receivedAt + THINKS_MS);

  metrics.close();
  host.kill();
});
