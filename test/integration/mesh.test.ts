import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseCard } from '../../models/card.ts';
import { begin, registerModel } from '../../services/models/register.ts';
import { eventually, NodeProcess } from '../e2e/node-process.ts';
import { type Mesh, startMesh } from '../servers/mesh.ts';
import { localReceiver } from '../unit/notify/local-receiver.ts';

/** Real nodes over a real NATS and PostgreSQL: who owns what, and that twins are reached wherever they are. */
const hook = await localReceiver();
const TWINS = Array.from({ length: 40 }, (_, i) => `machine:M${i}`);
const SILENCE_MS = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'twinmesh-namesake-'));
const notifiers = join(folder, 'notifiers.json');
writeFileSync(
  notifiers,
  JSON.stringify({
    receivers: { ml: { type: 'webhook', url: hook.url } },
    rules: [{ name: 'models', events: ['data.drift'], receivers: ['ml'] }],
  }),
);
const mesh = await startMesh({ ttlMs: 2_000, shards: 32, env: { NOTIFIERS_FILE: notifiers } });
afterAll(async () => {
  await hook.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(mesh === null)('a mesh', () => {
  const { broker, sql, directory } = (mesh ?? {}) as Mesh;
  let http = '';
  let key = '';
  let sent = 0;

  const api = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${http}${path}`, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    // biome-ignore lint/suspicious/noExplicitAny: answers of any shape
    return { status: response.status, json: (await response.json()) as any };
  };
  const tell = async () => {
    sent++;
    const at = Date.now();
    const readings = TWINS.map((twinId) => ({ twinId, at, values: { temperature: 50 + sent } }));
    const { status, json } = await api('POST', '/api/v1/telemetry', readings);
    expect([status, json.data]).toEqual([200, { accepted: TWINS.length, duplicates: 0, rejected: [] }]);
  };
  const everyTwin = async () => {
    for (const twinId of TWINS) {
      // A shard that is being recovered by its new owner says 503 for a moment.
      const { json } = await eventually(
        () => api('GET', `/api/v1/twins/${twinId}`),
        ({ status }) => status !== 503,
      );
      expect(json.data).toMatchObject({ twinId, stale: null, reported: { temperature: 50 + sent } });
      expect(json.data.ingest.accepted).toBe(sent);
    }
  };
  const counts = async () => {
    await directory.doubt();
    return Object.fromEntries(directory.counts());
  };

  beforeAll(async () => {
    await Promise.all([
      mesh?.start('a', { ROLES: 'host,history' }),
      mesh?.start('b', { ROLES: 'host' }),
      mesh?.start('g', { ROLES: 'gateway,history,ingest' }),
    ]);
    await mesh?.settled();
    const node = mesh?.nodes.get('g');
    http = (await node?.until(/API\s+(http:\S+)\/api\/v1\/twins/))?.[1] ?? '';
    key = (await node?.until(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/))?.[0] ?? '';
  }, SILENCE_MS);

  afterAll(() => mesh?.stop(), SILENCE_MS);

  it('has its twins spread over the hosts, and answers for each of them at any gateway', async () => {
    // Who was there first had all of them, and hands over.
    const owned = await eventually(
      counts,
      (shares) => Object.keys(shares).length === 2 && Math.min(...Object.values(shares)) > 4,
    );
    expect(Object.keys(owned).sort()).toEqual(['a', 'b']);
    await mesh?.settled();
    await tell();
    await everyTwin();
    const { json } = await api('GET', '/api/v1/nodes');
    expect(json.data.items.map(({ node, state, roles }: never) => [node, state, (roles as string[]).length])).toEqual([
      ['a', 'running', 2],
      ['b', 'running', 1],
      ['g', 'running', 3],
    ]);
    expect((await api('GET', '/api/v1/twins/machine:nobody')).json.code).toBe('not_found');
    expect((await api('GET', '/health/ready')).status).toBe(200);
  });

  it('takes commands on the owner, once however often they are sent', async () => {
    const path = `/api/v1/twins/${TWINS[0]}/desired`;
    const first = await api('PATCH', path, { temperature: 40 }, { 'idempotency-key': 'k1' });
    const second = await api('PATCH', path, { temperature: 40 }, { 'idempotency-key': 'k1' });
    expect([first.status, second.status, second.json.data.repeated]).toEqual([200, 200, true]);
    expect(second.json.data.revision).toBe(first.json.data.revision);
    const stale = await api('PATCH', path, { temperature: 41 }, { 'if-match': '"rev:1"' });
    expect(stale.status).toBe(412);
  });

  it('streams twins and events of other nodes', async () => {
    const twin = await follow(`${http}/api/v1/twins/${TWINS[1]}`, key);
    const fleet = await follow(`${http}/api/v1/stream?type=desired`, key);
    await twin.until(/event: twin/);
    await fleet.until(/event: hello/);
    await tell();
    await twin.until(new RegExp(`event: reading\\nid: ${sent}\\n`));
    await api('PATCH', `/api/v1/twins/${TWINS[2]}/desired`, { temperature: 1 });
    await fleet.until(new RegExp(`event: desired.changed[\\s\\S]*${TWINS[2]}`));
    twin.close();
    fleet.close();
  });

  it('tells once that a model drifts, whoever judges it, and shows it at the gateway', async () => {
    const card = parseCard(readFileSync('models/mote-health/1.0.0/card.json', 'utf8'));
    await registerModel(sql, card, 'built in');
    await begin(sql, card.name, card.version);
    const { name, version, kind, inputs } = card;
    const drifting = inputs.findIndex(({ reference }) => reference !== undefined);
    const counts = inputs.map(({ reference }, i) => ({
      bins: (reference?.shares ?? []).map((share, bin) => (i === drifting ? (bin === 0 ? 1_000 : 0) : share * 1_000)),
      missing: 0,
    }));
    await sql.query(
      `insert into drift_counts (model, version, hour, node, kind, rows, counts)
       select $1, $2, date_trunc('hour', now()) - h * interval '1 hour', 'far', $3, 1000, $4::jsonb from generate_series(0, 6) h`,
      [name, version, kind, JSON.stringify(counts)],
    );
    const fleet = await follow(`${http}/api/v1/stream?type=data`, key);
    await fleet.until(/event: hello/);
    const judge = () => Promise.all(['a', 'g'].map((nodeID) => broker.call('drift.run', {}, { nodeID })));
    await judge();
    await judge();
    const seen = await fleet.until(/event: data.drift\n(.*)\n/);
    expect(seen).toMatch(/event: data.drift\ndata: /);
    expect(JSON.parse(/event: data.drift\ndata: (.*)\n/.exec(seen)?.[1] ?? '')).toMatchObject({
      kind,
      body: { model: name, input: inputs[drifting].name, drifting: true },
    });
    fleet.close();
    await expect.poll(() => hook.taken.length, { timeout: 10_000 }).toBeGreaterThan(0);
    expect(hook.taken.map(({ body }) => body.title)).toEqual([`${name}: ${inputs[drifting].name} drifts`]);
    const rows = await sql.query<{ receiver: string; state: string }>('select receiver from notifications');
    expect(rows).toEqual([{ receiver: 'ml' }]);
  });

  it('gives a node that joins its share, and loses nothing by it', async () => {
    await mesh?.start('c', { ROLES: 'host' });
    await eventually(counts, (owned) => Object.keys(owned).length === 3 && Math.min(...Object.values(owned)) > 3);
    await mesh?.settled();
    await tell();
    await everyTwin();
  });

  it('goes on without a node that was killed', async () => {
    mesh?.nodes.get('b')?.signal('SIGKILL');
    mesh?.nodes.delete('b');
    await mesh?.settled();
    await tell();
    await everyTwin();
    const [{ n }] = await sql.query<{ n: number }>('select count(*)::int as n from machine_readings');
    expect(n).toBe(sent * TWINS.length);
  });

  it('empties a node by name, and fills it again', async () => {
    expect((await api('POST', '/api/v1/nodes/c/drain')).json.data).toEqual({ node: 'c', state: 'drained' });
    expect(await counts()).not.toHaveProperty('c');
    await mesh?.settled();
    expect(await counts()).toEqual({ a: 32 });
    await tell();
    await everyTwin();
    expect((await api('POST', '/api/v1/nodes/g/drain')).json.code).toBe('conflict');
    expect((await api('POST', '/api/v1/nodes/nobody/drain')).json.code).toBe('not_found');
    expect((await api('POST', '/api/v1/nodes/c/undrain')).status).toBe(200);
    await eventually(counts, (owned) => (owned.c ?? 0) > 3);
    await mesh?.settled();
    await everyTwin();
  });

  it('refuses a node whose name is taken, and goes on as it was', async () => {
    const again = (name: string, roles: string) =>
      NodeProcess.start(folder, { ...mesh?.env, NODE_ID: name, ROLES: roles, DATA_DIR: join(folder, roles) });
    const [host, gateway] = [again('a', 'host'), again('g', 'gateway')];
    // a host has it from the database or from the mesh, whichever tells it first
    expect([1, 2]).toContain(await host.ended());
    expect(host.output).toMatch(
      /A node named a lives on this database already|has the name a: give each its own NODE_ID/,
    );
    expect(await gateway.ended()).toBe(1);
    expect(gateway.output).toMatch(/has the name g: give each its own NODE_ID/);
    await tell();
    await everyTwin();
  });

  it('ends in order on SIGTERM, while the others go on', async () => {
    expect(await mesh?.end('a')).toBe(0);
    await mesh?.settled();
    await tell();
    await everyTwin();
    expect(await broker.call('twins.get', { twinId: TWINS[3] })).toMatchObject({ twinId: TWINS[3], stale: null });
  });
});

/** A stream that is read as it comes. */
async function follow(url: string, key: string) {
  const abort = new AbortController();
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${key}`, accept: 'text/event-stream' },
    signal: abort.signal,
  });
  expect(response.status).toBe(200);
  let text = '';
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) text += decoder.decode(chunk);
  })().catch(() => undefined);
  return {
    until: (pattern: RegExp) =>
      eventually(
        async () => text,
        (read) => pattern.test(read),
      ),
    close() {
      abort.abort();
      return reading;
    },
  };
}
