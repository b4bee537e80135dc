import { availableParallelism } from 'node:os';
import type { MqttClient } from 'mqtt';
import machine from '../../actors/kinds/machine.ts';
import type { SimulatedAsset } from '../../actors/protocol/kind.ts';
import { machineCpuS, treeCpuS } from '../cpu.ts';
import { type BenchNode, startNode } from '../node.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';

const RATE = 1_000;
const SECONDS = 15;
/** Readings of the measurement that are anomalies, a second: each of a twin of its own, because of the cooldown. */
const ANOMALIES = 100;
const STEADY = 500;
/** Twins whose readings are heard themselves. */
const ECHOED = 20;
/** So many more than are needed: whoever is found unusual in ordinary work has its cooldown, and is left out. */
const SPARE = 1.1;
/** As many as the z-score wants, and some more. */
const WARM_UP = 25;
const WARM_UP_STEP_MS = 2_000;
const WINDOW = 2_000;
/** Models have answered for what they were asked in the warm-up when they have not been asked for so long. */
const CALM_MS = 1_000;
const CALM_PATIENCE_MS = 60_000;
/** After the last reading the rest is waited for so long; what comes later is counted as missing. */
const PATIENCE_MS = 20_000;
/** Far outside of ordinary work, for detectors and model alike. */
const ODD = { vibration: 9, temperature: 80, power: 700 };
const EVENTS = 'twins/machine/+/events/anomaly-detected';

type Finder = 'statistical' | 'model';

interface Seen extends Record<Finder, number[]> {
  /** Readings themselves, as the broker hands them on once they are committed: sooner nothing can be heard of them. */
  echo: number[];
}

/** A machine of the simulator: a model knows its work as ordinary, which a series made up would not be. */
interface Plant {
  readonly id: string;
  readonly asset: SimulatedAsset;
}

/**
 * The whole node in its own process: how soon an MQTT client hears of the anomaly in a reading that another one publishes, from
 * a detector (in the commit of the reading) and from a model (asked after that commit, in the commit of its answer).
 */
const scenario: Scenario = {
  name: 'anomaly-latency',
  title: 'Reading published over MQTT to anomaly-detected received over MQTT, QoS 1 both',
  async run(say) {
    const node = await startNode();
    try {
      const [publisher, subscriber] = [await node.connect('bench-publisher'), await node.connect('bench-subscriber')];
      const plants = Array.from({ length: STEADY + Math.ceil(ANOMALIES * SECONDS * SPARE) }, (_, index) =>
        plant(index),
      );
      const steady = plants.slice(0, STEADY);
      const candidates = plants.slice(STEADY);
      const loud = await warmUp(node, publisher, subscriber, plants);
      const odd = candidates.filter(({ id }) => !loud.has(id)).slice(0, ANOMALIES * SECONDS);
      if (odd.length < ANOMALIES * SECONDS) throw new Error(`only ${odd.length} twins had nothing unusual`);
      say(`${plants.length} twins warmed up, anomalies in the ordinary work of ${loud.size}`);
      const before = await answers(node);
      const { seen, tookS, cores } = await measure(publisher, subscriber, steady, odd);
      const predicted = ((await answers(node)) - before) / tookS;
      say(
        `${seen.statistical.length} statistical and ${seen.model.length} model anomalies of ${odd.length} received, ` +
          `${Math.round(predicted)} predictions/s; ${cores}`,
      );
      await Promise.all([publisher.endAsync(), subscriber.endAsync()]);
      return (['statistical', 'model'] as const).flatMap((finder) => figures(finder, seen, odd.length, cores));
    } finally {
      await node.stop();
    }
  },
};
export default scenario;

function figures(finder: Finder, seen: Seen, sent: number, cores: string): Figure[] {
  const ceiling = (share: number) => ({
    what: 'ms to the committed reading itself',
    value: percentile(seen.echo, share),
  });
  const missing: Figure = {
    what: `${finder} anomalies not received`,
    value: sent - seen[finder].length,
    unit: 'anomalies',
    atMost: 0,
    note: `of ${sent}`,
  };
  if (seen[finder].length === 0) return [missing];
  return [
    {
      what: `reading → ${finder} anomaly received at ${RATE} readings/s, p50`,
      value: percentile(seen[finder], 0.5),
      unit: 'ms',
      atMost: 40,
      ceiling: ceiling(0.5),
      note: cores,
    },
    {
      what: 'the same, p99',
      value: percentile(seen[finder], 0.99),
      unit: 'ms',
      atMost: 100,
      ceiling: ceiling(0.99),
    },
    missing,
  ];
}

function plant(index: number): Plant {
  const { simulator } = machine;
  if (simulator === undefined) throw new Error('machines have no simulator');
  return { id: `PRESS${index}`, asset: simulator.create({ seed: 1, index }) };
}

function payload({ asset }: Plant, at: number, more: Record<string, number> = {}): string {
  const said = asset.next(at) as { readings: Record<string, number> };
  return JSON.stringify({ at, values: { ...said.readings, ...more } });
}

/** Fifty seconds of ordinary work of each. Answers whose work was found unusual. */
async function warmUp(
  node: BenchNode,
  publisher: MqttClient,
  subscriber: MqttClient,
  plants: readonly Plant[],
): Promise<ReadonlySet<string>> {
  const loud = new Set<string>();
  const hear = (_topic: string, message: Buffer): void => {
    loud.add(JSON.parse(message.toString('utf8')).machine_id);
  };
  subscriber.on('message', hear);
  await subscriber.subscribeAsync(EVENTS, { qos: 1 });
  const base = Date.now() - WARM_UP * WARM_UP_STEP_MS;
  let inFlight = 0;
  for (let k = 0; k < WARM_UP; k++) {
    for (const one of plants) {
      inFlight++;
      const said = payload(one, base + k * WARM_UP_STEP_MS);
      publisher.publish(`twins/machine/${one.id}/telemetry`, said, { qos: 1 }, () => {
        inFlight--;
      });
      while (inFlight >= WINDOW) await pause(1);
    }
  }
  while (inFlight > 0) await pause(5);
  const until = performance.now() + CALM_PATIENCE_MS;
  for (let before = -1, now = await answers(node); now !== before; now = await answers(node)) {
    if (performance.now() > until) throw new Error('the models are still busy with the warm-up');
    before = now;
    await pause(CALM_MS);
  }
  await subscriber.unsubscribeAsync(EVENTS);
  subscriber.off('message', hear);
  return loud;
}

async function measure(
  publisher: MqttClient,
  subscriber: MqttClient,
  steady: readonly Plant[],
  odd: readonly Plant[],
): Promise<{ seen: Seen; tookS: number; cores: string }> {
  const sentAt = new Map<string, number>();
  const seen: Seen = { statistical: [], model: [], echo: [] };
  const heard = new Set<string>();
  subscriber.on('message', (topic, message) => {
    const now = performance.now();
    const said = JSON.parse(message.toString('utf8'));
    if (topic.endsWith('/telemetry')) {
      const sent = sentAt.get(String(said.at));
      if (sent !== undefined) seen.echo.push(now - sent);
      return;
    }
    const { machine_id: id, model_version: version } = said;
    const finder = String(version).includes('@') ? 'model' : 'statistical';
    const sent = sentAt.get(id);
    // One reading may be odd in more than one way; the first to say so counts.
    if (sent === undefined || heard.has(`${finder} ${id}`)) return;
    heard.add(`${finder} ${id}`);
    seen[finder].push(now - sent);
  });
  const echoed = new Set(Array.from({ length: ECHOED }, (_, i) => steady[i * 10 + 1]));
  const topics = [...echoed].map(({ id }) => `twins/machine/${id}/telemetry`);
  await subscriber.subscribeAsync([...topics, EVENTS], { qos: 1 });

  const [ownBefore, allBefore] = [treeCpuS(process.pid), machineCpuS()];
  const startedAt = performance.now();
  const total = RATE * SECONDS;
  const every = RATE / ANOMALIES;
  let k = 0;
  let at = 0;
  while (k < total) {
    const due = Math.min(total, Math.floor(((performance.now() - startedAt) / 1_000) * RATE));
    for (; k < due; k++) {
      const isOdd = k % every === 0;
      const one = isOdd ? odd[k / every] : steady[k % STEADY];
      at = Math.max(at + 1, Date.now());
      const said = payload(one, at, isOdd ? ODD : {});
      if (isOdd) sentAt.set(one.id, performance.now());
      else if (echoed.has(one)) sentAt.set(String(at), performance.now());
      publisher.publish(`twins/machine/${one.id}/telemetry`, said, { qos: 1 });
    }
    await pause(1);
  }
  const tookS = (performance.now() - startedAt) / 1_000;
  const own = (treeCpuS(process.pid) - ownBefore) / tookS;
  const others = (machineCpuS() - allBefore) / tookS - own;
  const cores = `node and clients used ${own.toFixed(1)} of ${availableParallelism()} cores, other work ${others.toFixed(1)}`;
  const until = performance.now() + PATIENCE_MS;
  const isDone = () => seen.statistical.length === odd.length && seen.model.length === odd.length;
  while (!isDone() && performance.now() < until) await pause(20);
  await pause(1_000);
  return { seen, tookS, cores };
}

/** Predictions that the node has given since it started. */
async function answers(node: BenchNode): Promise<number> {
  const response = await fetch(`${node.http}/metrics`);
  if (!response.ok) throw new Error(`/metrics: ${response.status} ${await response.text()}`);
  let sum = 0;
  for (const line of (await response.text()).split('\n'))
    if (line.startsWith('model_prediction_count{')) sum += Number(line.slice(line.lastIndexOf(' ') + 1));
  return sum;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
