import type { MqttClient } from 'mqtt';
import { startNode } from '../node.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';

const RATE = 1_000;
const SECONDS = 15;
/** Readings of the measurement that are anomalies, a second: each of a twin of its own, because of the cooldown. */
const ANOMALIES = 100;
const STEADY = 500;
/** Twins whose readings are heard themselves. */
const ECHOED = 20;
/** As many as the z-score wants, and some more. */
const WARM_UP = 25;
const WARM_UP_STEP_MS = 2_000;
const WINDOW = 2_000;
/** After the last reading the rest is waited for so long; what comes later is counted as missing. */
const PATIENCE_MS = 20_000;

interface Seen {
  statistical: number[];
  model: number[];
  /** Readings themselves, as the broker hands them on once they are committed: sooner nothing can be heard of them. */
  echo: number[];
}

/** The whole node in its own process: how soon an MQTT client hears of the anomaly in a reading that another one publishes. */
const scenario: Scenario = {
  name: 'anomaly-latency',
  title: 'Reading published over MQTT to anomaly-detected received over MQTT, QoS 1 both',
  async run(say) {
    const node = await startNode();
    try {
      const [publisher, subscriber] = [await node.connect('bench-publisher'), await node.connect('bench-subscriber')];
      const odd = Array.from({ length: ANOMALIES * SECONDS }, (_, i) => `ODD${i}`);
      await warmUp(publisher, [...Array.from({ length: STEADY }, (_, i) => `STEADY${i}`), ...odd]);
      say(`${STEADY + odd.length} twins warmed up`);
      const { seen, missing } = await measure(publisher, subscriber, odd);
      say(
        `${seen.statistical.length} statistical and ${seen.model.length} model anomalies received, ${missing} missing`,
      );
      await Promise.all([publisher.endAsync(), subscriber.endAsync()]);
      return figures(seen, missing);
    } finally {
      await node.stop();
    }
  },
};
export default scenario;

function figures(seen: Seen, missing: number): Figure[] {
  const of = (kind: 'statistical' | 'model'): Figure[] => [
    {
      what: `reading → ${kind} anomaly received at ${RATE} readings/s, p50`,
      value: percentile(seen[kind], 0.5),
      unit: 'ms',
      atMost: 40,
      ceiling: { what: 'ms to the committed reading itself', value: percentile(seen.echo, 0.5) },
    },
    {
      what: 'the same, p99',
      value: percentile(seen[kind], 0.99),
      unit: 'ms',
      atMost: 100,
      ceiling: { what: 'ms to the committed reading itself', value: percentile(seen.echo, 0.99) },
    },
  ];
  return [
    ...of('statistical'),
    { what: 'statistical anomalies not received', value: missing, unit: 'anomalies', atMost: 0 },
    // Without models on disk there is nothing to say about them.
    ...(seen.model.length > 0 ? of('model') : []),
  ];
}

function payload(at: number, k: number, more: Record<string, number> = {}): string {
  const noise = Math.sin(k * 12.9898) / 2;
  return JSON.stringify({
    at,
    values: {
      temperature: 65 + noise,
      vibration: 1.2 + noise / 10,
      pressure: 45 + noise,
      power: 250 + 4 * noise,
      ...more,
    },
  });
}

async function warmUp(client: MqttClient, twins: readonly string[]): Promise<void> {
  const base = Date.now() - WARM_UP * WARM_UP_STEP_MS;
  let inFlight = 0;
  for (let k = 0; k < WARM_UP; k++) {
    for (const twin of twins) {
      inFlight++;
      client.publish(`twins/machine/${twin}/telemetry`, payload(base + k * WARM_UP_STEP_MS, k), { qos: 1 }, () => {
        inFlight--;
      });
      while (inFlight >= WINDOW) await pause(1);
    }
  }
  while (inFlight > 0) await pause(5);
  // Models are asked again only when some time has passed.
  await pause(10_000);
}

async function measure(
  publisher: MqttClient,
  subscriber: MqttClient,
  odd: readonly string[],
): Promise<{ seen: Seen; missing: number }> {
  const sentAt = new Map<string, number>();
  const seen: Seen = { statistical: [], model: [], echo: [] };
  const heard = new Set<string>();
  subscriber.on('message', (topic, message) => {
    const now = performance.now();
    if (topic.endsWith('/telemetry')) {
      const sent = sentAt.get(String(JSON.parse(message.toString('utf8')).at));
      if (sent !== undefined) seen.echo.push(now - sent);
      return;
    }
    const { machine_id: id, model_version: version } = JSON.parse(message.toString('utf8'));
    const kind = String(version).includes('@') ? 'model' : 'statistical';
    const sent = sentAt.get(id);
    // One reading may be odd in more than one way; the first to say so counts.
    if (sent === undefined || heard.has(`${kind} ${id}`)) return;
    heard.add(`${kind} ${id}`);
    seen[kind].push(now - sent);
  });
  const echoed = Array.from({ length: ECHOED }, (_, i) => `STEADY${i * 10 + 1}`);
  const topics = echoed.map((twin) => `twins/machine/${twin}/telemetry`);
  await subscriber.subscribeAsync([...topics, 'twins/machine/+/events/anomaly-detected'], { qos: 1 });

  const startedAt = performance.now();
  const total = RATE * SECONDS;
  const every = RATE / ANOMALIES;
  let k = 0;
  let at = 0;
  while (k < total) {
    const due = Math.min(total, Math.floor(((performance.now() - startedAt) / 1_000) * RATE));
    for (; k < due; k++) {
      const isOdd = k % every === 0;
      const twin = isOdd ? odd[k / every] : `STEADY${k % STEADY}`;
      at = Math.max(at + 1, Date.now());
      if (isOdd) sentAt.set(twin, performance.now());
      else if (echoed.includes(twin)) sentAt.set(String(at), performance.now());
      const more: Record<string, number> = isOdd ? { vibration: 9, temperature: 80, power: 700 } : {};
      publisher.publish(`twins/machine/${twin}/telemetry`, payload(at, k, more), { qos: 1 });
    }
    await pause(1);
  }
  const until = performance.now() + PATIENCE_MS;
  while (seen.statistical.length < odd.length && performance.now() < until) await pause(20);
  await pause(1_000);
  return { seen, missing: odd.length - seen.statistical.length };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
