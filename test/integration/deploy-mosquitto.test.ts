import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { mosquittoPassword } from '../../deploy/generate-env.ts';
import { ROOT } from '../e2e/node-process.ts';
import { freePort } from '../servers/free-port.ts';
import { findMosquitto } from './mosquitto.ts';

/** deploy/mosquitto on a real Mosquitto: its configuration with the test's own ports and folders, its ACL as it stands. */
const binary = findMosquitto();
const USERS = {
  twinmesh: 'nodepassword',
  demo: 'demopassword',
  'press-4': 'press4password',
  'press-5': 'press5password',
};
type User = keyof typeof USERS;

describe.skipIf(binary === null)('the MQTT broker of the plant', () => {
  const folder = mkdtempSync(join(tmpdir(), 'twinmesh-deploy-mqtt-'));
  const ports: number[] = [];
  const clients: MqttClient[] = [];
  const brokers: ChildProcess[] = [];
  const script = (...args: string[]) =>
    spawnSync('bash', [join(ROOT, 'deploy/mosquitto/certificates.sh'), folder, ...args], { encoding: 'utf8' });

  const start = async (name: string, text: string, port: number) => {
    const file = join(folder, name);
    writeFileSync(file, text);
    const broker = spawn(binary as string, ['-c', file], { stdio: ['ignore', 'pipe', 'pipe'] });
    brokers.push(broker);
    let output = '';
    for (const stream of [broker.stdout, broker.stderr]) stream.on('data', (chunk) => (output += chunk));
    for (let tries = 0; tries < 200 && broker.exitCode === null; tries++) {
      if (await listens(port)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`mosquitto does not start:\n${output}`);
  };

  const connectAs = async (user: User | null, options: IClientOptions = {}, url = `mqtt://127.0.0.1:${ports[0]}`) => {
    const client = await mqtt.connectAsync(
      url,
      {
        protocolVersion: 5,
        ...(user === null ? {} : { username: user, password: USERS[user] }),
        reconnectPeriod: 0,
        ...options,
      },
      false,
    );
    clients.push(client);
    return client;
  };

  /** What becomes of a message on a topic: the reason code of its acknowledgement, 0 or 16 for taken, 135 for not allowed. */
  const codeOf = async (client: MqttClient, topic: string): Promise<number> => {
    const packet = await client
      .publishAsync(topic, '{}', { qos: 1 })
      .catch((error: { code?: number }) => ({ reasonCode: error.code }));
    return (packet as { reasonCode?: number } | undefined)?.reasonCode ?? 0;
  };
  const allowed = async (client: MqttClient, topic: string) => (await codeOf(client, topic)) !== 135;

  beforeAll(async () => {
    for (let i = 0; i < 4; i++) ports.push(await freePort());
    expect(script()).toMatchObject({ status: 0 });
    expect(script('device', 'press-4')).toMatchObject({ status: 0 });
    writeFileSync(
      join(folder, 'passwords'),
      Object.entries(USERS)
        .map(([user, password]) => `${mosquittoPassword(user, password)}\n`)
        .join(''),
      { mode: 0o600 },
    );
    cpSync(join(ROOT, 'deploy/mosquitto/acl'), join(folder, 'acl'));
    const here = (text: string) =>
      `${text
        .replaceAll(/\/mosquitto\/(secrets|config)\//g, `${folder}/`)
        .replace('/mosquitto/data/', `${folder}/`)
        .replace('listener 1883', `listener ${ports[0]} 127.0.0.1`)
        .replace('listener 9002', `listener ${ports[1]} 127.0.0.1`)
        .replace('listener 8883', `listener ${ports[2]} 127.0.0.1`)}\n${process.getuid?.() === 0 ? 'user root\n' : ''}`;
    const text = readFileSync(join(ROOT, 'deploy/mosquitto/mosquitto.conf'), 'utf8');
    await start('mosquitto.conf', here(text), ports[0]);
    const mutual = readFileSync(join(ROOT, 'deploy/mosquitto/mutual-tls.conf'), 'utf8');
    const common = `allow_anonymous false\nacl_file /mosquitto/config/acl\n`;
    await start('mutual.conf', here(common + mutual).replace(String(ports[2]), String(ports[3])), ports[3]);
  });
  afterAll(async () => {
    for (const client of clients) await client.endAsync(true);
    for (const broker of brokers) {
      const ended = new Promise((resolve) => broker.once('exit', resolve));
      if (broker.exitCode === null && broker.kill('SIGTERM')) await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  });

  it('lets nobody in without a password, or with a wrong one', async () => {
    for (const options of [
      {},
      { username: 'press-4' },
      { username: 'press-4', password: 'press5password' },
      { username: 'nobody', password: 'x' },
    ]) {
      await expect(connectAs(null, options)).rejects.toMatchObject({ code: 135 });
    }
  });

  it('lets a device speak as itself only', async () => {
    const device = await connectAs('press-4');
    for (const topic of [
      'twins/machine/press-4/telemetry',
      'twins/machine/press-4/status',
      'factory/machines/press-4/readings',
      'building/motes/press-4/readings',
      'ev/battery/telemetry/press-4',
    ])
      expect([topic, await allowed(device, topic)]).toEqual([topic, true]);
    for (const topic of [
      'twins/machine/press-5/telemetry',
      'twins/machine/press-4/desired/delta',
      'twins/machine/press-4/events/alerts',
      'factory/machines/press-5/readings',
      'ev/battery/telemetry/press-5',
      'ev/battery/telemetry',
      'iot/data',
      '$SYS/broker/x',
      'twinmesh/twinmesh/members/twinmesh-ingest-1',
      'anything',
    ])
      expect([topic, await allowed(device, topic)]).toEqual([topic, false]);
  });

  it('hands a device what is for it only', async () => {
    const device = await connectAs('press-4');
    const heard: string[] = [];
    device.on('message', (topic) => heard.push(topic));
    // Mosquitto grants such a subscription, or refuses it, by version; what counts is what it delivers.
    for (const filter of ['#', 'twins/+/press-5/desired/delta', 'twins/+/press-4/desired/delta'])
      await device.subscribeAsync(filter, { qos: 1 }).catch(() => undefined);
    const node = await connectAs('twinmesh');
    for (const id of ['press-5', 'press-4'])
      await node.publishAsync(`twins/machine/${id}/desired/delta`, '{}', { qos: 1 });
    await expect.poll(() => heard.length).toBeGreaterThan(0);
    // The one for the other was sent first.
    expect([...new Set(heard)]).toEqual(['twins/machine/press-4/desired/delta']);
  });

  it('lets the nodes hear every topic of every kind, shared, and publish no telemetry', async () => {
    const node = await connectAs('twinmesh');
    const filters = [...(await loadKinds([])).mqttFilters(), 'twins/+/+/telemetry', 'twins/+/+/status'];
    for (const filter of filters) {
      for (const each of [filter, `$share/twinmesh/${filter}`]) {
        const [granted] = await node.subscribeAsync(each, { qos: 1 });
        expect([each, granted.qos]).toEqual([each, 1]);
      }
    }
    const heard = new Set<string>();
    node.on('message', (topic) => heard.add(topic));
    const fleet = await connectAs('demo');
    for (const filter of filters) {
      const topic = filter.replaceAll('+', 'x');
      expect([topic, await allowed(fleet, topic)]).toEqual([topic, true]);
      expect([topic, await allowed(node, topic)]).toEqual([topic, false]);
    }
    await expect.poll(() => [...heard].sort()).toEqual(filters.map((filter) => filter.replaceAll('+', 'x')).sort());
    expect(await allowed(node, 'twins/machine/x/events/alerts')).toBe(true);
    expect(await allowed(node, 'twins/machine/x/desired/delta')).toBe(true);
    expect(await allowed(node, 'twinmesh/twinmesh/members/twinmesh-ingest-1')).toBe(true);
  });

  it('speaks TLS to those who trust its authority, and not to others', async () => {
    const url = `mqtts://127.0.0.1:${ports[2]}`;
    const device = await connectAs('press-4', { ca: readFileSync(join(folder, 'ca.crt')) }, url);
    expect(await allowed(device, 'twins/machine/press-4/telemetry')).toBe(true);
    await expect(connectAs('press-4', {}, url)).rejects.toThrow(/certificate|self.signed/i);
    await expect(connectAs(null, { ca: readFileSync(join(folder, 'ca.crt')) }, url)).rejects.toMatchObject({
      code: 135,
    });
  });

  it('with mutual TLS takes the name in the certificate as the user, and nobody without one', async () => {
    const url = `mqtts://127.0.0.1:${ports[3]}`;
    const ca = readFileSync(join(folder, 'ca.crt'));
    const [cert, key] = ['crt', 'key'].map((kind) => readFileSync(join(folder, `device-press-4.${kind}`)));
    const device = await connectAs(null, { ca, cert, key }, url);
    expect(await allowed(device, 'twins/machine/press-4/telemetry')).toBe(true);
    expect(await allowed(device, 'twins/machine/press-5/telemetry')).toBe(false);
    await expect(connectAs(null, { ca }, url)).rejects.toThrow();
    await expect(connectAs('press-5', { ca }, url)).rejects.toThrow();
  });

  it('makes no certificate for a name that an ACL pattern could misread', () => {
    for (const name of ['+', '#', 'a/b', 'a b', '', '$SYS']) expect(script('device', name).status).not.toBe(0);
  });
});

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
