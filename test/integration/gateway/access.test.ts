import { readdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Access, mayCall, ROLES } from '../../../services/gateway/caller.ts';
import type { Route } from '../../../services/gateway/routes.ts';
import { type GatewayNode, startGateway } from './node.ts';

/** Every route of every service: who is let in and who is not. The list is the registry's, not this file's. */
const SERVICES = fileURLToPath(new URL('../../../services/', import.meta.url));

/** What may be open without a key. */
const OPEN = ['GET /docs', 'GET /openapi.json', 'GET /health/live', 'GET /health/ready'];

/** Least roles that are promised outside, first match wins. */
const PROMISED: [RegExp, Access][] = [
  [/^(POST) \/api\/(v1\/telemetry|data)$/, 'device'],
  [/\/api\/v1\/(keys|devices|audit)/, 'admin'],
  [/\/dead-letters\/replay$/, 'admin'],
  [/^POST \/api\/v1\/nodes\/:node\/(drain|undrain)$/, 'admin'],
  [/^POST .*\/(acknowledge|resolve|silence|maintenance)$/, 'technician'],
  [/^(PATCH .*\/desired|(DELETE|PUT) \/api\/v1\/twins\/:twinId)$/, 'operator'],
  [/^GET \/metrics$/, 'metrics'],
  [/^GET \/(docs|openapi\.json|health)/, 'public'],
];

let node: GatewayNode;
let routes: readonly Route[];

async function allServices(): Promise<ServiceSchema[]> {
  const files = readdirSync(SERVICES, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.service.ts'));
  const modules = await Promise.all(files.map((f) => import(pathToFileURL(`${SERVICES}/${f}`).href)));
  return modules.map((m) => m.default as ServiceSchema).filter((s) => s.name !== 'gateway');
}

beforeAll(async () => {
  node = await startGateway({ services: await allServices() });
  routes = (node.broker.getLocalService('gateway') as unknown as { table: { routes: Route[] } }).table.routes;
});
afterAll(() => node?.stop());

const call = (route: Route, key?: string, headers: Record<string, string> = {}) => {
  const path = route.path.replace(/[:*][A-Za-z0-9_]+/g, 'x');
  const body = route.method === 'GET' || route.method === 'DELETE' ? {} : { body: null };
  return node.http(route.method, path, { ...(key ? { key } : {}), headers, ...body, headersOnly: true });
};
const named = (route: Route) => `${route.method} ${route.path}`;

describe('every route', () => {
  it('is found', () => {
    expect(routes.length).toBeGreaterThan(25);
    for (const route of ['GET /api/v1/twins/:twinId', 'GET /api/v1/audit', 'POST /api/v1/keys', ...OPEN])
      expect(routes.map(named)).toContain(route);
  });

  it('refuses the anonymous, except those that are open', async () => {
    for (const route of routes) {
      // Through a proxy, so that not even /metrics takes it for this machine.
      const { status } = await call(route, undefined, { 'x-forwarded-for': '203.0.113.9' });
      const open = OPEN.includes(named(route));
      expect([named(route), status === 401]).toEqual([named(route), !open]);
    }
  });

  it('refuses a wrong key, the open ones too', async () => {
    for (const route of routes) {
      for (const key of [`tm_aaaaaaaaaaaa_${'a'.repeat(43)}`, 'x', `${node.keys.admin}x`]) {
        expect([named(route), (await call(route, key)).status]).toEqual([named(route), 401]);
      }
    }
  });

  it('lets in exactly the roles that may call it', async () => {
    for (const route of routes) {
      for (const role of ROLES) {
        const { status } = await call(route, node.keys[role], { 'x-forwarded-for': '203.0.113.9' });
        const refused = status === 403 || status === 401;
        expect([named(route), role, refused]).toEqual([named(route), role, !mayCall(role, route.access)]);
      }
    }
  });

  it('asks for the role that is promised', () => {
    for (const route of routes) {
      const promised = PROMISED.find(([pattern]) => pattern.test(named(route)))?.[1];
      if (promised) expect([named(route), route.access]).toEqual([named(route), promised]);
      else expect([named(route), route.access]).not.toEqual([named(route), 'public']);
    }
  });

  it('never answers 5xx to a nonsense request', async () => {
    for (const route of routes) {
      const nonsense = '%F0%9F%92%A9~..%2F..%2Fetc';
      const path = route.path.replace(/[:*][A-Za-z0-9_]+/g, nonsense);
      for (const query of [
        '',
        `?cursor=${nonsense}&limit=-1&at=x&after=1e999&kind=';--&from=x&to=x&step=x&filter=((&sort=;`,
      ]) {
        const body =
          route.method === 'GET'
            ? {}
            : { raw: '{"id":{},"name":[],"limit":"x"}', headers: { 'content-type': 'application/json' } };
        const { status } = await node.http(route.method, path + query, {
          key: node.keys.admin,
          headersOnly: true,
          ...body,
        });
        expect([named(route), query, status < 500 || status === 501]).toEqual([named(route), query, true]);
      }
    }
  });
});

describe('the OpenAPI document', () => {
  it('has every route and nothing else', async () => {
    const { json } = await node.http('GET', '/openapi.json');
    const documented = Object.entries(json.paths).flatMap(([path, methods]) =>
      Object.keys(methods as object).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const served = routes.map((r) => `${r.method} ${r.path.replace(/[:*]([A-Za-z0-9_]+)/g, '{$1}')}`);
    expect(documented.sort()).toEqual([...served].sort());
  });

  it('says of every operation what a caller needs', async () => {
    const { json } = await node.http('GET', '/openapi.json');
    for (const [path, methods] of Object.entries<Record<string, Operation>>(json.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        const name = `${method} ${path}`;
        expect([name, operation.summary.length > 5, operation.summary.length < 100]).toEqual([name, true, true]);
        expect([name, operation.tags.length]).toEqual([name, 1]);
        for (const parameter of operation.parameters ?? [])
          expect([name, parameter.name, typeof parameter.description]).toEqual([name, parameter.name, 'string']);
      }
    }
  });

  it('has what is no matter of motes alone where a reader looks for it', async () => {
    const { json } = await node.http('GET', '/openapi.json');
    for (const [path, methods] of Object.entries<Record<string, Operation>>(json.paths)) {
      const area = ['analytics', 'export'].find((name) => path.startsWith(`/api/v1/${name}/`));
      for (const { tags } of area ? Object.values(methods) : []) expect([path, tags]).toEqual([path, [area]]);
    }
    expect(Object.keys(json.paths)).toEqual(
      expect.arrayContaining(['/api/v1/analytics/anomalies', '/api/v1/export/csv']),
    );
  });
});

interface Operation {
  summary: string;
  tags: string[];
  parameters?: { name: string; description?: string }[];
}

describe('a service that would be open by omission', () => {
  it.each([
    [{ rest: 'GET /api/v1/oops' }, /oops\.go: rest without a role/],
    [{ rest: 'GET /api/v1/oops', role: 'anyone' }, /rest without a role/],
    [{ rest: '/api/v1/oops', role: 'viewer' }, /METHOD \/path/],
    [{ rest: 'GET /docs', role: 'viewer' }, /already/],
  ])('stops the start: %j', async (action, message) => {
    const oops = { name: 'oops', actions: { go: { ...action, handler: () => 1 } } } as ServiceSchema;
    await expect(startGateway({ services: [oops], parts: node.parts })).rejects.toThrow(message);
  });

  it('is not exposed when it comes later', async () => {
    const late = { name: 'late', actions: { go: { rest: 'GET /api/v1/late', handler: () => 1 } } } as ServiceSchema;
    const fine = {
      name: 'fine',
      actions: { go: { rest: 'GET /api/v1/fine', role: 'viewer', handler: () => 1 } },
    } as ServiceSchema;
    node.broker.createService(late);
    node.broker.createService(fine);
    await node.broker.waitForServices(['late', 'fine'], 5000, 10);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await node.http('GET', '/api/v1/late', { key: node.keys.admin })).status).toBe(404);
    expect((await node.http('GET', '/api/v1/fine', { key: node.keys.viewer })).json.data).toBe(1);
  });

  it('cannot be reached by its name either', async () => {
    for (const path of [
      '/twins/get',
      '/twins.get',
      '/~node/list',
      '/$node/list',
      '/api/v1/twins.command',
      '/gateway/rest',
    ])
      expect((await node.http('GET', path, { key: node.keys.admin })).status).toBe(404);
  });
});
