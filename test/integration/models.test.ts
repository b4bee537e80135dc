import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import asking from '../../services/asking.service.ts';
import { runCommand } from '../../services/command-line.ts';
import history from '../../services/history.service.ts';
import { toWire } from '../../services/inference/wire.ts';
import inference from '../../services/inference.service.ts';
import ml from '../../services/ml.service.ts';
import { promote, shadow } from '../../services/models/register.ts';
import models from '../../services/models.service.ts';
import { modelsCommands } from '../../services/models-cli.ts';
import { eventually } from '../e2e/node-process.ts';
import { inputsOf, linear, projection, writeModel } from '../fixtures/onnx.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from './gateway/node.ts';

/** The life of models over HTTP, and twins that ask them. */
const folder = mkdtempSync(join(tmpdir(), 'twinmesh-life-'));
const dir = join(folder, 'models');
let node: GatewayNode;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** `value = factor × (t + p)`; the model of the kind `boiler`. */
function boilerLife(version: string, factor: number) {
  const inputs = inputsOf('temperature', 'pressure').map((input) => ({ ...input, missing: 'required' }));
  return writeModel(dir, {
    name: 'boiler-life',
    version,
    onnx: linear([factor, factor], 0, 5),
    card: { kind: 'boiler', inputs },
    parity: { inputs: [[1, 2]], outputs: { value: [3 * factor], lo: [3 * factor - 5] } },
  });
}

const KIND = `export default {
  kind: 'boiler', version: 1, title: 'Boiler', description: 'A boiler of a test.',
  metrics: { temperature: { unit: '°C', min: 0, max: 500 }, pressure: { unit: 'bar', min: 0, max: 50 } },
  formats: [{ name: 'boiler', http: [], decode: (m) => ({ id: m.id, at: m.at, values: m.values ?? {} }), example: { id: 'B1', at: 1, values: { temperature: 1 } } }],
  windows: { '1m': { spanMs: 60000, panes: 6 } }, detectors: {}, rules: [], silentAfterMs: 60000,
  models: { life: { model: 'boiler-life', inputs: ['temperature', 'pressure'], everyMs: 100 } },
  graph: { type: 'boiler' }, digest: () => 'A boiler.',
};`;

beforeAll(async () => {
  mkdirSync(join(folder, 'kinds'));
  writeFileSync(join(folder, 'kinds', 'boiler.ts'), KIND);
  boilerLife('1.0.0', 1);
  boilerLife('1.1.0', 2);
  writeModel(dir, {
    name: 'boiler-forecast',
    version: '1.0.0',
    onnx: projection('forecast', [[1], [0]]),
    card: { kind: 'boiler', type: 'forecast', output: { metrics: ['temperature'], horizonMs: 60_000 } },
    parity: { inputs: [[1, 1]], outputs: { forecast: [1] } },
  });
  writeModel(dir, { name: 'boiler-lie', version: '1.0.0', onnx: linear([1, 1], 0), card: { sha256: 'c'.repeat(64) } });
  node = await startGateway({
    env: { MODELS_DIR: dir, KINDS_DIR: join(folder, 'kinds') },
    services: [...GATEWAY_SERVICES, asking, inference, models, ml, history] as unknown as ServiceSchema[],
  });
  await node.broker.call('inference.refresh');
});
afterAll(() => node?.stop());

const send = (method: string, path: string, body?: unknown, role: keyof GatewayNode['keys'] = 'admin') =>
  node.http(method, `/api/v1${path}`, { key: node.keys[role], body });
const list = async () => (await send('GET', '/models')).json.data;
const life = async () =>
  Object.fromEntries(
    (await send('GET', '/models/boiler-life')).json.data.items.map(
      (item: { version: string; status: string; loaded: { as: string }[] }) => [
        item.version,
        [item.status, ...item.loaded.map(({ as }) => as)].join(' '),
      ],
    ),
  );
const onTheCommandLine = async (...args: string[]) => {
  process.env.DATA_DIR = node.dataDir;
  try {
    return (await runCommand(modelsCommands, args)).text;
  } finally {
    delete process.env.DATA_DIR;
  }
};
const predict = async (inputs: unknown) => (await send('POST', '/ml/boiler-life/predict', { inputs })).json.data;
const ONE_OF_EACH = { temperature: 1, pressure: 1 };

describe('models', () => {
  it('found in a folder are registered: the newest is live, what lies is refused with its reason', async () => {
    const { items, refused, inference } = await list();
    const own = items.filter(({ name }: { name: string }) => name.startsWith('boiler-'));
    expect(own.map((item: Record<string, unknown>) => [item.name, item.version, item.status, item.promotedBy])).toEqual(
      [
        ['boiler-forecast', '1.0.0', 'live', 'start'],
        ['boiler-life', '1.1.0', 'live', 'start'],
        ['boiler-life', '1.0.0', 'candidate', null],
      ],
    );
    expect(refused).toContainEqual({
      node: 'node-1',
      name: 'boiler-lie',
      version: '1.0.0',
      reason: expect.stringMatching(/the card says c+/),
    });
    expect(inference).toEqual({ nodes: [expect.any(String)], breaker: 'closed', down: null });
    const { card } = (await send('GET', '/models/boiler-life')).json.data.items[0];
    expect(card).toMatchObject({ name: 'boiler-life', version: '1.1.0', inputs: [{ name: 'temperature' }, {}] });
    expect((await send('GET', '/models/boiler-none')).status).toBe(404);
  });

  it('count for drift what twins ask, and not what people try out', async () => {
    const { book } = node.broker.getLocalService('inference') as unknown as { book: { flush(): Promise<void> } };
    const counted = async () => {
      await book.flush();
      const [{ n }] = await node.parts.sql.query<{ n: number }>(
        `select coalesce(sum(rows), 0)::int as n from drift_counts where model = 'boiler-life'`,
      );
      return n;
    };
    const before = await counted();
    const rows = Array.from({ length: 50 }, () => ONE_OF_EACH);
    expect((await send('POST', '/ml/boiler-life/predict/batch', { rows })).status).toBe(200);
    expect((await counted()) - before).toBeLessThan(50);
    const inputs = new Float32Array(100);
    await node.broker.call(
      'inference.predict',
      toWire({ model: 'boiler-life', inputs, rows: 50, at: Array(50).fill(0) }, 5_000),
    );
    expect((await counted()) - before).toBeGreaterThanOrEqual(50);
  });

  it('are asked by twins, and what they say is in the twin and in the view of predictions', async () => {
    await node.tell('boiler', 'B1', { temperature: 100, pressure: 20 });
    const { predictions } = await eventually(
      async () => (await send('GET', '/twins/boiler:B1')).json.data,
      (twin) => twin.predictions.life !== undefined,
    );
    expect(predictions.life).toMatchObject({
      model: 'boiler-life',
      version: '1.1.0',
      value: 240,
      unit: 'h',
      interval: [235, 245],
    });
    const rows = await node.parts.sql.query('select * from predictions where twin_id = $1', ['boiler:B1']);
    const told = await send('GET', '/twins/boiler:B1/predictions?name=life&order=desc&limit=1');
    expect(told.json.data.items).toMatchObject([
      {
        name: 'life',
        model: 'boiler-life',
        version: '1.1.0',
        at: predictions.life.at,
        value: 240,
        interval: [235, 245],
      },
    ]);
    expect((await send('GET', '/twins/boiler:nobody/predictions')).status).toBe(404);
    expect(rows[0]).toMatchObject({
      kind: 'boiler',
      name: 'life',
      model: 'boiler-life@1.1.0',
      value: 240,
      lo: 235,
      hi: 245,
    });
    const text = (await node.http('GET', '/metrics', { key: node.keys.viewer })).text;
    expect(text).toMatch(/^model_prediction_count\{model="boiler-life",version="1.1.0"\} [1-9]/m);
    expect(text).toMatch(/^twinmesh_inference_breaker_open 0$/m);
  });

  it('are promoted, shadowed and rolled back, one live at a time, and answer at once as told', async () => {
    expect(await predict(ONE_OF_EACH)).toMatchObject({ model: 'boiler-life@1.1.0', value: 4 });
    expect((await send('POST', '/models/boiler-life/promote', { version: '1.0.0', reason: 'a try' })).status).toBe(200);
    expect(await life()).toEqual({ '1.0.0': 'live live', '1.1.0': 'retired' });
    expect(await predict(ONE_OF_EACH)).toMatchObject({ model: 'boiler-life@1.0.0', value: 2 });
    await send('POST', '/models/boiler-life/shadow', { version: '1.1.0' });
    expect(await life()).toEqual({ '1.0.0': 'live live', '1.1.0': 'shadow shadow' });
    await predict(ONE_OF_EACH);
    await eventually(
      async () => (await node.http('GET', '/metrics', { key: node.keys.viewer })).text,
      (text) => /shadow_difference_count\{model="boiler-life",version="1.1.0"\} [1-9]/.test(text),
    );
    await send('POST', '/models/boiler-life/shadow', { version: null });
    // what it was before
    expect(await life()).toEqual({ '1.0.0': 'live live', '1.1.0': 'retired' });
    await send('POST', '/models/boiler-life/rollback', { reason: 'tried' });
    expect(await life()).toEqual({ '1.0.0': 'retired', '1.1.0': 'live live' });
    expect(await predict(ONE_OF_EACH)).toMatchObject({ model: 'boiler-life@1.1.0' });
    const audit = (await send('GET', '/audit?limit=100')).json.data.items;
    for (const action of ['models.promote', 'models.shadow', 'models.rollback'])
      expect(audit.map((row: { action: string }) => row.action)).toContain(action);
  });

  it('are changed by admins only, and not into what is not there', async () => {
    for (const verb of ['promote', 'shadow', 'rollback'])
      expect((await send('POST', `/models/boiler-life/${verb}`, { version: '1.0.0' }, 'operator')).status).toBe(403);
    const refusals = [
      ['promote', { version: '9.9.9' }, 404],
      ['promote', { version: '1.1.0' }, 409],
      ['promote', { version: 'one' }, 400],
      ['shadow', { version: '1.1.0' }, 409],
      ['shadow', {}, 400],
    ] as const;
    for (const [verb, body, status] of refusals)
      expect([verb, body, (await send('POST', `/models/boiler-life/${verb}`, body)).status]).toEqual([
        verb,
        body,
        status,
      ]);
    const lie = await send('POST', '/models/boiler-lie/promote', { version: '1.0.0' });
    expect([lie.status, lie.json.code]).toEqual([422, 'bad_model']);
    expect(lie.json.detail).toMatch(/boiler-lie@1.0.0 was found and refused: .*: model.onnx has the hash/);
    // 1.1.0 was first of its name: there is nothing before it.
    expect((await send('POST', '/models/boiler-forecast/rollback', {})).status).toBe(409);
  });

  it('stay one live where many promote at once', async () => {
    await Promise.all(
      Array.from({ length: 6 }, (_, i) => send('POST', '/models/boiler-life/promote', { version: `1.${i % 2}.0` })),
    );
    const statuses = Object.values(await life()) as string[];
    expect(statuses.filter((status) => status.startsWith('live'))).toHaveLength(1);
  });

  it('are tried before the register changes: one that no node can load is refused, and nothing is changed', async () => {
    await send('POST', '/models/boiler-life/promote', { version: '1.1.0' });
    boilerLife('1.2.0', 3);
    await node.broker.call('inference.refresh');
    expect((await life())['1.2.0']).toBe('candidate');
    boilerLife('1.2.0', 4);
    const before = await life();
    for (const verb of ['promote', 'shadow']) {
      const answer = await send('POST', `/models/boiler-life/${verb}`, { version: '1.2.0' });
      expect([answer.status, answer.json.code]).toEqual([422, 'bad_model']);
      expect(answer.text).toMatch(/No node can load boiler-life@1\.2\.0.*node-1: .*a version never changes.*Mend/);
    }
    expect(await life()).toEqual(before);
    expect(await predict(ONE_OF_EACH)).toMatchObject({ model: 'boiler-life@1.1.0' });
    // what lay is whole again: nothing is held against it any more
    boilerLife('1.2.0', 3);
    const { checked, note } = (await send('POST', '/models/boiler-life/shadow', { version: '1.2.0' })).json.data;
    expect({ checked, note }).toEqual({ checked: true, note: null });
    expect((await life())['1.2.0']).toBe('shadow shadow');
    await send('POST', '/models/boiler-life/shadow', { version: null });
  });

  it('are not rolled back to a version that cannot be loaded any more', async () => {
    await send('POST', '/models/boiler-life/promote', { version: '1.2.0' });
    renameSync(join(dir, 'boiler-life', '1.1.0'), join(dir, 'aside'));
    const answer = await send('POST', '/models/boiler-life/rollback', {});
    expect([answer.status, answer.text]).toEqual([422, expect.stringMatching(/1\.1\.0.*There is no folder/)]);
    expect((await life())['1.2.0']).toBe('live live');
    renameSync(join(dir, 'aside'), join(dir, 'boiler-life', '1.1.0'));
    expect((await send('POST', '/models/boiler-life/rollback', {})).status).toBe(200);
    expect((await life())['1.1.0']).toBe('live live');
  });

  it('keep the version that answers when the live one or the shadow is broken on disk, and show why', async () => {
    boilerLife('1.2.0', 5);
    const { sql } = node.parts;
    for (const status of ['shadow', 'live'] as const) {
      if (status === 'shadow') await shadow(sql, 'boiler-life', '1.2.0');
      else await promote(sql, 'boiler-life', '1.2.0', { by: 'a node without inference', reason: 'untried' });
      await node.broker.call('inference.refresh');
      const item = (await send('GET', '/models')).json.data.items.find(
        ({ name, version }: Record<string, string>) => name === 'boiler-life' && version === '1.2.0',
      );
      expect(item).toMatchObject({ status, loaded: [], refused: [{ node: 'node-1' }] });
      expect(item.refused[0].reason).toMatch(/a version never changes/);
      expect(await predict(ONE_OF_EACH)).toMatchObject({ model: 'boiler-life@1.1.0' });
      const text = await onTheCommandLine('list');
      expect(text).toMatch(new RegExp(`boiler-life +1\\.2\\.0 +${status} +regression +refused by node-1`));
      expect(text).toMatch(/boiler-life@1\.2\.0 refused by node-1: .*a version never changes/);
    }
    await send('POST', '/models/boiler-life/rollback', {});
    expect((await life())['1.1.0']).toBe('live live');
  });

  it('answer the command line', async () => {
    process.env.DATA_DIR = node.dataDir;
    try {
      const run = (...args: string[]) => runCommand(modelsCommands, args);
      expect((await run('list')).text).toMatch(/boiler-life +1\.1\.0 +live/);
      expect((await run('promote', 'boiler-life', '1.0.0')).text).toMatch(
        /boiler-life +1\.0\.0 +live +regression +node-1/,
      );
      expect((await run('rollback', 'boiler-life')).text).toMatch(/boiler-life +1\.1\.0 +live/);
      expect((await run('shadow', 'boiler-life', '1.0.0')).text).toMatch(/boiler-life +1\.0\.0 +shadow/);
      expect((await run('shadow', 'boiler-life', 'none')).text).toMatch(/boiler-life +1\.0\.0 +retired/);
      expect(await run('promote', 'boiler-life', '7.0.0')).toMatchObject({
        code: 2,
        text: expect.stringMatching(/^not_found/),
      });
      expect((await run('check', join(dir, 'boiler-life', '1.1.0'))).text).toMatch(/^boiler-life@1.1.0 is good/);
      expect(await run('check', join(dir, 'boiler-lie', '1.0.0'))).toMatchObject({ code: 2 });
      expect(await run('promote', 'boiler-life', '1.2.0')).toMatchObject({
        code: 2,
        text: expect.stringMatching(/^bad_model\s+No node can load boiler-life@1\.2\.0/),
      });
    } finally {
      delete process.env.DATA_DIR;
    }
  });
});

describe('asking a model over HTTP', () => {
  it('takes inputs by name, or a twin', async () => {
    const said = await predict({ temperature: 10, pressure: 2.5 });
    expect(said).toEqual({
      model: 'boiler-life@1.1.0',
      at: expect.stringMatching(/^\d{4}-.*Z$/),
      value: 25,
      unit: 'h',
      interval: [20, 30],
    });
    const at = Date.now();
    await node.tell('boiler', 'B2', { temperature: 7, pressure: 3 }, at);
    const ofTwin = (await send('POST', '/ml/boiler-life/predict', { twinId: 'boiler:B2' }, 'viewer')).json.data;
    expect(ofTwin).toMatchObject({ model: 'boiler-life@1.1.0', value: 20, at: new Date(at).toISOString() });
    await node.tell('boiler', 'B3', { temperature: 7 }, at);
    const lacking = await send('POST', '/ml/boiler-life/predict', { twinId: 'boiler:B3' }, 'viewer');
    expect([lacking.status, lacking.text]).toEqual([400, expect.stringMatching(/boiler:B3: it has no pressure yet/)]);
    const forecast = await send('POST', '/ml/boiler-forecast/forecast', { inputs: { temperature: 55, vibration: 1 } });
    expect(forecast.json.data).toMatchObject({ forecast: { temperature: 55 }, horizonMs: 60_000 });
  });

  it('answers many rows in their order, null where one has no answer', async () => {
    const rows = Array.from({ length: 700 }, (_, i) => ({ temperature: i, pressure: 0 }));
    const { predictions } = (await send('POST', '/ml/boiler-life/predict/batch', { rows })).json.data;
    expect(predictions.map((p: { value: number }) => p.value)).toEqual(rows.map(({ temperature }) => 2 * temperature));
  });

  it.each([
    ['/ml/boiler-life/predict', {}, 400, /inputs or a twinId/],
    ['/ml/boiler-life/predict', { inputs: ONE_OF_EACH, twinId: 'boiler:B1' }, 400, /one of the two/],
    ['/ml/boiler-life/predict', { inputs: { temperature: 1 } }, 400, /pressure is missing/],
    [
      '/ml/boiler-life/predict',
      { inputs: { temperature: 'hot', pressure: 1, colour: 3 } },
      400,
      /temperature must be a number; colour is none/,
    ],
    ['/ml/boiler-life/predict', { inputs: { temperature: 1e60, pressure: 1 } }, 400, /must be a number/],
    ['/ml/boiler-life/predict', { twinId: 'boiler:NOBODY' }, 404, /no twin/],
    ['/ml/boiler-life/predict', { twinId: 'mote:1' }, 400, /does not use the model/],
    ['/ml/boiler-life/forecast', { inputs: ONE_OF_EACH }, 400, /a model of regression/],
    ['/ml/boiler-none/predict', { inputs: {} }, 404, /no model/],
    ['/ml/boiler-lie/predict', { inputs: {} }, 404, /no model/],
    [
      '/ml/boiler-life/predict/batch',
      { rows: [ONE_OF_EACH, { temperature: 1 }] },
      400,
      /rows\[1\]: .*pressure is missing/,
    ],
    ['/ml/boiler-life/predict/batch', { rows: [] }, 400, /rows/],
  ])('refuses %s %j', async (path, body, status, why) => {
    const answer = await send('POST', path, body);
    expect([answer.status, answer.text]).toEqual([status, expect.stringMatching(why)]);
  });
});

// the last: the service is gone after it
describe('where no node runs models', () => {
  it('the register changes untried, and the answer says so', async () => {
    await node.broker.destroyService('inference');
    const { items, checked, note } = (await send('POST', '/models/boiler-life/promote', { version: '1.2.0' })).json
      .data;
    expect(checked).toBe(false);
    expect(note).toMatch(
      /^boiler-life@1\.2\.0 was not tried, because no node with the role inference is there\. The reg/,
    );
    expect(items[0]).toMatchObject({ version: '1.2.0', status: 'live', loaded: [] });
    expect(await onTheCommandLine('rollback', 'boiler-life')).toMatch(/boiler-life@1\.1\.0 was not tried/);
    expect((await life())['1.1.0']).toBe('live');
  });
});
