import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../actors/protocol/clock.ts';
import type { TwinmeshError } from '../../actors/protocol/errors.ts';
import { whyNoPython } from '../../models/training/python.ts';
import { Asking } from '../../services/inference/asking.ts';
import type { WireAnswer, WireRequest } from '../../services/inference/wire.ts';
import { ask, dataOf, metricOf } from '../e2e/api.ts';
import { eventually, type NodeProcess } from '../e2e/node-process.ts';
import { inputsOf, linear, writeModel } from '../fixtures/onnx.ts';
import { type Mesh, startMesh } from '../servers/mesh.ts';

/** A host without inference and a node that has it, over a real NATS: the second is hung, killed and comes back; telemetry goes on. */
const mesh = await startMesh({ ttlMs: 2_000, shards: 8 });
const folder = mkdtempSync(join(tmpdir(), 'twinmesh-inference-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const KIND = `export default {
  kind: 'boiler', version: 1, title: 'Boiler', description: 'A boiler of a test.',
  metrics: { temperature: { unit: '°C', min: 0, max: 500 } },
  formats: [{ name: 'boiler', http: [], decode: (m) => ({ id: m.id, at: m.at, values: m.values ?? {} }), example: { id: 'B1', at: 1, values: { temperature: 1 } } }],
  windows: { '1m': { spanMs: 60000, panes: 6 } }, detectors: {}, rules: [], silentAfterMs: 600000,
  models: { life: { model: 'boiler-life', inputs: ['temperature'], everyMs: 1 } },
  graph: { type: 'boiler' }, digest: () => 'A boiler.',
};`;
const DEADLINE_MS = 400;
const OPEN_MS = 500;
/** Neither on the path nor an environment that was made before. */
const WITHOUT_PYTHON = { PATH: folder, HOME: folder };
/** Whether the node that is to train here can. */
const noPython = await whyNoPython(null);
if (noPython !== null && process.env.REQUIRE_SERVERS === '1') throw new Error(noPython);

describe.skipIf(mesh === null)('inference on a node of its own', () => {
  const { broker } = (mesh ?? {}) as Mesh;
  let host: { http: string; key: string };
  let inference: NodeProcess;
  let told = 0;

  const codeOf = (asking: Asking) =>
    asking.predict({ model: 'boiler-life', inputs: Float32Array.of(1), rows: 1, at: [1] }).then(
      ({ predictions }) => predictions[0]?.value,
      (error: TwinmeshError) => error.code,
    );
  const newAsking = () =>
    new Asking({
      clock: systemClock,
      deadlineMs: DEADLINE_MS,
      openMs: OPEN_MS,
      call: (request, timeout) => broker.call<WireAnswer, WireRequest>('inference.predict', request, { timeout }),
    });
  /** A reading of each twin, later than those before; answers what it is. */
  const tell = async () => {
    told++;
    const at = Date.now();
    const readings = ['B1', 'B2', 'B3'].map((id) => ({ twinId: `boiler:${id}`, at, values: { temperature: told } }));
    const { json } = await ask(host.http, 'POST', '/api/v1/telemetry', { key: host.key, body: readings });
    expect(json.data).toEqual({ accepted: 3, duplicates: 0, rejected: [] });
    const twin = await dataOf(host, '/api/v1/twins/boiler:B1');
    expect(twin.reported).toEqual({ temperature: told });
    // The host knows of nothing else that could be amiss.
    expect([undefined, 'inference down']).toContain(twin.stale?.reason);
    return twin;
  };
  const startInference = async () => {
    inference = await (mesh as Mesh).start('i', { ...env('inference'), ...WITHOUT_PYTHON });
  };
  const env = (roles: string) => ({
    ROLES: roles,
    KINDS_DIR: join(folder, 'kinds'),
    MODELS_DIR: join(folder, 'models'),
    INFERENCE_DEADLINE_MS: String(DEADLINE_MS),
    DEMO: 'off',
    MQTT_URL: '',
    PORT: '0',
  });

  beforeAll(async () => {
    mkdirSync(join(folder, 'kinds'));
    writeFileSync(join(folder, 'kinds', 'boiler.ts'), KIND);
    writeModel(join(folder, 'models'), {
      name: 'boiler-life',
      version: '1.0.0',
      onnx: linear([2], 1),
      card: { kind: 'boiler', inputs: inputsOf('temperature') },
      parity: { inputs: [[1]], outputs: { value: [3] } },
    });
    const node = await (mesh as Mesh).start('h', env('host,ingest,history,gateway'));
    const [, http] = await node.until(/API\s+(http:\S+)\/api\/v1\/twins/);
    const [key] = await node.until(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/);
    host = { http, key };
    await mesh?.settled();
  });
  afterAll(() => mesh?.stop());

  it('is missed while it is not there: telemetry goes on, and what is wrong shows', async () => {
    await eventually(tell, ({ stale }) => stale !== null);
    const { inference: shown } = await eventually(
      () => dataOf(host, '/api/v1/models'),
      (data) => data.inference.down !== null,
    );
    expect(shown).toMatchObject({
      nodes: [],
      breaker: 'closed',
      down: { reason: expect.stringMatching(/role inference/) },
    });
    expect((await ask(host.http, 'GET', '/health/ready')).status).toBe(200);
    expect((await dataOf(host, '/api/v1/health')).inference.down).not.toBeNull();
  });

  it('is asked once it is there, over the mesh, in batches', async () => {
    await startInference();
    const { predictions } = await eventually(tell, (twin) => twin.predictions.life !== undefined);
    expect(predictions.life).toMatchObject({ model: 'boiler-life', version: '1.0.0' });
    const { inference: shown, items } = await dataOf(host, '/api/v1/models');
    expect(shown).toEqual({ nodes: ['i'], breaker: 'closed', down: null });
    expect(items.find(({ name }: { name: string }) => name === 'boiler-life')).toMatchObject({
      status: 'live',
      loaded: [{ node: 'i', as: 'live' }],
    });
    const said = await dataOf(host, '/api/v1/ml/boiler-life/predict', 'POST', { inputs: { temperature: 20 } });
    expect(said).toMatchObject({ model: 'boiler-life@1.0.0', value: 41 });
    expect(await metricOf(host.http, 'twinmesh_inference_asked_total')).toBeGreaterThan(0);
  });

  it('hangs: who asks gives up at the deadline, then asks nobody, and asks again once it is back', async () => {
    const asking = newAsking();
    expect(await codeOf(asking)).toBe(3);
    inference.signal('SIGSTOP');
    const told = [];
    for (let i = 0; i < 5; i++) told.push(await codeOf(asking));
    expect(told).toEqual(Array(5).fill('deadline_exceeded'));
    expect([await codeOf(asking), asking.status().breaker]).toEqual(['inference_down', 'open']);
    await tell();
    inference.signal('SIGCONT');
    await eventually(
      () => codeOf(asking),
      (answer) => answer === 3,
    );
    expect(asking.status()).toMatchObject({ breaker: 'closed', down: null });
  });

  it('is killed: telemetry goes on, and twins catch up when it is back', async () => {
    const asking = newAsking();
    const asked = Array.from({ length: 4 }, () => codeOf(asking));
    inference.signal('SIGKILL');
    await inference.ended();
    mesh?.nodes.delete('i');
    // Each was answered, or refused with its reason.
    for (const answer of await Promise.all(asked)) expect([3, 'deadline_exceeded', 'inference_down']).toContain(answer);
    await tell();
    await startInference();
    const newest = told;
    await eventually(
      tell,
      ({ stale, predictions: { life } }) => stale === null && life.stale === null && life.value > 2 * newest + 1,
    );
  });

  it.skipIf(noPython !== null)('leaves training to a node that has Python, and waits for one', async () => {
    const { id } = await dataOf(host, '/api/v1/models/machine-rul/train', 'POST', {});
    const job = () => dataOf(host, `/api/v1/jobs/${id}`);
    const waits = await eventually(job, ({ message }) => message !== null);
    expect(waits).toMatchObject({
      status: 'queued',
      node: null,
      message: expect.stringMatching(/waits for a node that can train.*; i: Training needs Python/),
    });
    await (mesh as Mesh).start('p', env('inference'));
    const taken = await eventually(job, ({ status }) => status !== 'queued');
    expect(taken).toMatchObject({ status: 'running', node: 'p' });
    await dataOf(host, `/api/v1/jobs/${id}`, 'DELETE');
    expect(await mesh?.end('p')).toBe(0);
  });
});
