import { connect as connectTcp, createServer, type Socket } from 'node:net';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import packets from 'mqtt-packet';
import { afterEach, describe, expect, it } from 'vitest';
import type { Speaker } from '../../actors/ingress/speaker.ts';
import { MqttBroker, type MqttBrokerOptions, type MqttMessage } from '../../mixins/mqtt-broker.ts';

type Fate = 'stored' | 'refused' | 'lost';
const SPEAKERS: Record<string, Speaker> = {
  pump: { keyId: 'k1', name: 'pump', role: 'device', twinId: 'machine:PUMP' },
  fan: { keyId: 'k2', name: 'fan', role: 'device', twinId: 'machine:FAN' },
  hall: { keyId: 'k3', name: 'hall', role: 'device', gateway: true },
  eve: { keyId: 'k4', name: 'eve', role: 'viewer' },
  ada: { keyId: 'k5', name: 'ada', role: 'admin' },
};

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo();
});

async function brokerWith(over: Partial<MqttBrokerOptions> = {}) {
  const messages: (MqttMessage & { done(fate: Fate): void })[] = [];
  const broker = new MqttBroker({
    host: '127.0.0.1',
    port: 0,
    wsPort: 0,
    authenticate: async (username, password) => (password === 'right' ? (SPEAKERS[username] ?? null) : null),
    onMessage: (message, done) => {
      messages.push({ ...message, done });
      if (over.onMessage === undefined) done('stored');
    },
    ...over,
  });
  await broker.listen();
  cleanup.push(() => broker.close(50));
  const url = `mqtt://127.0.0.1:${broker.address.port}`;
  const connect = async (username: string, options: IClientOptions & { url?: string } = {}): Promise<MqttClient> => {
    const client = await mqtt.connectAsync(options.url ?? url, {
      username,
      password: 'right',
      reconnectPeriod: 0,
      ...options,
    });
    cleanup.push(() => client.endAsync(true));
    return client;
  };
  return {
    broker,
    messages,
    connect,
    url,
    texts: () => messages.map(({ payload }) => Buffer.from(payload).toString()),
  };
}

/** A client on the packets themselves, that sees each acknowledgement. */
async function raw(port: number, connect: Record<string, unknown> = {}) {
  const socket = connectTcp(port, '127.0.0.1');
  const seen: { cmd: string; messageId?: number; returnCode?: number; granted?: unknown; topic?: string }[] = [];
  const parser = packets.parser();
  parser.on('packet', (packet) => seen.push(packet as never));
  socket.on('data', (chunk: Buffer) => parser.parse(chunk));
  socket.on('error', () => {});
  cleanup.push(() => socket.destroy());
  const write = (packet: object) => packets.writeToStream(packet as never, socket);
  write({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 4,
    clientId: 'raw',
    clean: true,
    keepalive: 0,
    username: 'hall',
    password: Buffer.from('right'),
    ...connect,
  });
  await until(() => seen.some(({ cmd }) => cmd === 'connack') || socket.destroyed);
  const publish = (messageId: number, payload: string | Buffer, topic = 'a/b') =>
    write({ cmd: 'publish', topic, payload, qos: 1, messageId, dup: false, retain: false });
  return {
    socket,
    seen,
    write,
    publish,
    acked: () => seen.filter(({ cmd }) => cmd === 'puback').map(({ messageId }) => messageId),
  };
}

const until = (what: () => boolean) => expect.poll(what, { timeout: 10_000, interval: 5 }).toBe(true);
const moment = () => new Promise((resolve) => setTimeout(resolve, 100));
const closed = (socket: Socket) => until(() => socket.destroyed);

describe('acknowledgements', () => {
  it('come when the message is durable, each by itself, and not before', async () => {
    const held: ((fate: Fate) => void)[] = [];
    const { broker } = await brokerWith({ onMessage: (_, done) => void held.push(done) });
    const { publish, acked, socket } = await raw(broker.address.port);
    socket.cork();
    for (let id = 1; id <= 100; id++) publish(id, 'x');
    socket.uncork();
    await until(() => held.length === 100);
    await moment();
    expect(acked()).toEqual([]);
    expect(broker.waiting).toBe(100);
    held[1]('stored');
    held[99]('refused');
    await until(() => acked().length === 2);
    expect(acked()).toEqual([2, 100]);
    for (const [i, done] of held.entries()) if (i !== 1 && i !== 99) done('stored');
    await until(() => acked().length === 100);
  });

  it('hold back the connection: what lies beyond one chunk is not even read', async () => {
    let count = 0;
    const held: ((fate: Fate) => void)[] = [];
    const { broker } = await brokerWith({
      onMessage: (_, done) => {
        count++;
        held.push(done);
      },
    });
    const { publish, acked, socket } = await raw(broker.address.port);
    const kilobyte = 'x'.repeat(1000);
    for (let id = 1; id <= 5000; id++) publish(id, kilobyte);
    await until(() => count > 0);
    await moment();
    await moment();
    expect(count).toBeLessThan(1000);
    const drain = setInterval(() => {
      for (const done of held.splice(0)) done('stored');
    }, 2);
    cleanup.push(() => clearInterval(drain));
    await until(() => acked().length === 5000);
    expect(socket.destroyed).toBe(false);
  });

  it('do not come for what was lost: the connection ends, and the sender sends it again', async () => {
    const { broker } = await brokerWith({ onMessage: (_, done) => done('lost') });
    const { publish, acked, socket } = await raw(broker.address.port);
    publish(1, 'x');
    await closed(socket);
    expect(acked()).toEqual([]);
  });

  it('do not come after a stop has begun, and a stop is no death of the devices', async () => {
    const { broker, connect, messages } = await brokerWith();
    await connect('pump', {
      will: { topic: 'twins/machine/PUMP/status', payload: Buffer.from('offline'), qos: 1, retain: false },
    });
    const { publish, acked } = await raw(broker.address.port);
    const stopped = broker.close(100);
    publish(1, 'late');
    await stopped;
    expect(acked()).toEqual([]);
    expect(messages).toEqual([]);
  });
});

describe('who is let in', () => {
  it('is whoever has a key, over TCP and WebSocket, and nobody else', async () => {
    const { broker, connect, texts } = await brokerWith();
    for (const options of [
      { password: 'wrong' },
      { username: undefined, password: undefined },
      { password: undefined },
    ]) {
      await expect(connect('pump', options)).rejects.toThrow(/Not authorized|bad user|Connection refused/i);
    }
    await expect(connect('nobody')).rejects.toThrow();
    expect(broker.refusedSignIns).toBe(4);
    for (const url of [`mqtt://127.0.0.1:${broker.address.port}`, `ws://127.0.0.1:${broker.address.wsPort}/mqtt`]) {
      const client = await connect('pump', { url });
      await client.publishAsync('twins/machine/PUMP/telemetry', url.slice(0, 2), { qos: 1 });
    }
    expect(texts()).toEqual(['mq', 'ws']);
    expect(broker.connections).toBe(2);
  });

  it('is anonymous only where that was chosen', async () => {
    const { connect, messages } = await brokerWith({ anonymous: 'loopback' });
    const client = await connect('', { username: undefined, password: undefined });
    await client.publishAsync('iot/data', 'x', { qos: 1 });
    expect(messages[0].speaker).toMatchObject({ keyId: 'anonymous', role: 'device', gateway: true });
  });

  it('is not asked any more after too many wrong keys', async () => {
    let asked = 0;
    const { connect } = await brokerWith({
      limits: { maxFailures: 3 },
      authenticate: async () => {
        asked++;
        return null;
      },
    });
    for (let i = 0; i < 6; i++) await expect(connect('pump')).rejects.toThrow();
    expect(asked).toBe(3);
  });

  it('is told to come later while keys cannot be checked', async () => {
    const { connect } = await brokerWith({
      authenticate: () => Promise.reject(new Error('the store is down')),
    });
    await expect(connect('pump')).rejects.toMatchObject({ code: 3 });
  });

  it('is let go when the key ends', async () => {
    const { broker, connect } = await brokerWith();
    const pump = await connect('pump');
    const fan = await connect('fan');
    broker.disconnect('k1');
    await until(() => !pump.connected);
    expect(fan.connected).toBe(true);
  });

  it('does not take over the session of another key by using its client id', async () => {
    const { broker, connect } = await brokerWith();
    const ada = await connect('ada', { clientId: 'same', clean: false });
    await ada.subscribeAsync('secret/#', { qos: 1 });
    const fan = await connect('fan', { clientId: 'same', clean: false });
    const heard: string[] = [];
    fan.on('message', (topic) => heard.push(topic));
    expect(ada.connected).toBe(true);
    await ada.endAsync();
    await broker.publish('secret/a', 'x', { qos: 1, retain: false });
    await fan.endAsync();
    const again = await connect('fan', { clientId: 'same', clean: false });
    again.on('message', (topic) => heard.push(topic));
    await moment();
    expect(heard).toEqual([]);
    const back = mqtt.connect(`mqtt://127.0.0.1:${broker.address.port}`, {
      username: 'ada',
      password: 'right',
      clientId: 'same',
      clean: false,
    });
    cleanup.push(() => back.endAsync(true));
    back.on('message', (topic) => heard.push(topic));
    await until(() => heard.length === 1);
  });
});

describe('who may hear what', () => {
  it.each([
    ['pump', 'twins/machine/PUMP/desired/delta', true],
    ['pump', 'twins/machine/PUMP/#', true],
    ['pump', 'twins/machine/PUMP/events/+', true],
    ['pump', 'twins/machine/FAN/desired/delta', false],
    ['pump', 'twins/machine/+/desired/delta', false],
    ['pump', 'twins/+/PUMP/desired/delta', false],
    ['pump', 'twins/machine/#', false],
    ['pump', '#', false],
    ['pump', '+/+/+/+', false],
    ['pump', '$SYS/#', false],
    ['pump', '$share/g/twins/machine/FAN/telemetry', false],
    ['hall', 'twins/+/+/desired/delta', true],
    ['hall', '#', false],
    ['eve', '#', true],
    ['eve', '$SYS/#', false],
    ['ada', '$SYS/#', true],
  ])('%s on %s: %s', async (username, filter, allowed) => {
    const { broker } = await brokerWith();
    const { write, seen } = await raw(broker.address.port, { username });
    write({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: filter, qos: 1 }] });
    await until(() => seen.some(({ cmd }) => cmd === 'suback'));
    expect(seen.find(({ cmd }) => cmd === 'suback')?.granted).toEqual([allowed ? 1 : 128]);
  });

  it('passes on what was stored, never what was refused, and retains nothing of devices', async () => {
    const { connect } = await brokerWith({
      onMessage: ({ payload }, done) => done(Buffer.from(payload).toString() === 'bad' ? 'refused' : 'stored'),
    });
    const eve = await connect('eve');
    const heard: string[] = [];
    eve.on('message', (topic, payload) => heard.push(`${topic} ${payload.toString()}`));
    await eve.subscribeAsync('#', { qos: 1 });
    const fan = await connect('fan');
    for (const text of ['good', 'bad', 'fine'])
      await fan.publishAsync('twins/machine/FAN/telemetry', text, { qos: 1, retain: true });
    await until(() => heard.length >= 2);
    const late = await connect('ada');
    late.on('message', (topic) => heard.push(topic));
    await late.subscribeAsync('twins/#');
    await moment();
    expect(heard).toEqual(['twins/machine/FAN/telemetry good', 'twins/machine/FAN/telemetry fine']);
  });

  it('keeps what the server retains, until it takes it back', async () => {
    const { broker, connect } = await brokerWith();
    await broker.publish('twins/machine/FAN/desired/delta', '{"speed":2}', { qos: 1, retain: true });
    const hear = async () => {
      const heard: string[] = [];
      const fan = await connect('fan');
      fan.on('message', (_, payload) => heard.push(payload.toString()));
      await fan.subscribeAsync('twins/machine/FAN/desired/delta', { qos: 1 });
      await moment();
      return heard;
    };
    expect(await hear()).toEqual(['{"speed":2}']);
    await broker.publish('twins/machine/FAN/desired/delta', '', { qos: 1, retain: true });
    expect(await hear()).toEqual([]);
  });

  it('lets no device wait for a subscriber that does not read', async () => {
    const { broker } = await brokerWith({ limits: { maxPassing: 200 } });
    const slow = await raw(broker.address.port, { username: 'eve', clientId: 'slow' });
    slow.write({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 0 }] });
    await until(() => slow.seen.some(({ cmd }) => cmd === 'suback'));
    slow.socket.pause();
    const { publish, acked } = await raw(broker.address.port);
    const payload = 'x'.repeat(10_000);
    for (let id = 1; id <= 3000; id++) publish(id, payload);
    await until(() => acked().length === 3000);
    expect(broker.droppedForSubscribers).toBeGreaterThan(0);
  });
});

describe('what breaks a connection, and nothing else', () => {
  const GARBAGE: [string, Buffer][] = [
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['zeros', Buffer.alloc(100)],
    ['a packet of 256 MB announced before CONNECT', Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])],
    ['a length of five bytes', Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x7f])],
    [
      'PUBLISH before CONNECT',
      packets.generate({ cmd: 'publish', topic: 'a', payload: 'x', qos: 0, dup: false, retain: false }),
    ],
    [
      'MQTT 5',
      packets.generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 5,
        clientId: 'x',
        clean: true,
        keepalive: 0,
      } as never),
    ],
  ];
  it.each(GARBAGE)('%s', async (_, bytes) => {
    const { broker, connect, texts } = await brokerWith();
    const fan = await connect('fan');
    const socket = connectTcp(broker.address.port, '127.0.0.1', () => socket.write(bytes));
    cleanup.push(() => socket.destroy());
    socket.on('error', () => {});
    socket.on('data', () => {});
    await closed(socket);
    await fan.publishAsync('twins/machine/FAN/telemetry', 'still there', { qos: 1 });
    expect(texts()).toEqual(['still there']);
  });

  it('a packet beyond the limit, however it is cut, told to whoever keeps the refusals', async () => {
    const oversize: [string | undefined, number][] = [];
    const { broker } = await brokerWith({
      limits: { maxPacketBytes: 100_000 },
      onOversize: (speaker, bytes) => oversize.push([speaker?.name, bytes]),
    });
    const { socket, publish, acked } = await raw(broker.address.port);
    publish(1, 'x'.repeat(90_000));
    await until(() => acked().length === 1);
    const large = packets.generate({
      cmd: 'publish',
      topic: 'a',
      payload: 'x'.repeat(100_001),
      qos: 1,
      messageId: 2,
      dup: false,
      retain: false,
    });
    for (const byte of large.subarray(0, 4)) {
      socket.write(Buffer.from([byte]));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await closed(socket);
    expect(oversize).toEqual([['hall', large.length - 4]]);
  });

  it('topics with wildcards', async () => {
    const { broker, connect, texts } = await brokerWith();
    const { socket, publish } = await raw(broker.address.port);
    publish(1, 'x', 'a/+/b');
    await closed(socket);
    const fan = await connect('fan');
    await fan.publishAsync('a', 'y', { qos: 1 });
    expect(texts()).toEqual(['y']);
  });

  it('no CONNECT in time', async () => {
    const { broker } = await brokerWith({ limits: { connectWithinMs: 50 } });
    const socket = connectTcp(broker.address.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    await closed(socket);
  });
});

describe('wills and ports', () => {
  it('tells the will of a device that vanishes, not of one that says goodbye', async () => {
    const { broker, messages } = await brokerWith();
    const will = { topic: 'twins/machine/PUMP/status', payload: Buffer.from('offline'), qos: 1, retain: true };
    const polite = await raw(broker.address.port, { username: 'pump', clientId: 'a', will });
    polite.write({ cmd: 'disconnect' });
    await closed(polite.socket);
    const rude = await raw(broker.address.port, { username: 'pump', clientId: 'b', will });
    rude.socket.resetAndDestroy();
    await until(() => messages.length > 0);
    await moment();
    expect(messages.map(({ topic, speaker }) => `${speaker.name} ${topic}`)).toEqual([
      'pump twins/machine/PUMP/status',
    ]);
  });

  it('tells the will of a device whose keep-alive ran out', async () => {
    const { broker, texts } = await brokerWith();
    const will = { topic: 'twins/machine/PUMP/status', payload: Buffer.from('offline'), qos: 0, retain: false };
    await raw(broker.address.port, { username: 'pump', keepalive: 1, will });
    await until(() => texts().includes('offline'));
  });

  it.each(['MQTT_LISTEN_PORT', 'MQTT_WS_PORT'])('names %s when it is taken', async (setting) => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    cleanup.push(() => new Promise((resolve) => other.close(resolve)));
    const { port } = other.address() as { port: number };
    const broker = new MqttBroker({
      host: '127.0.0.1',
      port: setting === 'MQTT_LISTEN_PORT' ? port : 0,
      wsPort: setting === 'MQTT_WS_PORT' ? port : 0,
      authenticate: async () => null,
      onMessage: () => {},
    });
    await expect(broker.listen()).rejects.toMatchObject({
      code: 'bad_settings',
      message: expect.stringContaining(`${setting} ${port} is taken`),
    });
  });
});
