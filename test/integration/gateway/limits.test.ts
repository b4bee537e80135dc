import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { type Agent, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createHttpServer, listen, shut } from '../../../services/gateway/http-server.ts';
import { SseReader } from '../../unit/gateway/sse-reader.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from './node.ts';

/** What the gateway does when there is too much of something, or too little. */
const slow: ServiceSchema = {
  name: 'slow',
  actions: {
    hang: { rest: 'GET /api/v1/hang', role: 'viewer', timeout: 50, handler: () => new Promise(() => {}) } as object,
    fail: {
      rest: 'GET /api/v1/fail',
      role: 'viewer',
      handler() {
        throw new Error('password=hunter2');
      },
    } as object,
    wait: {
      rest: 'GET /api/v1/wait',
      role: 'viewer',
      handler: () => new Promise((resolve) => setTimeout(() => resolve('waited'), 300)),
    } as object,
  },
};

let base: GatewayNode;
let node: GatewayNode;
beforeAll(async () => {
  base = await startGateway();
  node = await startGateway({
    parts: base.parts,
    services: [...GATEWAY_SERVICES, slow],
    env: { RATE_LIMIT_PER_MINUTE: '20', METRICS_TOKEN: 'a-token-for-metrics' },
  });
});
afterAll(async () => {
  await node?.stop();
  await base?.stop();
});

describe('rate limits', () => {
  it('hold for each key, and say when to come again', async () => {
    const statuses: number[] = [];
    let last = await node.http('GET', '/api/v1/kinds', { key: node.keys.operator });
    for (let i = 0; i < 25; i++) {
      statuses.push(last.status);
      last = await node.http('GET', '/api/v1/kinds', { key: node.keys.operator });
    }
    expect(statuses.slice(0, 20)).toEqual(Array(20).fill(200));
    expect(last.status).toBe(429);
    expect(last.json.code).toBe('rate_limited');
    expect(Number(last.headers['retry-after'])).toBeGreaterThanOrEqual(1);
    expect((await node.http('GET', '/api/v1/kinds', { key: node.keys.viewer })).status).toBe(200);
  });

  it('hold for the anonymous by address, whatever they say they are', async () => {
    let refused = 0;
    for (let i = 0; i < 30; i++) {
      const headers = { 'x-forwarded-for': `198.51.100.${i}` };
      if ((await node.http('GET', i % 2 ? '/docs' : '/nothing', { headers })).status === 429) refused++;
    }
    expect(refused).toBeGreaterThanOrEqual(9);
    expect((await node.http('GET', '/docs', { key: node.keys.viewer })).status).toBe(200);
  });

  it('hold for guessing keys', async () => {
    // Let in before the guessing begins, and so after it.
    expect((await node.http('GET', '/docs', { key: node.keys.admin })).status).toBe(200);
    const statuses: number[] = [];
    for (let i = 0; i < 30; i++) statuses.push((await node.http('GET', '/docs', { key: `guess-${i}` })).status);
    expect(statuses.slice(0, 20)).toEqual(Array(20).fill(401));
    expect(statuses.at(-1)).toBe(429);
    expect((await node.http('GET', '/docs', { key: node.keys.viewer })).status).toBe(200);
  });

  it('do not hold for the control socket', async () => {
    const socketPath = join(node.dataDir, 'control.sock');
    for (let i = 0; i < 25; i++) expect((await node.http('GET', '/api/v1/kinds', { socketPath })).status).toBe(200);
  });
});

describe('metrics', () => {
  it('are open to their token from elsewhere, which opens nothing else', async () => {
    const elsewhere = { headers: { 'x-forwarded-for': '203.0.113.1' } };
    expect((await node.http('GET', '/metrics', { key: 'a-token-for-metrics', ...elsewhere })).status).toBe(200);
    expect((await node.http('GET', '/api/v1/kinds', { key: 'a-token-for-metrics' })).status).toBe(401);
  });
});

describe('failures inside', () => {
  it('are not told', async () => {
    const answer = await node.http('GET', '/api/v1/fail', { key: node.keys.admin });
    expect([answer.status, answer.json.code]).toEqual([500, 'internal']);
    expect(answer.text).not.toMatch(/hunter2|\.ts|at /);
  });

  it('have a deadline', async () => {
    const answer = await node.http('GET', '/api/v1/hang', { key: node.keys.admin });
    expect([answer.status, answer.json.code]).toEqual([504, 'deadline_exceeded']);
  });

  it('a route goes and comes back with its service', async () => {
    await node.broker.destroyService('slow');
    await vi.waitFor(async () => {
      const answer = await node.http('GET', '/api/v1/fail', { key: node.keys.admin });
      expect(answer.status).toBe(404);
    }, 5000);
    node.broker.createService(slow);
    await vi.waitFor(async () => {
      expect((await node.http('GET', '/api/v1/fail', { key: node.keys.admin })).status).toBe(500);
    }, 5000);
  });
});

describe('a slow sender', () => {
  const patience = { headersMs: 100, requestMs: 200, idleMs: 60_000, keepAliveMs: 1000, checkEveryMs: 20 };
  let server: Server;
  let port: number;
  beforeAll(async () => {
    server = createHttpServer((req, res) => {
      req.on('error', () => {});
      req.resume();
      req.on('end', () => res.end('done'));
    }, patience);
    port = await listen(server, '127.0.0.1', 0);
  });
  afterAll(() => shut(server, 100));

  it.each([
    ['of headers', 'GET / HTTP/1.1\r\nHost: x\r\nX-A'],
    ['of a body', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc'],
  ])('%s is not waited for', async (_, start) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(start);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    await once(socket, 'close');
    expect(text).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('does not hold up others, nor the stop', async () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc');
    const [answer] = await once(
      httpRequest({ port, host: '127.0.0.1', agent: false as unknown as Agent }).end(),
      'response',
    );
    expect((answer as IncomingMessage).statusCode).toBe(200);
    socket.destroy();
  });

  it('a taken port is named with its setting', async () => {
    await expect(
      listen(
        createHttpServer(() => {}),
        '127.0.0.1',
        port,
      ),
    ).rejects.toMatchObject({
      code: 'bad_settings',
      message: expect.stringContaining(`PORT ${port}`),
    });
  });
});

describe('the stop', () => {
  it('ends streams, lets requests finish, and takes the control socket away', async () => {
    const other = await startGateway({ parts: base.parts, services: [...GATEWAY_SERVICES, slow] });
    const socketFile = join(other.dataDir, 'control.sock');
    await stat(socketFile);
    const headers = { authorization: `Bearer ${other.keys.viewer}` };
    const req = httpRequest({ host: '127.0.0.1', port: other.port, path: '/api/v1/stream', headers });
    req.end();
    const [response] = (await once(req, 'response')) as [IncomingMessage];
    const reader = new SseReader(response);
    await vi.waitFor(() => expect(reader.of('hello')).toHaveLength(1), 5000);
    const waiting = other.http('GET', '/api/v1/wait', { key: other.keys.viewer });
    await new Promise((resolve) => setTimeout(resolve, 50));
    const stopping = other.stop();
    expect(await waiting).toMatchObject({ status: 200, json: { data: 'waited' } });
    await stopping;
    expect(reader.ended).toBe(true);
    await expect(other.http('GET', '/health/live')).rejects.toThrow();
    await expect(stat(socketFile)).rejects.toThrow();
  });
});
