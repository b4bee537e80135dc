import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadSettings } from '../../config/settings.ts';
import { examine } from '../../services/doctor/examination.ts';
import { mintKey } from '../../services/keys/hashing.ts';
import { insertKey } from '../../services/keys/store.ts';
import { eventually } from '../e2e/node-process.ts';
import { type Mesh, startMesh } from '../servers/mesh.ts';
import { findMosquittoServer } from '../servers/mosquitto.ts';
import { type OtlpReceiver, startOtlp } from '../servers/otlp.ts';

/** One node takes requests and telemetry, another owns the twins; JetStream lies between them. */
const mosquitto = await findMosquittoServer();
const receiver: OtlpReceiver = await startOtlp();
const mesh: Mesh | null =
  mosquitto &&
  (await startMesh({
    shards: 16,
    ttlMs: 1_000,
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
      TRACE_SAMPLE: '1',
      MQTT_URL: mosquitto.url,
      LOG_LEVEL: 'debug',
      DEMO: 'off',
    },
  }));

describe.skipIf(mesh === null)('two nodes', () => {
  let http: string;
  let metrics: string;
  const key = mintKey();

  beforeAll(async () => {
    const m = mesh as Mesh;
    const owner = await m.start('owner', { ROLES: 'host' });
    const door = await m.start('door', { ROLES: 'ingest,history,gateway' });
    http = (await door.until(/API\s+(http:\S+)\/api\/v1\/twins/))[1];
    metrics = (await owner.until(/(http:\/\/127\.0\.0\.1:\d+)\/metrics/))[1];
    await insertKey(m.sql, { id: key.id, name: 'a', role: 'admin', hash: key.hash, createdBy: null });
    await m.settled();
  });
  afterAll(async () => {
    await mesh?.stop();
    await mosquitto?.stop();
    await receiver.close();
  });

  it('share one trace of a message, from the request on one to the events of the other', async () => {
    const answer = await fetch(`${http}/api/v1/telemetry`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${key.key}`,
        'content-type': 'application/json',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      },
      body: JSON.stringify([{ twinId: 'machine:M1', values: { temperature: 65.5 } }]),
    });
    expect([answer.status, ((await answer.json()) as { data: { accepted: number } }).data.accepted]).toEqual([200, 1]);
    const names = ['HTTP POST', 'call ingest.telemetry', 'ingest', 'append', 'turn', 'commit', 'event'];
    const mine = () => receiver.spans.filter(({ traceId }) => traceId.startsWith('0af7'));
    await receiver.until(() => names.every((name) => mine().some((span) => span.name === name)));
    const of = new Map(mine().map((span) => [span.name, span]));
    for (const [i, name] of names.slice(1).entries())
      expect(of.get(name)?.parentSpanId, name).toBe(of.get(names[i])?.spanId);
    expect(names.map((name) => of.get(name)?.resource['service.instance.id'])).toEqual([
      ...['door', 'door', 'door', 'door'],
      ...['owner', 'owner'],
      expect.any(String),
    ]);
  });

  it('share one trace of a call, and their log lines carry it', async () => {
    const headers = {
      authorization: `Bearer ${key.key}`,
      traceparent: '00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    };
    expect((await fetch(`${http}/api/v1/twins/machine:M1`, { headers })).status).toBe(200);
    const mine = () => receiver.spans.filter(({ traceId }) => traceId.startsWith('1af7'));
    await receiver.until(() => mine().length >= 2);
    const call = mine().find(({ name }) => name === 'call twins.get');
    expect(call?.resource['service.instance.id']).toBe('owner');
    expect(call?.parentSpanId).toBe(mine().find(({ name }) => name === 'HTTP GET')?.spanId);
    const lines = async () =>
      (mesh as Mesh).nodes
        .get('door')
        ?.output.split('\n')
        .filter((text) => text.includes('"trace_id":"1af7651916cd43dd8448eb211c80319c"')) ?? [];
    const written = await eventually(lines, (found) => found.some((text) => text.includes('"msg":"http"')));
    // Moleculer's own lines, written on the way of the request, carry it too.
    expect(written.length).toBeGreaterThan(1);
  });

  it('show the log, the pool and the spans in their metrics', async () => {
    const text = await eventually(
      async () => await (await fetch(`${metrics}/metrics`)).text(),
      (shown) => /twinmesh_trace_spans_sent_total [1-9]/.test(shown),
    );
    for (const name of [
      'twinmesh_log_lag_readings 0',
      'twinmesh_nats_connected 1',
      'twinmesh_log_fetched_total 1',
      'twinmesh_shards_owned 16',
      'twinmesh_commits_fenced_total 0',
      'twinmesh_activations_total 1',
    ])
      expect(text).toContain(`\n${name}\n`);
    expect(text).toMatch(/twinmesh_database_statement_duration_ms_count\{operation="commit"\} [1-9]/);
    expect(text).toMatch(/twinmesh_database_pool_connections\{pool="priority",state="idle"\} \d/);
  });

  it('are well in the eyes of the doctor', async () => {
    const { env } = mesh as Mesh;
    const found = await examine(loadSettings({ ...env, NODE_ID: 'doctor' }), [
      'mesh',
      'sessions',
      'nats',
      'mqtt',
      'traces',
    ]);
    expect(found.filter(({ level }) => level !== 'ok')).toEqual([]);
    expect(found.map(({ says }) => says)).toContain('all 16 shards have a living owner');
  });
});
