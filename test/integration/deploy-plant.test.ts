import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { generate } from '../../deploy/generate-env.ts';
import { eventually, NodeProcess, ROOT } from '../e2e/node-process.ts';
import { freePort } from '../servers/free-port.ts';
import { findNats, type NatsServer } from '../servers/nats.ts';
import { findPostgres } from '../servers/postgres.ts';
import { askedMetrics, exposedMetrics, MESH_ONLY } from './deploy-expressions.ts';
import { findMosquitto } from './mosquitto.ts';

/**
 * The plant of docker-compose.yml as processes of this machine: the environment of its services, the secrets of
 * `npm run env`, and real servers with the configuration of deploy/. What least permission leaves must be enough.
 * Redis, Kafka and traces, which carry no telemetry of it, are left out.
 */
const LEFT_OUT = /^(REDIS_|KAFKA_|OTEL_)/;
const folder = mkdtempSync(join(tmpdir(), 'twinmesh-plant-'));
const { secrets } = generate(folder);
for (const [name, value] of Object.entries(secrets)) if (name.startsWith('NATS_')) process.env[name] = value;
process.env.NATS_SYNC_INTERVAL = '1s';

const mosquitto = findMosquitto();
const postgres = await findPostgres();
const accounts = readFileSync(join(ROOT, 'deploy/nats/nats.conf'), 'utf8');
const nats: NatsServer | null = await findNats({
  own: true,
  config: accounts.slice(accounts.indexOf('accounts {')),
  user: 'host',
  password: secrets.NATS_HOST_PASSWORD,
});

const { services } = parse(readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
  services: Record<string, { environment: Record<string, unknown> }>;
};

describe.skipIf(mosquitto === null || postgres === null || nats === null)('the plant', () => {
  const nodes: Record<string, NodeProcess> = {};
  let broker: ChildProcess;
  let mqttPort: number;
  let database: URL;

  /** What compose would set, with the places of this machine and only as much of everything as a test needs. */
  const environmentOf = (service: string): Record<string, string> => {
    const here: Record<string, string> = {
      HOST: '127.0.0.1',
      METRICS_PORT: '0',
      PORT: '0',
      SHARDS: '16',
      TTL_MS: '2000',
      LOG_MAX_BYTES: String(64 * 2 ** 20),
      LOG_LEVEL: 'debug',
      DATA_DIR: join(folder, service),
    };
    const filled = Object.entries(services[service].environment)
      .filter(([name]) => !LEFT_OUT.test(name))
      .map(([name, value]) => [
        name,
        String(value)
          .replace(/\$\{([A-Z0-9_]+)(?::-([^}]*))?[^}]*\}/g, (_, name, fallback) => secrets[name as never] ?? fallback)
          .replace('@nats:4222', `@127.0.0.1:${nats?.port}`)
          .replace('@mosquitto:1883', `@127.0.0.1:${mqttPort}`)
          .replace('@timescaledb:5432/twinmesh', `@${database.host}${database.pathname}`),
      ]);
    return { ...Object.fromEntries(filled), ...here };
  };

  beforeAll(async () => {
    database = new URL(await postgres!.database());
    const roles = ['owner', 'runtime', 'reader'].flatMap((role) => [
      '-v',
      `${role}_password=${secrets[`POSTGRES_${role.toUpperCase()}_PASSWORD` as never]}`,
    ]);
    const made = spawnSync(
      'psql',
      ['-q', '-v', 'ON_ERROR_STOP=1', database.toString(), ...roles, '-f', join(ROOT, 'deploy/postgres/roles.sql')],
      { encoding: 'utf8' },
    );
    expect([made.status, made.stderr]).toEqual([0, '']);

    mqttPort = await freePort();
    const secure = join(folder, 'deploy/secrets/mosquitto');
    cpSync(join(ROOT, 'deploy/mosquitto/acl'), join(secure, 'acl'));
    const lines = readFileSync(join(ROOT, 'deploy/mosquitto/mosquitto.conf'), 'utf8')
      .replaceAll(/\/mosquitto\/(secrets|config)\//g, `${secure}/`)
      .replace(/^listener 9002\nprotocol websockets\n/m, '')
      .replace(/^listener 8883\n(cafile|certfile|keyfile|tls_version).*\n.*\n.*\n.*\n/m, '')
      .replace('listener 1883', `listener ${mqttPort} 127.0.0.1`)
      .replace('persistence true', 'persistence false');
    writeFileSync(join(secure, 'here.conf'), `${lines}\n${process.getuid?.() === 0 ? 'user root\n' : ''}`);
    broker = spawn(mosquitto as string, ['-c', join(secure, 'here.conf')], { stdio: 'ignore' });
    await eventually(
      () => listens(mqttPort),
      (there) => there,
      50,
    );

    const migrate = NodeProcess.run(
      ROOT,
      [join(ROOT, 'services/migrate-cli.ts'), '--grants', join(ROOT, 'deploy/postgres/grants.sql')],
      environmentOf('migrate'),
    );
    expect([await migrate.ended(), migrate.output]).toEqual([0, expect.stringMatching(/schema version/)]);
    for (const name of ['host-1', 'host-2', 'ingest', 'history', 'inference', 'gateway']) {
      mkdirSync(join(folder, name));
      nodes[name] = NodeProcess.start(join(folder, name), environmentOf(name));
      // The host makes the stream, which the others only look at.
      if (name === 'host-1') await nodes[name].until(/started in/);
    }
    for (const node of Object.values(nodes)) await node.until(/started in/);
  }, 120_000);
  afterAll(async () => {
    for (const node of Object.values(nodes)) node.signal('SIGTERM');
    for (const node of Object.values(nodes)) await node.ended();
    const ended = new Promise((resolve) => broker?.once('exit', resolve));
    if (broker?.kill('SIGTERM')) await ended;
    await nats?.stop();
    await postgres?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('carries a reading from a device to a caller, and a command back, with the rights that compose gives', async () => {
    const [, http] = await nodes.gateway.until(/API\s+(http:\S+)\/api\/v1\/twins/);
    const key = Object.values(nodes)
      .map((node) => node.output.match(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/)?.[0])
      .find((each) => each !== undefined);
    expect(key).toBeDefined();
    const ask = async (path: string, init: RequestInit = {}) => {
      const answer = await fetch(http + path, {
        ...init,
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      });
      return { status: answer.status, body: (await answer.json()) as { data: Record<string, never> } };
    };
    const device = await mqtt.connectAsync(`mqtt://127.0.0.1:${mqttPort}`, {
      username: 'demo',
      password: secrets.MQTT_DEMO_PASSWORD,
      protocolVersion: 5,
    });
    const heard: string[] = [];
    device.on('message', (topic, payload) => heard.push(`${topic} ${payload}`));
    await device.subscribeAsync('twins/machine/PLANT/desired/delta', { qos: 1 });
    try {
      await device.publishAsync(
        'twins/machine/PLANT/telemetry',
        JSON.stringify({ twinId: 'machine:PLANT', at: new Date().toISOString(), values: { temperature: 65.5 } }),
        { qos: 1 },
      );
      const twin = await eventually(
        () => ask('/api/v1/twins/machine:PLANT'),
        ({ status }) => status === 200,
      );
      expect(twin.body.data).toMatchObject({ twinId: 'machine:PLANT', reported: { temperature: 65.5 } });
      const body = [{ twinId: 'machine:PLANT', at: new Date().toISOString(), values: { pressure: 45 } }];
      const posted = await eventually(
        () => ask('/api/v1/telemetry', { method: 'POST', body: JSON.stringify(body) }),
        ({ status }) => status === 200,
      );
      expect(posted.body.data).toMatchObject({ rejected: [] });
      await eventually(
        () => ask('/api/v1/twins/machine:PLANT/history?metric=temperature'),
        ({ status, body }) => status === 200 && JSON.stringify(body.data).includes('65.5'),
      );
      expect((await ask('/api/v1/twins?kind=machine')).status).toBe(200);
      const values = { temperature: 65, vibration: 2, pressure: 45, power: 250 };
      // A twin is asked about when it hears something; the first may come before the models are loaded.
      const asked = await eventually(
        async () => {
          const whole = [{ twinId: 'machine:PLANT', at: new Date().toISOString(), values }];
          expect((await ask('/api/v1/telemetry', { method: 'POST', body: JSON.stringify(whole) })).status).toBe(200);
          return await ask('/api/v1/twins/machine:PLANT');
        },
        ({ body }) => 'anomaly' in body.data.predictions,
      );
      expect(asked.body.data.predictions).toMatchObject({ anomaly: { model: 'machine-anomaly' } });
      const desired = await ask('/api/v1/twins/machine:PLANT/desired', {
        method: 'PATCH',
        body: JSON.stringify({ speed: 3 }),
      });
      expect([desired.status, desired.body]).toEqual([200, expect.anything()]);
      await eventually(
        async () => heard,
        (messages) => messages.some((message) => message.includes('"speed":3')),
      );
    } finally {
      await device.endAsync(true);
    }
  });

  it('answers whoever watches it, with the token of `npm run env`, and has every metric of a mesh', async () => {
    const exposed = new Set<string>();
    for (const [name, node] of Object.entries(nodes)) {
      const [, where] = await node.until(/(http:\S+)\/metrics/);
      const scrape = (token: string) =>
        fetch(`${where}/metrics`, { headers: { authorization: `Bearer ${token}`, 'x-forwarded-for': '203.0.113.9' } });
      expect([name, (await scrape('x'.repeat(32))).status]).toEqual([name, 401]);
      const answer = await scrape(secrets.METRICS_TOKEN);
      expect([name, answer.status]).toEqual([name, 200]);
      for (const metric of exposedMetrics(await answer.text())) exposed.add(metric);
      expect([name, (await fetch(`${where}/health/live`)).status]).toEqual([name, 200]);
    }
    const asked = [...askedMetrics()].filter((name) => MESH_ONLY.test(name));
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.filter((name) => !exposed.has(name))).toEqual([]);
  });

  it('was refused nothing by NATS, PostgreSQL or Mosquitto on the way', () => {
    for (const [name, node] of Object.entries(nodes)) {
      const refused = node.output
        .split('\n')
        .filter((line) =>
          /permissions?[ _](violation|denied)|not authori[sz]ed|reason code 135|must be owner/i.test(line),
        );
      expect([name, refused.map((line) => line.slice(0, 300))]).toEqual([name, []]);
    }
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
