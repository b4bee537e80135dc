import { get } from 'node:http';
import type { MqttClient } from 'mqtt';
import { type BenchNode, startNode } from '../node.ts';
import { type Figure, percentile, type Scenario, seconds } from '../scenario.ts';

const RATE = 1_000;
const SECONDS = 15;
const TWINS = 100;
const WATCHED = 10;
const MESSAGES = 60_000;
const WINDOW = 5_000;

/** The whole node in its own process: how soon a QoS 1 message is seen over SSE, and what one connection carries. */
const scenario: Scenario = {
  name: 'mqtt',
  title: 'MQTT QoS 1 to SSE, and durable messages of one connection, against a whole node',
  async run(say) {
    const node = await startNode();
    try {
      return [...(await latency(node, say)), ...(await throughput(node, say))];
    } finally {
      await node.stop();
    }
  },
};
export default scenario;

function payload(at: number, k: number): string {
  return JSON.stringify({
    at,
    values: { temperature: 65 + Math.sin(k), vibration: 1.2, pressure: 45, power: 250 + (k % 7) },
  });
}

async function latency(node: BenchNode, say: (line: string) => void): Promise<Figure[]> {
  const client = await node.connect('bench-latency');
  const base = Date.now();
  for (let i = 0; i < TWINS; i++)
    await client.publishAsync(`twins/machine/L${i}/telemetry`, payload(base - 1000, 0), { qos: 1 });
  const sentAt = new Map<string, number>();
  const samples: number[] = [];
  const streams = await Promise.all(
    Array.from({ length: WATCHED }, (_, i) =>
      follow(node, `machine:L${i}`, (at) => {
        const sent = sentAt.get(`${i}@${at}`);
        if (sent !== undefined) samples.push(performance.now() - sent);
      }),
    ),
  );
  const startedAt = performance.now();
  let k = 0;
  let unacknowledged = 0;
  while (k < RATE * SECONDS) {
    const due = Math.min(RATE * SECONDS, Math.floor(((performance.now() - startedAt) / 1000) * RATE));
    for (; k < due; k++) {
      const i = k % TWINS;
      // a millisecond of its own for every message of a twin, never in the future
      const at = base - 900 + Math.floor(k / TWINS);
      sentAt.set(`${i}@${at}`, performance.now());
      unacknowledged++;
      client.publish(`twins/machine/L${i}/telemetry`, payload(at, k), { qos: 1 }, () => unacknowledged--);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await wait(() => unacknowledged === 0 && samples.length >= (RATE * SECONDS * WATCHED) / TWINS);
  for (const close of streams) close();
  await client.endAsync();
  // the first second warms up
  const measured = samples.slice((RATE * WATCHED) / TWINS);
  say(`${measured.length} messages seen`);
  return [
    {
      what: `publish → seen over SSE at ${RATE} messages/s, p50`,
      value: percentile(measured, 0.5),
      unit: 'ms',
      atMost: 20,
    },
    { what: 'the same, p99', value: percentile(measured, 0.99), unit: 'ms', atMost: 100 },
  ];
}

async function throughput(node: BenchNode, say: (line: string) => void): Promise<Figure[]> {
  const client = await node.connect('bench-throughput');
  const base = Date.now() - 3_600_000;
  const rates: number[] = [];
  for (let round = 0; round < 3; round++) {
    const took = await seconds(() => publishAll(client, base, round));
    rates.push(MESSAGES / took);
    say(`round ${round}: ${Math.round(rates[round]).toLocaleString('en-US')} messages/s acknowledged`);
  }
  await client.endAsync();
  return [
    {
      what: `one QoS 1 connection, ${WINDOW.toLocaleString('en-US')} in flight, acknowledged after the commit`,
      value: Math.max(...rates.slice(1)),
      unit: 'messages/s',
      atLeast: 10_000,
      note: 'publisher on the same two cores',
    },
  ];
}

function publishAll(client: MqttClient, base: number, round: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let sent = 0;
    let acknowledged = 0;
    const more = (): void => {
      while (sent < MESSAGES && sent - acknowledged < WINDOW) {
        const k = sent++;
        client.publish(
          `twins/machine/T${k % 1000}/telemetry`,
          payload(base + round * MESSAGES + k, k),
          { qos: 1 },
          (error) => {
            if (error) reject(error);
            acknowledged++;
            if (acknowledged === MESSAGES) resolve();
            else if (sent - acknowledged < WINDOW / 2) more();
          },
        );
      }
    };
    more();
  });
}

/** Follows the entries of a twin; the call back gets the event time of each reading. */
function follow(node: BenchNode, twinId: string, seen: (at: number) => void): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${node.key}`, accept: 'text/event-stream' };
    const request = get(`${node.http}/api/v1/twins/${twinId}`, { headers, agent: false }, (response) => {
      if (response.statusCode !== 200) {
        reject(new Error(`${twinId}: ${response.statusCode}`));
        return;
      }
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
          const event = text.slice(0, end);
          text = text.slice(end + 2);
          if (!event.includes('event: reading')) continue;
          const data = event.split('\n').find((line) => line.startsWith('data: '));
          if (data) seen(Date.parse((JSON.parse(data.slice(6)) as { at: string }).at));
        }
      });
      resolve(() => request.destroy());
    });
    request.on('error', (error) => {
      if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') reject(error);
    });
  });
}

async function wait(done: () => boolean): Promise<void> {
  for (let i = 0; i < 3_000; i++) {
    if (done()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('gave up waiting for the last messages');
}
