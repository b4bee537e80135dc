import type { ServiceSchema } from 'moleculer';
import mqtt from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import deadLetters from '../../services/dead-letters.service.ts';
import type { IngestStatus } from '../../services/ingest.service.ts';
import ingest from '../../services/ingest.service.ts';
import { goodMessage } from '../fixtures/bad-input/corpus.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from './gateway/node.ts';
import { findMosquitto, Mosquitto } from './mosquitto.ts';

const binary = findMosquitto();

describe.skipIf(binary === null)('a node on somebody else’s broker (MQTT_URL)', () => {
  let broker: Mosquitto;
  let node: GatewayNode;
  let device: mqtt.MqttClient;

  beforeAll(async () => {
    broker = new Mosquitto(binary as string);
    await broker.start();
    node = await startGateway({
      services: [...GATEWAY_SERVICES, ingest, deadLetters] as unknown as ServiceSchema[],
      env: { MQTT_URL: `mqtt://127.0.0.1:${broker.port}`, NODE_ID: 'url-test' },
    });
    device = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`, { reconnectPeriod: 50 });
  });
  afterAll(async () => {
    await device?.endAsync(true);
    await node?.stop();
    await broker?.remove();
  });

  const status = () => node.broker.call<IngestStatus>('ingest.status');
  const connected = () => expect.poll(async () => (await status()).mqtt.connections, { timeout: 10_000 }).toBe(1);
  const rows = async (twinIds: string) =>
    (
      await node.parts.sql.query<{ rows: number }>(
        `select count(*)::int as rows from machine_readings r join twins t on t.twin = r.twin where t.twin_id like $1`,
        [twinIds],
      )
    )[0].rows;

  it('stores what comes in there, each reading once, and refuses what is bad', async () => {
    expect((await status()).mqtt.role).toBe('client');
    await connected();
    // Connected is not yet subscribed: the first message that arrives says so.
    await expect
      .poll(
        async () => {
          await device.publishAsync('twins/machine/FIRST/telemetry', goodMessage('FIRST'), { qos: 1 });
          return rows('machine:FIRST');
        },
        { timeout: 10_000 },
      )
      .toBe(1);
    const base = Date.UTC(2026, 0, 1);
    for (let i = 0; i < 3; i++) {
      await Promise.all(
        Array.from({ length: 1000 }, (_, n) =>
          device.publishAsync(`twins/machine/U${n % 10}/telemetry`, goodMessage(`U${n % 10}`, base + n), { qos: 1 }),
        ),
      );
    }
    await device.publishAsync('factory/machines/U1/readings', 'nonsense', { qos: 1 });
    await expect.poll(() => rows('machine:U%'), { timeout: 20_000 }).toBe(1000);
    await expect
      .poll(async () => (await node.http('GET', '/api/v1/dead-letters', { key: node.keys.viewer })).json.data.items, {
        timeout: 10_000,
      })
      .toMatchObject([{ code: 'not_json', source: 'mqtt:factory/machines/U1/readings', payload: 'nonsense' }]);
  });

  it('publishes deltas there', async () => {
    await node.http('PATCH', '/api/v1/twins/machine:U1/desired', { key: node.keys.operator, body: { fan: 'on' } });
    const heard: string[] = [];
    device.on('message', (topic, payload) => heard.push(`${topic} ${payload.toString()}`));
    await device.subscribeAsync('twins/+/+/desired/delta', { qos: 1 });
    await expect.poll(() => heard[0], { timeout: 10_000 }).toBe('twins/machine/U1/desired/delta {"fan":"on"}');
  });

  it('is there again after the broker was killed, and events wait for it meanwhile', async () => {
    await broker.kill();
    await expect.poll(async () => (await status()).mqtt.connections, { timeout: 10_000 }).toBe(0);
    await node.http('PATCH', '/api/v1/twins/machine:U2/desired', { key: node.keys.operator, body: { fan: 'off' } });
    await broker.start();
    await connected();
    const heard: string[] = [];
    const listener = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`);
    listener.on('message', (topic, payload) => heard.push(`${topic} ${payload.toString()}`));
    await listener.subscribeAsync('twins/machine/U2/desired/delta', { qos: 1 });
    await expect.poll(() => heard, { timeout: 30_000 }).toContain('twins/machine/U2/desired/delta {"fan":"off"}');
    // Mosquitto has forgotten the session: once it is subscribed anew, messages come in again.
    let n = 0;
    await expect
      .poll(
        async () => {
          await listener.publishAsync('twins/machine/V1/telemetry', goodMessage('V1', Date.UTC(2026, 0, 2) + n++), {
            qos: 1,
          });
          return rows('machine:V1');
        },
        { timeout: 20_000 },
      )
      .toBeGreaterThan(0);
    await listener.endAsync(true);
  });
});
