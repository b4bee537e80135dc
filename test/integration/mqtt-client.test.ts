import mqtt from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../actors/protocol/clock.ts';
import { MqttBroker } from '../../mixins/mqtt-broker.ts';
import { MqttClient, type MqttClientOptions } from '../../mixins/mqtt-client.ts';
import { findMosquitto, Mosquitto } from './mosquitto.ts';

const binary = findMosquitto();
const clients: { close(): unknown }[] = [];

function subscriber(port: number, over: Partial<MqttClientOptions> = {}) {
  const seen: string[] = [];
  const states: string[] = [];
  const client = new MqttClient({
    url: `mqtt://127.0.0.1:${port}`,
    clientId: `twinmesh-${Math.random().toString(36).slice(2)}`,
    filters: ['in/#'],
    onMessage: (_, payload, done) => {
      seen.push(Buffer.from(payload).toString());
      done('stored');
    },
    onState: (state, reason) => states.push(reason === null ? state : `${state}: ${reason}`),
    clock: systemClock,
    random: Math.random,
    backoffMs: { first: 20, most: 200 },
    ...over,
  });
  clients.push(client);
  client.open();
  return { client, seen, states };
}

async function publisher(port: number) {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 50 });
  clients.push({ close: () => client.endAsync(true) });
  return client;
}

const until = (what: () => boolean) => expect.poll(what, { timeout: 20_000, interval: 10 }).toBe(true);

afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
});

describe.skipIf(binary === null)('the MQTT client on Mosquitto', () => {
  let broker: Mosquitto;
  beforeAll(async () => {
    broker = new Mosquitto(binary as string);
    await broker.start();
  });
  afterAll(() => broker.remove());

  it('speaks MQTT 5 and gets what is published, in order', async () => {
    const { client, seen } = subscriber(broker.port);
    await until(() => client.state === 'connected');
    expect(client.version).toBe(5);
    const sender = await publisher(broker.port);
    await Promise.all(Array.from({ length: 3000 }, (_, i) => sender.publishAsync('in/a', String(i), { qos: 1 })));
    await until(() => seen.length === 3000);
    expect(seen).toEqual(Array.from({ length: 3000 }, (_, i) => String(i)));
  });

  it('gets again what it had not acknowledged, and only that, also after a restart of its own', async () => {
    const clientId = 'twinmesh-again';
    const held = new Map<string, () => void>();
    const first = subscriber(broker.port, {
      clientId,
      onMessage: (_, payload, done) => void held.set(Buffer.from(payload).toString(), () => done('stored')),
    });
    await until(() => first.client.state === 'connected');
    const sender = await publisher(broker.port);
    for (const text of ['a', 'b', 'c', 'd']) await sender.publishAsync('in/x', text, { qos: 1 });
    await until(() => held.size === 4);
    // Acknowledgements keep the order: c is done, and waits for b.
    held.get('a')?.();
    held.get('c')?.();
    await new Promise((resolve) => setTimeout(resolve, 200));
    first.client.close();
    await sender.publishAsync('in/x', 'e', { qos: 1 });
    const second = subscriber(broker.port, { clientId });
    await until(() => second.seen.includes('e'));
    expect(second.seen).toEqual(['b', 'c', 'd', 'e']);
  });

  it('acknowledges many at once: far more than one a commit', async () => {
    let waiting: (() => void)[] = [];
    let flushes = 0;
    let count = 0;
    const commit = setInterval(() => {
      if (waiting.length === 0) return;
      flushes++;
      for (const done of waiting.splice(0)) done();
    }, 20);
    const { client } = subscriber(broker.port, {
      onMessage: (_, __, done) => {
        count++;
        waiting.push(() => done('stored'));
      },
    });
    await until(() => client.state === 'connected');
    const sender = await publisher(broker.port);
    await Promise.all(Array.from({ length: 20_000 }, (_, i) => sender.publishAsync('in/a', String(i), { qos: 1 })));
    await until(() => count === 20_000);
    clearInterval(commit);
    waiting = [];
    expect(count / flushes).toBeGreaterThan(50);
  });

  it('stops reading while too much waits, and loses nothing', async () => {
    const waiting: (() => void)[] = [];
    let most = 0;
    let count = 0;
    const { client } = subscriber(broker.port, {
      maxWaiting: 100,
      onMessage: (_, __, done) => {
        count++;
        waiting.push(() => done('stored'));
        most = Math.max(most, waiting.length);
      },
    });
    await until(() => client.state === 'connected');
    const sender = await publisher(broker.port);
    const kilobyte = 'x'.repeat(1000);
    const sent = Promise.all(Array.from({ length: 2000 }, () => sender.publishAsync('in/a', kilobyte, { qos: 1 })));
    const drain = setInterval(() => {
      for (const done of waiting.splice(0)) done();
    }, 5);
    await sent;
    await until(() => count === 2000);
    clearInterval(drain);
    // And what one chunk may hold.
    expect(most).toBeLessThanOrEqual(100 + 65_536 / 1000);
  });

  it('comes back after the broker was killed, and subscribes again', async () => {
    const { client, seen, states } = subscriber(broker.port);
    await until(() => client.state === 'connected');
    await broker.kill();
    await until(() => client.state === 'waiting');
    await expect(client.publish('out', 'x', { retain: false, qos: 1 })).rejects.toMatchObject({ code: 'unavailable' });
    await broker.start();
    await until(() => client.state === 'connected');
    const sender = await publisher(broker.port);
    await until(() => states.filter((state) => state === 'connected').length >= 2);
    await sender.publishAsync('in/a', 'after', { qos: 1 });
    await until(() => seen.includes('after'));
    expect(client.version).toBe(5);
  });

  it('publishes with the broker’s word for it, and leaves alone what is retained', async () => {
    const { client, seen } = subscriber(broker.port);
    await until(() => client.state === 'connected');
    await client.publish('in/retained', 'old', { retain: true, qos: 1 });
    await until(() => seen.includes('old'));
    const sender = await publisher(broker.port);
    const late: string[] = [];
    sender.on('message', (_, payload, packet) => late.push(`${payload.toString()} ${packet.retain}`));
    await sender.subscribeAsync('in/retained');
    await until(() => late.length === 1);
    expect(late).toEqual(['old true']);
    const other = subscriber(broker.port);
    await until(() => other.client.state === 'connected');
    await sender.publishAsync('in/live', 'new', { qos: 1 });
    await until(() => other.seen.includes('new'));
    expect(other.seen).toEqual(['new']);
    await client.publish('in/retained', '', { retain: true, qos: 1 });
  });
});

describe('the MQTT client on a broker of MQTT 3.1.1', () => {
  it('falls back, signs in with what the URL says, and subscribes', async () => {
    const names: string[] = [];
    const broker = new MqttBroker({
      host: '127.0.0.1',
      port: 0,
      wsPort: 0,
      authenticate: async (username, password) => {
        names.push(`${username}:${password}`);
        return { keyId: 'k', name: username, role: 'operator' };
      },
      onMessage: (_, done) => done('stored'),
    });
    await broker.listen();
    try {
      for (const url of [
        `mqtt://us%40er:p%3Aw@127.0.0.1:${broker.address.port}`,
        `ws://us%40er:p%3Aw@127.0.0.1:${broker.address.wsPort}/mqtt`,
      ]) {
        const { client, seen } = subscriber(0, { url });
        await until(() => client.state === 'connected');
        expect(client.version).toBe(4);
        await until(() => {
          void broker.publish('in/a', 'hello', { retain: false, qos: 1 });
          return seen.includes('hello');
        });
        client.close();
      }
      expect(new Set(names)).toEqual(new Set(['us@er:p:w']));
    } finally {
      await broker.close();
    }
  });

  it('tells why it waits', async () => {
    const { client, states } = subscriber(1);
    await until(() => client.state === 'waiting');
    expect(states.join()).toContain('ECONNREFUSED');
    client.close();
    expect(client.state).toBe('closed');
  });
});
