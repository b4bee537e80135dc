import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { thingModel } from '../../../actors/protocol/thing-model.ts';
import { KINDS_FOLDER, type KindRegistry, loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { kindTables } from '../../../actors/store/schema.ts';

const protocol = pathToFileURL(join(KINDS_FOLDER, '../protocol/kind.ts')).href;

const registryFile = pathToFileURL(join(KINDS_FOLDER, '../runtime/kind-registry.ts')).href;

/** A kind as somebody would write it into a folder of their own. */
const TURBINE = `
import { defineTwin } from '${protocol}';
export default defineTwin({
  kind: 'wind_turbine', version: 2, title: 'Wind turbine', description: 'A turbine.',
  metrics: {
    rotor_speed: { unit: 'rpm', min: 0, max: 60, gauge: 'turbine_rotor_rpm' },
    output: { unit: 'kW', min: -100, max: 20000, normal: [0, 5000] },
  },
  formats: [{
    name: 'turbine', mqtt: ['wind/{id}/data', 'wind/all'], kafka: ['wind'], http: ['/wind'],
    decode: (m, topicId) => ({ id: m.turbine ?? topicId, at: m.time, values: { rotor_speed: m.rpm, output: m.kw } }),
    example: { turbine: 'W1', time: '2026-01-01T00:00:00Z', rpm: 12, kw: 1800 },
  }],
  windows: { '1m': { spanMs: 60000, panes: 4 } },
  detectors: { zscore: { window: '1m', threshold: 3, minCount: 5 } },
  rules: [{ name: 'overspeed', metric: 'rotor_speed', above: 25, hysteresis: 1, holdMs: 0, cooldownMs: 0, severity: 'critical', message: '{value} rpm' }],
  silentAfterMs: 60000,
  graph: { type: 'wind_turbine' },
  digest: (view) => 'Turbine ' + view.twinId,
  simulator: {
    demoCount: 2, intervalMs: 1000, scenarios: { storm: 'too fast' },
    create: ({ seed, index }) => {
      let storm = 0;
      return {
        id: 'W' + (index + 1),
        next: (at) => ({ turbine: 'W' + (index + 1), time: new Date(at).toISOString(), rpm: 10 + (seed % 3) + storm, kw: 1500 }),
        inject: (name, severity) => { storm = 20 * severity; },
        truth: () => ({ storm }),
      };
    },
  },
});
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kinds-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function folderWith(files: Record<string, string>): Promise<string> {
  const own = await mkdtemp(join(folder, 'k-'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(own, name), text);
  return own;
}

describe('the kinds of the project', () => {
  let registry: KindRegistry;
  beforeAll(async () => {
    registry = await loadKinds();
  });

  it('are four, in order of name', () => {
    expect(registry.all().map((kind) => kind.kind)).toEqual(['battery', 'device', 'machine', 'mote', 'turbofan']);
    expect(registry.get('mote').title).toBe('Sensor mote');
    expect(registry.has('boat')).toBe(false);
    expect(() => registry.get('boat')).toThrow(expect.objectContaining({ code: 'unknown_kind' }));
    expect(() => registry.get('__proto__')).toThrow(expect.objectContaining({ code: 'unknown_kind' }));
  });

  it.each([
    ['ev/battery/telemetry', 'battery', undefined],
    ['ev/battery/telemetry/EV-007', 'battery', 'EV-007'],
    ['factory/machines/MACHINE_001/readings', 'machine', 'MACHINE_001'],
    ['building/motes/12/readings', 'mote', '12'],
    ['iot/data', 'device', undefined],
  ])('find %s', (topic, kind, topicId) => {
    const [found, ...rest] = registry.byMqttTopic(topic);
    expect(rest).toEqual([]);
    expect([found.kind.kind, found.topicId]).toEqual([kind, topicId]);
  });

  it.each([
    'ev/battery',
    'ev/battery/telemetry/',
    'ev/battery/telemetry/a/b',
    'EV/battery/telemetry',
    'factory/machines//readings',
    'factory/machines/x/writings',
    'iot/data/x',
    '',
    '/',
    '+/+/+',
  ])('know nothing of %j', (topic) => {
    expect(registry.byMqttTopic(topic)).toEqual([]);
  });

  it('find Kafka topics and HTTP paths', () => {
    const kafka = Object.fromEntries(registry.kafkaTopics().map((t) => [t, registry.byKafkaTopic(t)[0].kind.kind]));
    expect(kafka).toEqual({
      'ev-telemetry': 'battery',
      ev_battery_telemetry: 'battery',
      'sensor-readings': 'machine',
      sensor_readings: 'mote',
      'turbofan-cycles': 'turbofan',
    });
    expect(registry.byKafkaTopic('other')).toEqual([]);
    expect(registry.httpPaths()).toEqual(['/api/data']);
    expect(registry.byHttpPath('/api/data')[0].kind.kind).toBe('device');
    expect(registry.byHttpPath('/api/data/')).toEqual([]);
  });

  it('name the filters to subscribe to', () => {
    expect(registry.mqttFilters()).toEqual([
      'ev/battery/telemetry',
      'ev/battery/telemetry/+',
      'iot/data',
      'factory/machines/+/readings',
      'building/motes/+/readings',
      'factory/turbofans/+/cycles',
    ]);
  });
});

describe('a kind file dropped into a folder', () => {
  it('is in registry, tables, thing model and simulator, no other file touched', async () => {
    const registry = await loadKinds([await folderWith({ 'wind-turbine.ts': TURBINE, 'README.md': '# not a kind' })]);
    const kind = registry.get('wind_turbine');
    expect(registry.all()).toHaveLength(6);
    expect(registry.byMqttTopic('wind/W9/data')).toMatchObject([{ topicId: 'W9' }]);
    expect(registry.byMqttTopic('wind/all')).toMatchObject([{ topicId: undefined }]);
    expect(registry.byHttpPath('/wind')[0].kind).toBe(kind);

    const sql = kindTables(kind);
    expect(sql).toContain('create table if not exists wind_turbine_readings (');
    expect(sql).toContain('"rotor_speed" float8');
    expect(sql).toContain('wind_turbine_readings_hourly');

    const model = thingModel(kind);
    expect(model.properties).toMatchObject({ rotor_speed: { unit: 'rpm', maximum: 60 }, output: { minimum: -100 } });
    expect(kind.metrics.rotor_speed.gauge).toBe('turbine_rotor_rpm');

    const asset = kind.simulator!.create({ seed: 4, index: 1 });
    const message = asset.next(0)!;
    const [candidate] = registry.byMqttTopic('wind/W2/data');
    expect(candidate.format.decode(message, candidate.topicId)).toMatchObject({
      id: 'W2',
      values: { rotor_speed: 11, output: 1500 },
    });
  });

  it('may be a plain definition without an import', async () => {
    const plain = TURBINE.replace(/import.*\n/, '').replace('defineTwin({', '({');
    const registry = await loadKinds([await folderWith({ 'plain.js': plain })]);
    expect(registry.get('wind_turbine').metricNames).toEqual(['rotor_speed', 'output']);
  });

  it.each([
    ['a syntax error', 'export default {{{', ''],
    ['no default export', 'export const kind = 1;', 'default export'],
    ['a faulty definition', TURBINE.replace('above: 25,', ''), 'above or below'],
    [
      'missing members',
      TURBINE.replace(/ {2}metrics: [\s\S]*\n {2}windows/, '  windows'),
      'metrics is missing; formats is missing.',
    ],
    [
      'a member of another type',
      TURBINE.replace("kafka: ['wind'], ", '').replace('decode: (', 'decoder: ('),
      'formats[0].decode is missing',
    ],
    [
      'a metric that is none',
      TURBINE.replace("{ unit: 'rpm', min: 0,", "{ unit: 'rpm', min: '0',"),
      'metrics.rotor_speed.min must be a number',
    ],
    ['a reserved metric', TURBINE.replaceAll('output:', 'received_at:'), 'taken by a column'],
    ['an example of another kind', TURBINE.replace('output: m.kw', 'outputs: m.kw'), 'example'],
    ['a decoder that throws', TURBINE.replace('id: m.turbine', 'id: m.turbine.x'), 'undefined'],
    ['a wildcard in a topic', TURBINE.replace('wind/all', 'wind/#'), 'plain levels'],
    ['an unbounded topic', TURBINE.replace('wind/all', '{id}'), 'plain levels'],
  ])('is refused by name: %s', async (_what, text, message) => {
    const own = await folderWith({ 'faulty.ts': text });
    await expect(loadKinds([own])).rejects.toMatchObject({
      code: 'bad_kind',
      message: expect.stringContaining(join(own, 'faulty.ts')),
    });
    await expect(loadKinds([own])).rejects.toThrow(message);
  });

  it.each([
    ['a syntax error', "export default {\n  kind: 'x',\n  metrics: ((,\n};\n", 3],
    ['an error of its own', 'const nothing: any = null;\nexport default nothing.kind;\n', 2],
  ])('names the line of %s', async (_what, text, line) => {
    const own = await folderWith({ 'faulty.ts': text });
    // In a process of its own: the test runner imports in its own way and words faults differently.
    const script = `import { loadKinds } from ${JSON.stringify(registryFile)}; await loadKinds([${JSON.stringify(own)}]);`;
    const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(stderr).toContain(`${join(own, 'faulty.ts')}:${line}: `);
  });

  it('is refused when its name is taken, naming both files', async () => {
    const own = await folderWith({ 'again.ts': TURBINE.replace("kind: 'wind_turbine'", "kind: 'mote'") });
    const refused = loadKinds([own]);
    await expect(refused).rejects.toThrow(join(own, 'again.ts'));
    await expect(refused).rejects.toThrow(join(KINDS_FOLDER, 'mote.ts'));
  });

  it('needs a folder that is there', async () => {
    await expect(loadKinds([join(folder, 'none')])).rejects.toMatchObject({ code: 'bad_kind' });
  });
});
