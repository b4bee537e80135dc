import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import ingest from '../../../services/ingest.service.ts';
import { faultsOf } from './json-schema-check.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from './node.ts';

const TURBINE = `export default {
  kind: 'turbine', version: 1, title: 'Wind turbine', description: 'A turbine.',
  metrics: { rotor_speed: { unit: 'rpm', min: 0, max: 40, normal: [5, 20] } },
  formats: [{
    name: 'turbine readings', mqtt: ['wind/{id}/readings'],
    example: { id: 'WT-1', rpm: 12.1, time: '2026-01-01T00:00:00Z' },
    decode: (message, topicId) => ({ id: message.id ?? topicId, at: message.time, values: { rotor_speed: message.rpm } }),
  }],
  windows: {}, detectors: {}, rules: [], silentAfterMs: 60000, graph: { type: 'turbine' }, digest: () => '',
};`;

let node: GatewayNode;
let folder: string;
// biome-ignore lint/suspicious/noExplicitAny: the document is looked into as JSON
let api: any;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tm-kinds-'));
  await writeFile(join(folder, 'turbine.js'), TURBINE);
  node = await startGateway({
    env: { KINDS_DIR: folder },
    services: [...GATEWAY_SERVICES, ingest] as unknown as ServiceSchema[],
  });
  api = (await node.http('GET', '/openapi.json')).json;
});
afterAll(async () => {
  await node?.stop();
  await rm(folder, { recursive: true, force: true });
});

const schemaOf = (path: string, method: string) => {
  const { requestBody, responses } = api.paths[path][method];
  return (requestBody ?? responses['200']).content['application/json'].schema;
};

describe('the OpenAPI document', () => {
  it("has the metrics of every kind, with unit and range, a kind file of one's own included", () => {
    expect(api.components.schemas['turbine.values'].properties.rotor_speed).toEqual({
      type: 'number',
      description: 'In rpm; ordinarily 5 to 20.',
      minimum: 0,
      maximum: 40,
      'x-unit': 'rpm',
    });
    for (const kind of node.parts.kinds.all()) {
      const { properties = {} } = api.components.schemas[`${kind.kind}.values`];
      expect(Object.keys(properties)).toEqual(Object.keys(kind.metrics));
    }
  });

  it('has the wire formats with their examples, and readings that the server takes', async () => {
    expect(api.components.schemas['turbine.format.turbine_readings']).toMatchObject({
      description: expect.stringContaining('wind/{id}/readings'),
      examples: [{ id: 'WT-1', rpm: 12.1 }],
    });
    for (const kind of node.parts.kinds.all()) {
      const schema = api.components.schemas[`${kind.kind}.reading`];
      const [example] = schema.examples;
      expect([kind.kind, faultsOf(example, schema, api)]).toEqual([kind.kind, []]);
      expect(faultsOf([example], schemaOf('/api/v1/telemetry', 'post'), api)).toEqual([]);
      const { json } = await node.http('POST', '/api/v1/telemetry', { key: node.keys.operator, body: [example] });
      expect([kind.kind, json.data]).toEqual([kind.kind, { accepted: 1, duplicates: 0, rejected: [] }]);
    }
    const turbine = api.components.schemas['turbine.reading'];
    expect(faultsOf({ twinId: 'turbine:1', values: { rotor_speed: 41 } }, turbine, api)).toHaveLength(1);
    expect(faultsOf({ twinId: 'machine:1', values: { rotor_speed: 4 } }, turbine, api)).toHaveLength(1);
  });

  it('describes a twin by its kind', async () => {
    await node.tell('turbine', 'WT-7', { rotor_speed: 12 });
    const schema = schemaOf('/api/v1/twins/{twinId}', 'get');
    const { json } = await node.http('GET', '/api/v1/twins/turbine:WT-7', { key: node.keys.viewer });
    expect(faultsOf(json, schema, api)).toEqual([]);
    json.data.reported.rotor_speed = 41;
    expect(faultsOf(json, schema, api)).not.toEqual([]);
  });

  it('refers to nothing that is not there', () => {
    const names = [...JSON.stringify(api).matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map((match) => match[1]);
    expect(names.filter((name) => !(name in api.components.schemas))).toEqual([]);
    expect(names).toContain('turbine.twin');
  });
});
