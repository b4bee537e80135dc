import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { control } from '../../../services/control-client.ts';
import { SseReader } from '../../unit/gateway/sse-reader.ts';
import { faultsOf } from './json-schema-check.ts';
import { type GatewayNode, type HttpAnswer, startGateway } from './node.ts';

let node: GatewayNode;
// biome-ignore lint/suspicious/noExplicitAny: the document is looked into as JSON
let api: any;

beforeAll(async () => {
  node = await startGateway({ env: { CORS_ORIGINS: 'https://ops.example.com', MAX_BODY_BYTES: '1048576' } });
  api = (await node.http('GET', '/openapi.json')).json;
  await node.tell('machine', 'M1', { temperature: 60, vibration: 1.2 });
  await node.tell('machine', 'M1', { temperature: 61 });
});
afterAll(() => node?.stop());

const as = (role: keyof GatewayNode['keys'], more: Record<string, unknown> = {}) => ({ key: node.keys[role], ...more });

/** The answer is in the envelope, and its data as the OpenAPI document says. */
function expectDocumented(answer: HttpAnswer, method: string, path: string): void {
  expect(answer.status).toBe(200);
  const schema = api.paths[path][method].responses['200'].content['application/json'].schema;
  expect(faultsOf(answer.json, schema, api)).toEqual([]);
}

function expectProblem(answer: HttpAnswer, status: number, code: string): void {
  expect([answer.status, answer.json?.code]).toEqual([status, code]);
  expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8');
  expect(faultsOf(answer.json, api.components.schemas.Problem, api)).toEqual([]);
  expect(answer.json).toMatchObject({
    status: 'error',
    http_status: status,
    request_id: answer.headers['x-request-id'],
  });
}

/** Opens a stream of server-sent events. */
async function listen(path: string, lastEventId?: string): Promise<SseReader & { response: IncomingMessage }> {
  const headers: Record<string, string> = { authorization: `Bearer ${node.keys.viewer}`, accept: 'text/event-stream' };
  if (lastEventId !== undefined) headers['last-event-id'] = lastEventId;
  const req = httpRequest({ host: '127.0.0.1', port: node.port, path, headers, agent: false });
  req.end();
  const [response] = (await once(req, 'response')) as [IncomingMessage];
  response.on('error', () => undefined);
  expect(response.statusCode).toBe(200);
  return Object.assign(new SseReader(response), { response });
}

describe('answers', () => {
  it('a twin, in the envelope', async () => {
    const answer = await node.http('GET', '/api/v1/twins/machine:M1', as('viewer'));
    expectDocumented(answer, 'get', '/api/v1/twins/{twinId}');
    expect(answer.json).toMatchObject({
      status: 'success',
      data: { twinId: 'machine:M1', revision: 2, reported: { temperature: 61, vibration: 1.2 } },
      meta: { request_id: answer.headers['x-request-id'] },
    });
    expect(answer.headers.etag).toBe('"rev:2"');
    expect(Number(answer.headers['content-length'])).toBe(Buffer.byteLength(answer.text));
  });

  it('304 to whoever has it already', async () => {
    for (const tag of ['"rev:2"', 'W/"rev:2"', '"rev:1", "rev:2"', '*']) {
      const answer = await node.http(
        'GET',
        '/api/v1/twins/machine:M1',
        as('viewer', { headers: { 'if-none-match': tag } }),
      );
      expect([answer.status, answer.text, answer.headers.etag]).toEqual([304, '', '"rev:2"']);
    }
    const other = await node.http(
      'GET',
      '/api/v1/twins/machine:M1',
      as('viewer', { headers: { 'if-none-match': '"rev:1"' } }),
    );
    expect(other.status).toBe(200);
  });

  it('HEAD without a body, and with a percent-encoded id', async () => {
    const answer = await node.http('HEAD', '/api/v1/twins/machine%3AM1', as('viewer'));
    expect([answer.status, answer.text, answer.headers.etag]).toEqual([200, '', '"rev:2"']);
    expect(Number(answer.headers['content-length'])).toBeGreaterThan(100);
    const stream = await node.http('HEAD', '/api/v1/stream', as('viewer'));
    expect([stream.status, stream.text]).toEqual([200, '']);
  });

  it('journal and events, paged', async () => {
    const first = await node.http('GET', '/api/v1/twins/machine:M1/journal?limit=1', as('viewer'));
    expectDocumented(first, 'get', '/api/v1/twins/{twinId}/journal');
    expect(first.json.data).toMatchObject({ items: [{ revision: 1, type: 'reading' }], nextCursor: '1' });
    const second = await node.http('GET', '/api/v1/twins/machine:M1/journal?limit=1&after=1', as('viewer'));
    expect(second.json.data).toMatchObject({ items: [{ revision: 2 }], nextCursor: null });
    const events = await node.http('GET', '/api/v1/twins/machine:M1/events', as('viewer'));
    expectDocumented(events, 'get', '/api/v1/twins/{twinId}/events');
    expect(events.json.data.items.map((e: { type: string }) => e.type)).toContain('twin.created');
  });

  it('pages events by cursor without loss, and refuses a cursor of another list', async () => {
    for (let i = 0; i < 4; i++)
      await node.http(
        'POST',
        '/api/v1/twins/machine:M1/maintenance',
        as('technician', { body: { work: `work ${i}` } }),
      );
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const at: string = cursor === null ? '' : `&cursor=${cursor}`;
      const { json } = await node.http(
        'GET',
        `/api/v1/twins/machine:M1/events?type=maintenance&limit=3${at}`,
        as('viewer'),
      );
      seen.push(...json.data.items.map((e: { body: { work: string } }) => e.body.work));
      cursor = json.data.nextCursor;
      if (cursor)
        expectProblem(await node.http('GET', `/api/v1/audit?cursor=${cursor}`, as('admin')), 400, 'bad_request');
    } while (cursor);
    expect(seen).toEqual(['work 3', 'work 2', 'work 1', 'work 0']);
  });

  it('kinds with formats, and one kind', async () => {
    const all = await node.http('GET', '/api/v1/kinds', as('viewer'));
    expectDocumented(all, 'get', '/api/v1/kinds');
    expect(all.json.data.items.map((k: { kind: string }) => k.kind)).toEqual([
      'battery',
      'device',
      'machine',
      'mote',
      'turbofan',
    ]);
    const one = await node.http('GET', '/api/v1/kinds/machine', as('viewer'));
    expectDocumented(one, 'get', '/api/v1/kinds/{kind}');
    expect(one.json.data.thing['@type']).toBe('tm:ThingModel');
  });

  it('health and metrics', async () => {
    expect((await node.http('GET', '/health/live')).json).toEqual({ live: true });
    expect((await node.http('GET', '/health/ready')).json).toMatchObject({ ready: true });
    expectDocumented(await node.http('GET', '/api/v1/health', as('viewer')), 'get', '/api/v1/health');
    const metrics = await node.http('GET', '/metrics');
    expect(metrics.headers['content-type']).toContain('text/plain');
    expect(metrics.text).toMatch(/twinmesh_http_request_duration_ms_bucket\{[^}]*route="\/api\/v1\/twins\/:twinId"/);
  });

  it('the docs page under its own policy', async () => {
    const page = await node.http('GET', '/docs');
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.headers['content-security-policy']).toContain("script-src 'sha256-");
    expect(page.text).toContain('<title>twinmesh API</title>');
  });

  it('headers that keep an answer from being misused', async () => {
    for (const path of ['/api/v1/kinds', '/nothing', '/health/live', '/docs']) {
      const { headers } = await node.http('GET', path, as('viewer'));
      expect(headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
      });
      expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
      expect(headers['x-powered-by']).toBeUndefined();
    }
    expect((await node.http('GET', '/api/v1/kinds', as('viewer'))).headers['cache-control']).toBe('no-store');
  });

  it('the request id that was sent, if it is one', async () => {
    const sent = async (id: string) =>
      (await node.http('GET', '/health/live', { headers: { 'x-request-id': id } })).headers['x-request-id'];
    expect(await sent('abc-123')).toBe('abc-123');
    for (const id of ['a b', 'x'.repeat(65), '"><script>']) expect(await sent(id)).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('problems', () => {
  it.each([
    ['GET', '/nothing', 404, 'not_found'],
    ['GET', '/api/v1/nothing', 404, 'not_found'],
    ['GET', '/api/v1/twins/machine:none', 404, 'not_found'],
    ['GET', '/api/v1/twins/nokind:x', 422, 'unknown_kind'],
    ['GET', '/api/v1/twins/x', 422, 'bad_id'],
    ['GET', '/api/v1/twins/machine:M1?at=2001-01-01', 404, 'not_found'],
    ['GET', '/api/v1/twins/machine:M1?at=2150-01-01', 400, 'bad_request'],
    ['GET', '/api/v1/twins/machine:M1?at=x', 400, 'bad_request'],
    ['GET', '/api/v1/twins/machine:M1/journal?limit=0', 400, 'bad_request'],
    ['GET', '/api/v1/twins/machine:M1/journal?limit=1&limit=2', 400, 'bad_request'],
    ['GET', '/api/v1/twins/machine:M1/events?cursor=x', 400, 'bad_request'],
    ['GET', '/api/v1/twins/%E0', 400, 'bad_request'],
    ['GET', '/api/v1/twins/machine:M1?a=%00', 422, 'bad_text'],
    ['GET', '/api/v1/stream?kind=nokind', 422, 'unknown_kind'],
    ['GET', '/api/v1/stream?type=A', 400, 'bad_request'],
    ['DELETE', '/api/v1/keys/nosuchkey', 404, 'not_found'],
  ])('%s %s is %i %s', async (method, path, status, code) => {
    expectProblem(await node.http(method, path, as('admin')), status, code);
  });

  it('names a query parameter that nobody knows, and the nearest one', async () => {
    const detail = async (method: string, path: string, body?: unknown) => {
      const answer = await node.http(method, path, as('admin', body === undefined ? {} : { body }));
      expectProblem(answer, 400, 'bad_request');
      return answer.json.detail;
    };
    expect(await detail('GET', '/api/v1/twins/machine:M1/journal?limti=1')).toBe(
      'There is no query parameter "limti" here: did you mean "limit"?',
    );
    expect(await detail('GET', '/api/v1/kinds?colour=red')).toBe(
      'There is no query parameter "colour" here: this path takes none.',
    );
    // What the path says cannot be said again beside it.
    expect(await detail('GET', '/api/v1/twins/machine:M1?twinId=machine:M2')).toContain('"twinId"');
    expect(await detail('POST', '/api/v1/keys?rolle=admin', { name: 'x', role: 'viewer' })).toContain('"role"');
    expect(await detail('GET', '/health/live?constructor')).toContain('"constructor"');
  });

  it('405 with what is allowed', async () => {
    const answer = await node.http('POST', '/api/v1/twins/machine:M1', as('admin'));
    expectProblem(answer, 405, 'method_not_allowed');
    expect(answer.headers.allow).toBe('GET, DELETE, PUT, HEAD, OPTIONS');
  });

  it('401 with how to do it', async () => {
    const answer = await node.http('GET', '/api/v1/kinds');
    expectProblem(answer, 401, 'unauthenticated');
    expect(answer.headers['www-authenticate']).toContain('Bearer');
    for (const path of [`/api/v1/kinds?key=${node.keys.admin}`, `/api/v1/kinds?access_token=${node.keys.admin}`])
      expectProblem(await node.http('GET', path), 401, 'unauthenticated');
  });

  it('names the field that is wrong', async () => {
    const answer = await node.http('POST', '/api/v1/keys', as('admin', { body: { name: '', role: 'king' } }));
    expectProblem(answer, 400, 'bad_request');
    expect(new Set(answer.json.errors.map((e: { field: string }) => e.field))).toEqual(new Set(['name', 'role']));
  });

  it('bodies that are none', async () => {
    const patch = (raw: string | Buffer, headers: Record<string, string> = {}) =>
      node.http(
        'PATCH',
        '/api/v1/twins/machine:M1/desired',
        as('operator', { raw, headers: { 'content-type': 'application/json', ...headers } }),
      );
    expectProblem(await patch('{'), 400, 'not_json');
    expectProblem(await patch('[1]'), 400, 'bad_request');
    expectProblem(await patch('{"a":"\\u0000"}'), 422, 'bad_text');
    expectProblem(await patch('{"__proto__":{"a":1}}'), 400, 'bad_request');
    expectProblem(await patch('{"a":1}', { 'content-type': 'text/plain' }), 415, 'unsupported');
    expectProblem(await patch(JSON.stringify({ a: 'x'.repeat(70_000) })), 413, 'too_large');
    expectProblem(await patch(gzipSync(Buffer.alloc(2_000_000, 32)), { 'content-encoding': 'gzip' }), 413, 'too_large');
    expect((await patch(gzipSync('{"a":1}'), { 'content-encoding': 'gzip' })).status).toBe(200);
    expect((await patch('{"a":null}', { 'content-type': 'application/merge-patch+json' })).status).toBe(200);
  });
});

describe('the body', () => {
  /** Sends headers and part of a body on a socket of its own, and answers what comes back until the end. */
  async function half(head: string[], body = ''): Promise<string> {
    const socket = connect(node.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(`${[...head, 'Host: x', '', ''].join('\r\n')}${body}`);
    let text = '';
    for await (const chunk of socket) {
      text += chunk;
      // 100 Continue is not the answer yet.
      if (text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '').includes('\r\n\r\n')) break;
    }
    socket.destroy();
    return text;
  }

  it('is not read before its sender has been let in', async () => {
    const head = ['PATCH /api/v1/twins/machine:M1/desired HTTP/1.1', 'Content-Length: 100000000'];
    expect(await half(head, '{')).toMatch(/^HTTP\/1\.1 401 [\s\S]*Connection: close/);
    expect(await half([...head, `Authorization: Bearer ${node.keys.viewer}`], '{')).toMatch(/^HTTP\/1\.1 403 /);
    expect(await half([...head, `Authorization: Bearer ${node.keys.operator}`], '{')).toMatch(/^HTTP\/1\.1 413 /);
  });

  it('is asked for only then, when its sender waits', async () => {
    const head = [
      'PATCH /api/v1/twins/machine:M1/desired HTTP/1.1',
      'Content-Length: 7',
      'Content-Type: application/json',
      'Expect: 100-continue',
    ];
    expect(await half(head)).toMatch(/^HTTP\/1\.1 401 /);
    const answer = await half([...head, `Authorization: Bearer ${node.keys.operator}`], '{"a":1}');
    expect(answer).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /);
  });

  it('leaves the connection usable after a small one was refused', async () => {
    const socket = connect(node.port, '127.0.0.1');
    const request = 'POST /api/v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}';
    socket.write(request + request.replace('keys', 'devices'));
    let text = '';
    for await (const chunk of socket) {
      text += chunk;
      if (text.split('HTTP/1.1 401').length === 3) break;
    }
    socket.destroy();
    expect(text.split('HTTP/1.1 401')).toHaveLength(3);
  });

  it('cannot be smuggled', async () => {
    const both = ['POST /api/v1/keys HTTP/1.1', 'Content-Length: 5', 'Transfer-Encoding: chunked'];
    expect(await half(both, '0\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    expect(await half(['GET http://evil/api/v1/kinds HTTP/1.1'])).toMatch(/^HTTP\/1\.1 400 /);
    expect(await half([`GET /${'x'.repeat(40_000)} HTTP/1.1`])).toMatch(/^HTTP\/1\.1 431 /);
    expect(await half([`GET /${'x'.repeat(9_000)} HTTP/1.1`])).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe('cross-origin', () => {
  const preflight = (origin: string) =>
    node.http('OPTIONS', '/api/v1/twins/machine:M1/desired', {
      headers: { origin, 'access-control-request-method': 'PATCH', 'access-control-request-headers': 'authorization' },
    });

  it('is for configured origins', async () => {
    const answer = await preflight('https://ops.example.com');
    expect(answer.status).toBe(204);
    expect(answer.headers).toMatchObject({
      'access-control-allow-origin': 'https://ops.example.com',
      'access-control-allow-methods': 'PATCH, OPTIONS',
      vary: 'Origin',
    });
    expect(answer.headers['access-control-allow-headers']).toContain('Authorization');
    expect(answer.headers['access-control-allow-credentials']).toBeUndefined();
    const read = await node.http(
      'GET',
      '/api/v1/kinds',
      as('viewer', { headers: { origin: 'https://ops.example.com' } }),
    );
    expect(read.headers['access-control-allow-origin']).toBe('https://ops.example.com');
    expect(read.headers['access-control-expose-headers']).toContain('ETag');
  });

  it.each(['https://evil.example', 'null', 'https://ops.example.com.evil', 'http://ops.example.com'])(
    'not for %s',
    async (origin) => {
      expect((await preflight(origin)).headers['access-control-allow-origin']).toBeUndefined();
      const read = await node.http('GET', '/api/v1/kinds', as('viewer', { headers: { origin } }));
      expect(read.headers['access-control-allow-origin']).toBeUndefined();
    },
  );

  it('OPTIONS says what a path takes', async () => {
    const answer = await node.http('OPTIONS', '/api/v1/keys');
    expect([answer.status, answer.headers.allow]).toEqual([204, 'GET, POST, HEAD, OPTIONS']);
    expectProblem(await node.http('OPTIONS', '/api/v1/nothing'), 404, 'not_found');
  });
});

describe('commands', () => {
  it('set desired values, show the delta, and count once under one key', async () => {
    const desired = (body: unknown, headers: Record<string, string> = {}) =>
      node.http('PATCH', '/api/v1/twins/machine:M1/desired', as('operator', { body, headers }));
    const first = await desired({ temperature: 50 }, { 'idempotency-key': 'k-1' });
    expectDocumented(first, 'patch', '/api/v1/twins/{twinId}/desired');
    expect(first.json.data).toMatchObject({
      repeated: false,
      twin: { desired: { temperature: 50 }, delta: { temperature: 50 } },
    });
    expect(first.headers.etag).toBe(`"rev:${first.json.data.twin.revision}"`);
    const again = await desired({ temperature: 50 }, { 'idempotency-key': 'k-1' });
    expect(again.json.data).toMatchObject({ repeated: true, revision: first.json.data.revision });
    const other = await desired({ temperature: null });
    expect(other.json.data).toMatchObject({ repeated: false, twin: { desired: {} } });
    expectProblem(await desired({}, { 'idempotency-key': 'x'.repeat(201) }), 400, 'bad_request');
  });

  it('of two with one If-Match one wins', async () => {
    const { headers } = await node.http('GET', '/api/v1/twins/machine:M1', as('viewer'));
    const body = (v: number) =>
      as('operator', { body: { pressure: v }, headers: { 'if-match': headers.etag as string } });
    const answers = await Promise.all(
      [1, 2].map((v) => node.http('PATCH', '/api/v1/twins/machine:M1/desired', body(v))),
    );
    expect(answers.map((a) => a.status).sort()).toEqual([200, 412]);
    expectProblem(answers.find((a) => a.status === 412) as HttpAnswer, 412, 'precondition_failed');
  });

  it('cannot speak for another twin through the body', async () => {
    await node.tell('machine', 'M2', { temperature: 60 });
    const body = { twinId: 'machine:M2', work: 'sneaky' };
    const answer = await node.http('POST', '/api/v1/twins/machine:M1/maintenance', as('technician', { body }));
    expect(answer.json.data.twin).toMatchObject({
      twinId: 'machine:M1',
      maintenance: { work: 'sneaky', by: 'a technician' },
    });
    const other = await node.http('GET', '/api/v1/twins/machine:M2', as('viewer'));
    expect(other.json.data.maintenance).toBeNull();
  });

  it('retire and restore', async () => {
    await node.tell('machine', 'M3', { temperature: 60 });
    expect((await node.http('DELETE', '/api/v1/twins/machine:M3', as('operator'))).json.data.twin.retired).toBe(true);
    const refused = await node.http('PATCH', '/api/v1/twins/machine:M3/desired', as('operator', { body: { a: 1 } }));
    expectProblem(refused, 410, 'retired');
    expect((await node.http('PUT', '/api/v1/twins/machine:M3', as('operator'))).json.data.twin.retired).toBe(false);
    expectProblem(await node.http('PUT', '/api/v1/twins/machine:M3', as('operator')), 409, 'conflict');
  });

  it('acknowledge, silence and resolve an alert', async () => {
    const rule = node.parts.kinds.get('machine').rules.find((r) => r.metric === 'temperature' && r.above !== undefined);
    const value = (rule?.above ?? 0) + 5;
    const start = Date.now() - 200_000;
    for (let i = 0; i < 20; i++) await node.tell('machine', 'HOT', { temperature: value }, start + i * 10_000);
    const { json } = await node.http('GET', '/api/v1/twins/machine:HOT', as('viewer'));
    const [alert] = json.data.alerts;
    expect(alert).toMatchObject({ rule: rule?.name, state: 'raised' });
    const on = (verb: string, body?: unknown) =>
      node.http('POST', `/api/v1/alerts/${encodeURIComponent(alert.alertId)}/${verb}`, as('technician', { body }));
    const acknowledged = await on('acknowledge', { note: 'on my way' });
    expectDocumented(acknowledged, 'post', '/api/v1/alerts/{id}/acknowledge');
    expect(acknowledged.json.data.twin.alerts[0]).toMatchObject({
      state: 'acknowledged',
      acknowledgedBy: 'a technician',
    });
    const until = new Date(Date.now() + 3_600_000).toISOString();
    const silenced = await on('silence', { until });
    expect(silenced.json.data.twin.alerts[0].silencedUntil).toBe(until);
    expectProblem(await on('silence', { until: '2020-01-01' }), 400, 'bad_request');
    expectProblem(await on('silence', {}), 400, 'bad_request');
    const resolved = await on('resolve');
    expect(resolved.json.data.twin.alerts.map((a: { alertId: string }) => a.alertId)).not.toContain(alert.alertId);
    expectProblem(await on('resolve'), 404, 'not_found');
  });
});

describe('live streams', () => {
  it('follow a twin and resume where they were', async () => {
    await node.tell('machine', 'S1', { temperature: 60 });
    const first = await listen('/api/v1/twins/machine:S1');
    expect(first.response.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    await vi.waitFor(() => expect(first.received).toHaveLength(1), 5000);
    expect(first.received[0]).toMatchObject({ event: 'twin', id: '1' });
    await node.tell('machine', 'S1', { temperature: 61 });
    await vi.waitFor(() => expect(first.of('reading')).toHaveLength(1), 5000);
    expect(first.of('reading')[0]).toMatchObject({ id: '2', data: { values: { temperature: 61 } } });
    first.response.destroy();
    await node.tell('machine', 'S1', { temperature: 62 });
    await node.http('POST', '/api/v1/twins/machine:S1/maintenance', as('technician', { body: { work: 'oiled' } }));
    const second = await listen('/api/v1/twins/machine:S1', first.lastEventId);
    await vi.waitFor(() => expect(second.of('command')).toHaveLength(1), 5000);
    await node.tell('machine', 'S1', { temperature: 63 });
    await vi.waitFor(() => expect(second.of('reading')).toHaveLength(2), 5000);
    expect(second.received.filter((r) => r.event !== 'twin').map((r) => r.id)).toEqual(['3', '4', '5']);
    // And the twin again, on its own.
    await vi.waitFor(() => expect(second.of('twin').at(-1)?.data.revision).toBe(5), 5000);
    second.response.destroy();
  });

  it('are refused for a twin that is not there', async () => {
    expectProblem(
      await node.http('GET', '/api/v1/twins/machine:none', as('viewer', { headers: { accept: 'text/event-stream' } })),
      404,
      'not_found',
    );
  });

  it('tell what happens to the fleet and resume where they were', async () => {
    const path = '/api/v1/stream?kind=machine&type=twin.created,maintenance';
    const first = await listen(path);
    await vi.waitFor(() => expect(first.of('hello')).toHaveLength(1), 5000);
    await node.tell('machine', 'F1', { temperature: 60 });
    await node.tell('mote', '7', { temperature: 20 });
    await vi.waitFor(() => expect(first.of('twin.created')).toHaveLength(1), 5000);
    first.response.destroy();
    await node.http('POST', '/api/v1/twins/machine:F1/maintenance', as('technician', { body: { work: 'a' } }));
    await node.tell('machine', 'F2', { temperature: 60 });
    const second = await listen(path, first.lastEventId);
    await vi.waitFor(() => expect(second.received).toHaveLength(3), 5000);
    expect(
      second
        .of('twin.created', 'maintenance.recorded')
        .map((r) => r.data.twinId)
        .sort(),
    ).toEqual(['machine:F1', 'machine:F2']);
    second.response.destroy();
  });

  it('end with the key they were opened with', async () => {
    const made = await node.http('POST', '/api/v1/keys', as('admin', { body: { name: 'short', role: 'viewer' } }));
    const { key, id } = made.json.data;
    const req = httpRequest({
      host: '127.0.0.1',
      port: node.port,
      path: '/api/v1/stream',
      headers: { 'x-api-key': key },
      agent: false,
    });
    req.end();
    const [response] = (await once(req, 'response')) as [IncomingMessage];
    const reader = new SseReader(response);
    await vi.waitFor(() => expect(reader.of('hello')).toHaveLength(1), 5000);
    await node.http('DELETE', `/api/v1/keys/${id}`, as('admin'));
    await vi.waitFor(() => expect(reader.ended).toBe(true), 5000);
  });

  it('end with a key whose revocation this gateway has not heard of, once it looks', async () => {
    const made = await node.http('POST', '/api/v1/keys', as('admin', { body: { name: 'unheard', role: 'viewer' } }));
    const { key, id } = made.json.data;
    const headers = { 'x-api-key': key };
    const req = httpRequest({ host: '127.0.0.1', port: node.port, path: '/api/v1/stream', headers, agent: false });
    req.end();
    const [response] = (await once(req, 'response')) as [IncomingMessage];
    const reader = new SseReader(response);
    await vi.waitFor(() => expect(reader.of('hello')).toHaveLength(1), 5000);
    const other = await listen('/api/v1/stream');
    // as another node does it while this one is cut off from it
    await node.parts.sql.query('update keys set revoked_at = now() where id = $1', [id]);
    const gateway = node.broker.getLocalService('gateway') as unknown as { checkKeys(): Promise<void> };
    await gateway.checkKeys();
    await vi.waitFor(() => expect(reader.ended).toBe(true), 5000);
    expect(other.ended).toBe(false);
    other.response.destroy();
    expectProblem(await node.http('GET', '/api/v1/kinds', { key }), 401, 'unauthenticated');
  });
});

describe('keys', () => {
  it('are made, shown once, used, and revoked at once', async () => {
    const made = await node.http(
      'POST',
      '/api/v1/keys',
      as('admin', { body: { name: 'Schicht Ä', role: 'technician' } }),
    );
    expectDocumented(made, 'post', '/api/v1/keys');
    const { key, id } = made.json.data;
    expect((await node.http('GET', '/api/v1/kinds', { key })).status).toBe(200);
    expect((await node.http('GET', '/api/v1/kinds', { headers: { 'x-api-key': key } })).status).toBe(200);
    const list = await node.http('GET', '/api/v1/keys', as('admin'));
    expectDocumented(list, 'get', '/api/v1/keys');
    expect(list.json.data.items[0]).toMatchObject({ id, name: 'Schicht Ä', role: 'technician', createdBy: 'a admin' });
    expect(list.text).not.toContain(key.slice(16));
    const revoked = await node.http('DELETE', `/api/v1/keys/${id}`, as('admin'));
    expect(revoked.json.data).toEqual({ revoked: [id] });
    expectProblem(await node.http('GET', '/api/v1/kinds', { key }), 401, 'unauthenticated');
    expectProblem(await node.http('DELETE', `/api/v1/keys/${id}`, as('admin')), 404, 'not_found');
  });

  it('are listed page by page', async () => {
    const all = await node.http('GET', '/api/v1/keys?limit=500', as('admin'));
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const { json } = await node.http('GET', `/api/v1/keys?limit=2${cursor ? `&cursor=${cursor}` : ''}`, as('admin'));
      seen.push(...json.data.items.map((k: { id: string }) => k.id));
      cursor = json.data.nextCursor;
    } while (cursor);
    expect(seen).toEqual(all.json.data.items.map((k: { id: string }) => k.id));
    expect(seen.length).toBeGreaterThan(4);
  });

  it('of the first admin work, and there is one only once', async () => {
    const { firstAdminKey } = await import('../../../services/keys/first-key.ts');
    expect(node.adminKey).toMatch(/^tm_/);
    expect((await node.http('GET', '/api/v1/audit', { key: node.adminKey })).status).toBe(200);
    expect(await firstAdminKey(node.parts.sql)).toBeNull();
  });

  it('are stored as digests only', async () => {
    const rows = await node.parts.sql.query<Record<string, unknown>>('select * from keys');
    const text = JSON.stringify(rows);
    for (const key of [node.adminKey, ...Object.values(node.keys)]) expect(text).not.toContain(key.slice(16));
  });
});

describe('devices', () => {
  it('are enrolled with all they need, rotated and revoked', async () => {
    const body = { name: 'press 4', kind: 'machine' };
    const made = await node.http('POST', '/api/v1/devices', as('admin', { body }));
    expectDocumented(made, 'post', '/api/v1/devices');
    const { data } = made.json;
    expect(data).toMatchObject({ twinId: 'machine:press-4', topic: 'twins/machine/press-4/telemetry', gateway: false });
    for (const sketch of Object.values<string>(data.sketches)) {
      expect(sketch).toContain(data.key);
      expect(sketch).toMatch(/temperature/);
    }
    expectProblem(await node.http('POST', '/api/v1/devices', as('admin', { body })), 409, 'conflict');
    expectProblem(await node.http('GET', '/api/v1/kinds', { key: data.key }), 403, 'forbidden');
    const rotated = await node.http('POST', '/api/v1/devices/machine:press-4/rotate', as('admin'));
    expectDocumented(rotated, 'post', '/api/v1/devices/{id}/rotate');
    expect(rotated.json.data).toMatchObject({ id: data.id, twinId: data.twinId });
    expect(rotated.json.data.key).not.toBe(data.key);
    expectProblem(await node.http('GET', '/api/v1/kinds', { key: data.key }), 401, 'unauthenticated');
    expectProblem(await node.http('GET', '/api/v1/kinds', { key: rotated.json.data.key }), 403, 'forbidden');
    expect((await node.http('DELETE', `/api/v1/devices/${data.id}`, as('admin'))).json.data).toEqual({
      revoked: [data.id],
    });
    expectProblem(await node.http('GET', '/api/v1/kinds', { key: rotated.json.data.key }), 401, 'unauthenticated');
    const list = await node.http('GET', '/api/v1/devices', as('admin'));
    expectDocumented(list, 'get', '/api/v1/devices');
    expect(list.json.data.items[0]).toMatchObject({ id: data.id, twinId: 'machine:press-4' });
    expect(list.json.data.items[0].revokedAt).not.toBeNull();
    expect((await node.http('POST', '/api/v1/devices', as('admin', { body }))).status).toBe(200);
  });

  it.each([
    [{ name: 'x', kind: 'nokind' }, 422, 'unknown_kind'],
    [{ name: 'x', kind: 'machine', id: 'a/b' }, 422, 'bad_id'],
    [{ name: '日本', kind: 'machine' }, 422, 'bad_id'],
    [{ name: 'a\nb', kind: 'machine' }, 400, 'bad_request'],
    [{ kind: 'machine' }, 400, 'bad_request'],
  ])('refuses %j', async (body, status, code) => {
    expectProblem(await node.http('POST', '/api/v1/devices', as('admin', { body })), status, code);
  });

  it('cannot be made admins through the wrong door, nor keys be ended through the devices', async () => {
    expectProblem(
      await node.http('POST', '/api/v1/keys', as('admin', { body: { name: 'x', role: 'device' } })),
      400,
      'bad_request',
    );
    const id = node.keys.viewer.split('_')[1];
    expectProblem(await node.http('DELETE', `/api/v1/devices/${id}`, as('admin')), 404, 'not_found');
    expect((await node.http('GET', '/api/v1/kinds', as('viewer'))).status).toBe(200);
  });
});

describe('the audit trail', () => {
  it('has who did what to what, and how it ended', async () => {
    await node.tell('machine', 'A1', { temperature: 60 });
    const requestId = 'audit-me';
    await node.http(
      'POST',
      '/api/v1/twins/machine:A1/maintenance',
      as('technician', { body: { work: 'oiled' }, headers: { 'x-request-id': requestId } }),
    );
    await node.http('DELETE', '/api/v1/twins/machine:gone', as('operator'));
    await node.http('GET', '/api/v1/twins/machine:A1', as('viewer'));
    const refused = await node.http('DELETE', '/api/v1/twins/machine:A1', as('viewer'));
    expect(refused.status).toBe(403);
    const trail = await node.http('GET', '/api/v1/audit?limit=2', as('admin'));
    expectDocumented(trail, 'get', '/api/v1/audit');
    expect(trail.json.data.items).toMatchObject([
      { action: 'twins.retire', target: 'machine:gone', role: 'operator', details: { outcome: 'not_found' } },
      {
        action: 'twins.maintenance',
        target: 'machine:A1',
        role: 'technician',
        actor: expect.stringContaining('a technician ('),
        requestId,
        details: { outcome: 'done', params: { work: 'oiled' } },
      },
    ]);
    const next = await node.http('GET', `/api/v1/audit?limit=2&cursor=${trail.json.data.nextCursor}`, as('admin'));
    expect(next.json.data.items[0].id).toBeLessThan(trail.json.data.items[1].id);
    const filtered = await node.http('GET', '/api/v1/audit?target=machine:A1&action=twins.maintenance', as('admin'));
    expect(filtered.json.data.items).toHaveLength(1);
  });

  it('never holds a key', async () => {
    const made = await node.http(
      'POST',
      '/api/v1/keys',
      as('admin', { body: { name: 'k', role: 'viewer', key: 'my-secret' } }),
    );
    const text = JSON.stringify(await node.parts.sql.query('select * from audit'));
    expect(text).not.toContain('my-secret');
    expect(text).not.toContain(made.json.data.key);
  });
});

describe('the control socket', () => {
  it('is for the owner of the data folder only, who is admin there', async () => {
    const file = join(node.dataDir, 'control.sock');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const client = control(node.parts.settings);
    expect(await client.request('GET', '/api/v1/health')).toMatchObject({ ready: true });
    const made = await client.request<{ id: string; key: string }>('POST', '/api/v1/keys', {
      name: 'from cli',
      role: 'admin',
    });
    expect((await node.http('GET', '/api/v1/audit', { key: made.key })).json.data.items[0]).toMatchObject({
      actor: 'control socket (local)',
      action: 'keys.create',
    });
    await expect(client.request('GET', '/api/v1/twins/machine:none')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('says when no server runs', async () => {
    const client = control({ dataDir: '/nonexistent' });
    await expect(client.request('GET', '/api/v1/health')).rejects.toMatchObject({
      code: 'unavailable',
      details: { running: false },
    });
  });
});

describe('the OpenAPI document', () => {
  it('has examples that fit their schemas', () => {
    let examples = 0;
    // biome-ignore lint/suspicious/noExplicitAny: the document is walked as JSON
    const walk = (value: any, at: string) => {
      if (typeof value !== 'object' || value === null) return;
      if (value.schema && value.example !== undefined) {
        examples++;
        expect([at, faultsOf(value.example, value.schema, api)]).toEqual([at, []]);
      }
      for (const [name, member] of Object.entries(value)) walk(member, `${at}.${name}`);
    };
    walk(api.paths, 'paths');
    expect(examples).toBeGreaterThan(10);
  });

  it('is what OpenAPI 3.1 asks for', () => {
    expect(api.openapi).toBe('3.1.0');
    expect(Object.keys(api.info)).toEqual(expect.arrayContaining(['title', 'version', 'license']));
    const ids: string[] = [];
    for (const [path, methods] of Object.entries<Record<string, Record<string, unknown>>>(api.paths)) {
      expect(path).toMatch(/^\/[^:*?]*$/);
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((m) => m[1]);
      for (const operation of Object.values(methods)) {
        ids.push(operation.operationId as string);
        const parameters = (operation.parameters ?? []) as {
          name: string;
          in: string;
          required: boolean;
          schema: object;
        }[];
        expect(
          parameters
            .filter((p) => p.in === 'path')
            .map((p) => p.name)
            .sort(),
        ).toEqual([...inPath].sort());
        expect(parameters.every((p) => p.schema && (p.in !== 'path' || p.required))).toBe(true);
        expect(new Set(parameters.map((p) => `${p.in} ${p.name}`)).size).toBe(parameters.length);
        expect(operation.responses).toMatchObject({ '200': { description: expect.any(String) }, default: {} });
      }
    }
    expect(new Set(ids).size).toBe(ids.length);
  });
});
