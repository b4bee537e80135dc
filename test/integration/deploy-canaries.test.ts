import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generate } from '../../deploy/generate-env.ts';
import { NodeProcess, ROOT, whereabouts } from '../e2e/node-process.ts';
import { findPostgres } from '../servers/postgres.ts';

/**
 * Secrets that are planted, and then looked for in everything that a node says at LOG_LEVEL=trace: settings, URLs,
 * headers, bodies, MQTT sign-ins, and the keys that it makes itself.
 */
const server = await findPostgres();
const canary = (name: string) => `canary${name}5Fq9Zt3wLx8Rk2`;
const PLANTED = {
  database: canary('Database'),
  metrics: canary('Metrics'),
  mqtt: canary('Mqtt'),
  header: canary('Header'),
  query: canary('Query'),
  body: canary('Body'),
  cookie: canary('Cookie'),
  basic: canary('Basic'),
  broker: canary('Broker'),
  redis: canary('Redis'),
  file: canary('File'),
};

function leaks(output: string, secrets: Readonly<Record<string, string>>): string[] {
  const forms = (secret: string) => [
    secret,
    Buffer.from(secret).toString('base64').replace(/=+$/, ''),
    encodeURIComponent(secret),
  ];
  return Object.entries(secrets)
    .filter(([, secret]) => forms(secret).some((form) => output.includes(form)))
    .map(([name]) => name);
}

describe.skipIf(server === null)('what a node logs at its most talkative', () => {
  const folder = mkdtempSync(join(tmpdir(), 'twinmesh-canaries-'));
  const nodes: NodeProcess[] = [];
  let database: string;
  const start = (env: Record<string, string>) => {
    const node = NodeProcess.start(folder, { LOG_LEVEL: 'trace', DEMO: 'off', SHARDS: '4', ...env });
    nodes.push(node);
    return node;
  };

  beforeAll(async () => {
    const url = new URL(await server!.database());
    // The test's server trusts whoever comes: the password goes over the wire and into every place that could print it.
    url.password = PLANTED.database;
    database = url.toString();
  });
  afterAll(async () => {
    for (const node of nodes) {
      node.signal('SIGKILL');
      await node.ended();
    }
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('holds no secret of its settings, its callers and its devices', async () => {
    const node = start({ DATABASE_URL: database, METRICS_TOKEN: PLANTED.metrics, MQTT_ANONYMOUS: 'refuse' });
    const { http, mqttPort, key } = await whereabouts(node);
    expect(key).not.toBeNull();
    const made: Record<string, string> = {};
    const ask = async (path: string, init: RequestInit & { headers?: Record<string, string> } = {}) => {
      const answer = await fetch(http + path, {
        ...init,
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...init.headers },
      });
      return { status: answer.status, text: await answer.text() };
    };

    await ask('/metrics', { headers: { authorization: `Bearer ${PLANTED.metrics}` } });
    await ask('/api/v1/twins', { headers: { authorization: `Bearer ${PLANTED.header}` } });
    await ask('/api/v1/twins', { headers: { 'x-api-key': PLANTED.header } });
    await ask('/api/v1/twins', {
      headers: { authorization: `Basic ${Buffer.from(`u:${PLANTED.basic}`).toString('base64')}` },
    });
    await ask('/api/v1/twins', { headers: { cookie: `session=${PLANTED.cookie}` } });
    for (const path of [`/api/v1/twins?token=${PLANTED.query}`, `/api/v1/nothing?key=${PLANTED.query}`])
      await ask(path);
    await ask('/api/v1/telemetry', { method: 'POST', body: JSON.stringify({ password: PLANTED.body }) });
    await ask('/api/v1/keys', {
      method: 'POST',
      body: JSON.stringify({ name: 'x', role: 'nobody', secret: PLANTED.body }),
    });
    await ask('/api/v1/keys', { method: 'POST', body: `{"name": "${PLANTED.body}` });
    for (const [name, path, body] of [
      ['key', '/api/v1/keys', { name: 'a viewer', role: 'viewer' }],
      ['device', '/api/v1/devices', { name: 'press', twinId: 'machine:press-4', kind: 'machine', id: 'press-4' }],
    ] as const) {
      const { text } = await ask(path, { method: 'POST', body: JSON.stringify(body) });
      const secret = text.match(/tm_[a-z0-9]+_([A-Za-z0-9_-]{20,})/)?.[1];
      expect([name, secret === undefined ? text : 'made']).toEqual([name, 'made']);
      made[name] = secret as string;
    }
    for (const password of [PLANTED.mqtt, `tm_aaaaaaaaaaaa_${PLANTED.mqtt}`]) {
      await expect(
        mqtt.connectAsync(
          `mqtt://127.0.0.1:${mqttPort}`,
          { username: 'machine:press-4', password, reconnectPeriod: 0 },
          false,
        ),
      ).rejects.toThrow();
    }
    node.signal('SIGTERM');
    await node.ended();

    // The banner shows the first admin key, on purpose; the log never does.
    const logged = node.output.split('\n').filter((line) => line.startsWith('{'));
    expect(logged.length).toBeGreaterThan(50);
    expect(logged.some((line) => line.includes('"level":"debug"') && line.includes('requestId'))).toBe(true);
    expect(leaks(node.output, { ...PLANTED, ...made })).toEqual([]);
    expect(leaks(logged.join('\n'), { admin: (key as string).split('_')[2] })).toEqual([]);
  });

  it('holds none either when a part is away, or a setting is wrong', async () => {
    const secret = join(folder, 'secret');
    writeFileSync(secret, `postgres://nobody:${PLANTED.file}@127.0.0.1:1/x`, { mode: 0o600 });
    const away = [
      start({ DATABASE_URL: `postgres://nobody:${PLANTED.database}@127.0.0.1:1/x` }),
      start({ DATABASE_URL_FILE: secret }),
      start({
        DATABASE_URL: `postgers://nobody:${PLANTED.database}@127.0.0.1:1/x`,
        METRICS_TOKEN: `${PLANTED.metrics} x`,
      }),
      start({
        DATABASE_URL: database,
        REDIS_URL: `redis:/x:${PLANTED.redis}@`,
        MQTT_URL: `mqt://u:${PLANTED.broker}@h`,
      }),
    ];
    for (const node of away) expect([await node.ended(), node.output.length > 50]).toEqual([2, true]);
    for (const node of away) expect(leaks(node.output, PLANTED)).toEqual([]);
    const broker = start({ DATABASE_URL: database, MQTT_URL: `mqtt://user:${PLANTED.broker}@127.0.0.1:1` });
    await broker.until(/ECONNREFUSED|MQTT broker/);
    broker.signal('SIGTERM');
    await broker.ended();
    expect(leaks(broker.output, PLANTED)).toEqual([]);
  });

  it('would be found: the search sees a secret in each of its forms', () => {
    for (const form of [PLANTED.mqtt, Buffer.from(PLANTED.mqtt).toString('base64')])
      expect(leaks(`{"msg":"${form}"}`, PLANTED)).toEqual(['mqtt']);
  });

  it('`npm run env` prints names and no secret', async () => {
    const plant = mkdtempSync(join(tmpdir(), 'twinmesh-canaries-env-'));
    try {
      const run = NodeProcess.run(plant, [join(ROOT, 'deploy/generate-env.ts')]);
      expect(await run.ended()).toBe(0);
      expect(run.output).toMatch(/wrote .*\.env/);
      expect(run.output).not.toMatch(/[A-Za-z0-9]{32}/);
      expect(() => generate(plant)).toThrow();
    } finally {
      rmSync(plant, { recursive: true, force: true });
    }
  });
});
