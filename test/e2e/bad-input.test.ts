import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ERRORS } from '../../actors/protocol/errors.ts';
import {
  BAD_IDS,
  BAD_MESSAGES,
  type BadCase,
  GOOD_AT,
  goodMessage,
  ODD_BUT_GOOD,
  tenMegabytes,
} from '../fixtures/bad-input/corpus.ts';
import { emptyDatabase } from '../servers/embedded.ts';
import { type Answer, ask, dataOf, itemsOf, metricOf, untilReady } from './api.ts';
import { eventually, NodeProcess, ROOT, type Whereabouts, whereabouts } from './node-process.ts';

/**
 * What strangers send, through HTTP and as files, into a node that runs as users run it: no 5xx, no crash, no stalled
 * shard, each refusal counted and kept with its reason, and the good readings beside the bad ones stored.
 */
const SHARDS = 8;
const MAX_BODY = 16_777_216;
const NDJSON = { 'content-type': 'application/x-ndjson' };
const JSON_TYPE = { 'content-type': 'application/json' };

let folder = '';
let node: NodeProcess;
let at: Whereabouts;
let goods = 0;

/** A twin that nobody has heard of before, at another instant than the ones before. */
function good(): { id: string; message: string } {
  const id = `GOOD-${goods++}`;
  return { id, message: goodMessage(id, GOOD_AT + goods * 1000) };
}

const send = (raw: Uint8Array | string, headers: Record<string, string> = JSON_TYPE, path = '/api/v1/telemetry') =>
  ask(at.http, 'POST', path, { key: at.key, raw, headers });

interface Rejection {
  index: number;
  code: string;
  message: string;
}

/** Refusals that have been answered and must turn up in the metric and in the dead letters, each with its reason. */
let answered: Rejection[] = [];

function rejectionsOf(answer: Answer, name: string): Rejection[] {
  expect(answer.status, `${name}: ${answer.text.slice(0, 300)}`).toBe(200);
  const { rejected } = answer.json.data as { rejected: Rejection[] };
  answered.push(...rejected);
  return rejected;
}

function countsOf(rejections: readonly { code: string; message: string }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { code, message } of rejections) {
    const key = `${code}: ${message}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

const letters = () => itemsOf(at, '/api/v1/dead-letters');
const rejectedByHttp = () => metricOf(at.http, 'twinmesh_readings_rejected_total', { protocol: 'http' });

async function isStored(id: string): Promise<void> {
  const { items } = await dataOf(at, `/api/v1/twins/machine:${id}/history`);
  expect(items.map(({ values }: { values: unknown }) => values)).toEqual([{ temperature: 60.5 }]);
}

/** Twins of every shard take a reading and show it. */
async function everyShardMoves(): Promise<void> {
  await untilReady(at.http);
  const fresh = Array.from({ length: SHARDS * 12 }, good);
  const answer = await send(fresh.map(({ message }) => message).join('\n'), NDJSON);
  expect(answer.json?.data).toEqual({ accepted: fresh.length, duplicates: 0, rejected: [] });
  const metrics = await (await fetch(`${at.http}/metrics`)).text();
  expect(metrics).toMatch(/^twinmesh_log_lag_readings 0$/m);
  expect(metrics).toMatch(/^twinmesh_stale 0$/m);
  expect(metrics).toMatch(new RegExp(`^twinmesh_shards_owned ${SHARDS}$`, 'm'));
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-bad-'));
  await emptyDatabase(join(folder, 'data'));
  node = NodeProcess.start(folder, {
    DEMO: 'off',
    SHARDS: String(SHARDS),
    RATE_LIMIT_PER_MINUTE: '1000000',
    MAX_BODY_BYTES: String(MAX_BODY),
  });
  at = await whereabouts(node);
  await untilReady(at.http);
});

afterEach(() => {
  expect(node.output).not.toMatch(/"level":"(error|fatal)"/);
});

afterAll(async () => {
  node?.signal('SIGKILL');
  await node?.ended();
  rmSync(folder, { recursive: true, force: true });
});

/** Cases that are one line, so that they can stand between others. */
const LINES = BAD_MESSAGES.filter(({ payload }) => !payload.includes('\n') && payload.toString().trim() !== '');

async function inBatches(
  cases: readonly BadCase[],
  wrap: (first: string, bad: BadCase, last: string) => Promise<Answer>,
): Promise<void> {
  const before = { metric: await rejectedByHttp(), letters: countsOf(await letters()) };
  answered = [];
  const stored: string[] = [];
  for (const bad of cases) {
    const [first, last] = [good(), good()];
    const answer = await wrap(first.message, bad, last.message);
    const rejected = rejectionsOf(answer, bad.name);
    expect(answer.json.data, bad.name).toMatchObject({ accepted: 2, duplicates: 0, rejected: [{ index: 1 }] });
    expect(bad.codes, bad.name).toContain(rejected[0].code);
    stored.push(first.id, last.id);
  }
  await areKept(before);
  await Promise.all(stored.map(isStored));
}

async function areKept(before: { metric: number; letters: Record<string, number> }): Promise<void> {
  expect((await rejectedByHttp()) - before.metric).toBe(answered.length);
  const wanted = { ...before.letters };
  for (const [key, count] of Object.entries(countsOf(answered))) wanted[key] = (wanted[key] ?? 0) + count;
  const total = Object.values(wanted).reduce((sum, count) => sum + count, 0);
  const kept = await eventually(letters, (found) => found.length >= total);
  expect(countsOf(kept)).toEqual(wanted);
}

describe('bad input over HTTP', () => {
  it('refuses each bad message alone, one a request', async () => {
    const before = { metric: await rejectedByHttp(), letters: countsOf(await letters()) };
    answered = [];
    for (const { name, payload, codes } of BAD_MESSAGES) {
      const rejected = rejectionsOf(await send(payload), name);
      expect(rejected.length, name).toBeGreaterThan(0);
      for (const { code } of rejected) expect(codes, name).toContain(code);
    }
    await areKept(before);
    expect((await dataOf(at, '/api/v1/twins?limit=100')).items).toEqual([]);
  });

  it('stores the good lines around each bad one', () =>
    inBatches(LINES, (first, { payload }, last) =>
      send(Buffer.concat([Buffer.from(`${first}\n`), payload, Buffer.from(`\r\n${last}\n`)]), NDJSON),
    ));

  it('stores the good elements around each bad one', () =>
    inBatches(
      BAD_MESSAGES.filter(({ inArray }) => inArray),
      (first, { payload }, last) => send(`[${first}, ${payload.toString()} ,${last}]`),
    ));

  it('stores the good lines around each bad one, packed', () =>
    inBatches(LINES, (first, { payload }, last) =>
      send(gzipSync(Buffer.concat([Buffer.from(`${first}\n`), payload, Buffer.from(`\n${last}`)])), {
        ...NDJSON,
        'content-encoding': 'gzip',
      }),
    ));

  it('stores all that is good in one request with the whole corpus', async () => {
    const [first, last] = [good(), good()];
    const lines = [Buffer.from(first.message), ...LINES.map(({ payload }) => payload), Buffer.from(last.message)];
    const answer = await send(Buffer.concat(lines.flatMap((line) => [line, Buffer.from('\n')])), NDJSON);
    expect(answer.json.data.accepted).toBe(2);
    expect(answer.json.data.rejected.map(({ index }: Rejection) => index)).toEqual(LINES.map((_, i) => i + 1));
    await Promise.all([first.id, last.id].map(isStored));
  });

  it('takes what only looks odd', async () => {
    for (const { name, message, id } of ODD_BUT_GOOD) {
      expect((await send(message)).json.data, name).toEqual({ accepted: 1, duplicates: 0, rejected: [] });
      expect((await dataOf(at, `/api/v1/twins/machine:${id}`)).revision).toBe(1);
    }
    expect(await dataOf(at, '/api/v1/twins/machine:ODD-attr')).toMatchObject({ attributes: { line: 'A' } });
  });

  it('refuses a line of ten megabytes and stores its neighbours', async () => {
    const [first, last] = [good(), good()];
    const body = Buffer.concat([Buffer.from(`${first.message}\n`), tenMegabytes(), Buffer.from(`\n${last.message}`)]);
    const answer = await send(body, NDJSON);
    expect(answer.json.data).toMatchObject({ accepted: 2, rejected: [{ index: 1, code: 'too_large' }] });
    await Promise.all([first.id, last.id].map(isStored));
    const [letter] = (await dataOf(at, '/api/v1/dead-letters?code=too_large&limit=1')).items;
    expect(letter.truncated).toBe(true);
    expect(letter.payload.length).toBeLessThan(100_000);
  });

  it.each([
    ['a gzip bomb', () => gzipSync(Buffer.alloc(256 * 1_048_576)), { 'content-encoding': 'gzip' }, 413, 'too_large'],
    ['a body over the limit', () => Buffer.alloc(MAX_BODY + 1, 'x'), {}, 413, 'too_large'],
    ['no gzip', () => Buffer.from('hello'), { 'content-encoding': 'gzip' }, 400, 'bad_request'],
    [
      'cut off gzip',
      () => gzipSync(goodMessage('CUT')).subarray(0, 40),
      { 'content-encoding': 'gzip' },
      400,
      'bad_request',
    ],
    ['unknown packing', () => Buffer.from(goodMessage('BR')), { 'content-encoding': 'br' }, 415, 'unsupported'],
    ['an unknown type', () => Buffer.from('<a/>'), { 'content-type': 'application/xml' }, 415, 'unsupported'],
  ])('refuses %s as a whole, counts it and keeps why', async (_name, body, headers, status, code) => {
    const counted = () => metricOf(at.http, 'twinmesh_readings_rejected_total', { protocol: 'http', code });
    const kept = async () => (await itemsOf(at, `/api/v1/dead-letters?code=${code}`)).length;
    const before = { metric: await counted(), letters: await kept() };
    for (const path of ['/api/v1/telemetry', '/api/data']) {
      const answer = await send(body(), { ...NDJSON, ...headers }, path);
      expect(answer.status, answer.text).toBe(status);
      expect(answer.json).toMatchObject({ code, status: 'error', remedy: ERRORS[code as 'too_large'].remedy });
    }
    expect((await counted()) - before.metric).toBe(2);
    expect(await eventually(kept, (count) => count >= before.letters + 2)).toBe(before.letters + 2);
  });

  it('still moves every shard', everyShardMoves);
});

describe('generated input over HTTP', () => {
  const json = fc.jsonValue({ maxDepth: 4, noUnicodeString: false }).map((value) => JSON.stringify(value));
  const names = ['twinId', 'at', 'values', 'id', 'seq', 'sensor', 'unit', 'attributes', '__proto__', 'readings'];
  const nearMiss = fc
    .dictionary(fc.constantFrom(...names), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 6 })
    .map((fields) =>
      JSON.stringify({ twinId: 'machine:GENERATED', values: { temperature: 60 }, at: GOOD_AT, ...fields }),
    );
  const message = fc.oneof(json, nearMiss);

  it('answers every message and stores the good one between them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(message, { maxLength: 6 }),
        fc.array(message, { maxLength: 6 }),
        fc.boolean(),
        fc.boolean(),
        async (before, after, ndjson, packed) => {
          const { id, message: between } = good();
          const all = [...before, between, ...after];
          const body = ndjson ? all.join('\n') : `[${all.join(',')}]`;
          const headers = { ...(ndjson ? NDJSON : JSON_TYPE), ...(packed ? { 'content-encoding': 'gzip' } : {}) };
          const answer = await send(packed ? gzipSync(body) : body, headers);
          expect(answer.status).toBe(200);
          const { accepted, duplicates, rejected } = answer.json.data;
          expect(accepted + duplicates + rejected.length).toBe(all.length);
          for (const { code } of rejected) expect(Object.keys(ERRORS).filter((c) => c !== 'internal')).toContain(code);
          expect(rejected.map(({ index }: Rejection) => index)).not.toContain(before.length);
          await isStored(id);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('takes any bytes without falling over', async () => {
    const types = ['application/json', 'application/x-ndjson', 'text/plain', 'application/octet-stream'];
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 300 }),
        fc.constantFrom(...types),
        fc.constantFrom('/api/v1/telemetry', '/api/data'),
        async (bytes, type, path) => {
          const answer = await send(bytes, { 'content-type': type }, path);
          expect(answer.status).toBe(200);
          expect((answer.json.data ?? answer.json).accepted).toBe(0);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('answers no request of any endpoint with a fault of its own', async () => {
    const { paths } = (await ask(at.http, 'GET', '/openapi.json')).json as {
      paths: Record<string, Record<string, { parameters?: { in: string; name: string }[]; requestBody?: unknown }>>;
    };
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { parameters = [], requestBody }]) => ({
        path,
        method: method.toUpperCase(),
        inQuery: parameters.filter((parameter) => parameter.in === 'query').map(({ name }) => name),
        takesBody: requestBody !== undefined,
      })),
    );
    expect(operations.length).toBeGreaterThan(40);
    const hostile = fc.oneof(
      fc.constantFrom(
        ...BAD_IDS,
        'machine:GOOD-0',
        'mote:1',
        '../../etc/passwd',
        '%',
        '%00',
        "' or 1=1 --",
        '1e400',
        '-1',
      ),
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constantFrom(
        'eq(kind,machine)',
        'and(',
        'like(id,"%")',
        '2026-01-01T00:00:00Z',
        '300000',
        'eyJ9',
        '9'.repeat(40),
      ),
    );
    const wellFormed = (text: string) => encodeURIComponent(text.toWellFormed());
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...operations),
        fc.array(hostile, { minLength: 12, maxLength: 12 }),
        fc.jsonValue({ maxDepth: 3 }),
        async ({ path, method, inQuery, takesBody }, values, body) => {
          let next = 0;
          const value = () => wellFormed(values[next++ % values.length]);
          const filled = path.replaceAll(/\{[^}]+\}/g, value);
          const asked = inQuery.filter((_, i) => (values[0].length + i) % 2 === 0).map((name) => `${name}=${value()}`);
          const controller = new AbortController();
          const answer = await fetch(`${at.http}${filled}${asked.length > 0 ? `?${asked.join('&')}` : ''}`, {
            method,
            headers: { authorization: `Bearer ${at.key}`, 'content-type': 'application/json' },
            body: takesBody ? JSON.stringify(body) : undefined,
            signal: controller.signal,
          });
          // A stream would go on: its head is the answer.
          controller.abort();
          // 501 says that this version lacks what was asked for: nothing has failed.
          if (answer.status !== 501) expect(answer.status, `${method} ${filled}?${asked.join('&')}`).toBeLessThan(500);
        },
      ),
      { numRuns: 600 },
    );
  });

  it('still moves every shard', everyShardMoves);
});

describe('bad input as a file', () => {
  const lines = [goodMessage('FILE-A'), ...LINES.map(({ payload }) => payload), goodMessage('FILE-B')];
  const rejections = LINES.length;

  async function load(dataFolder: string): Promise<string> {
    const file = join(folder, 'corpus.ndjson');
    writeFileSync(file, Buffer.concat(lines.flatMap((line) => [Buffer.from(line), Buffer.from('\n')])));
    const args = [join(ROOT, 'services/load-cli.ts'), '--kind', 'machine', file];
    const loading = NodeProcess.run(dataFolder, args, { SHARDS: String(SHARDS) });
    expect(await loading.ended(), loading.output).toBe(0);
    expect(loading.output).toMatch(/stored\s+2\b/);
    expect(loading.output).toMatch(new RegExp(`rejected\\s+${rejections}\\b.*bad_id \\d+`));
    return loading.output;
  }

  it('loads the good lines through the running server and keeps the others', async () => {
    const counted = await rejectedByHttp();
    const kept = (await letters()).length;
    expect(await load(folder)).toContain('through the running server');
    expect((await rejectedByHttp()) - counted).toBe(rejections);
    await eventually(letters, (found) => found.length === kept + rejections);
    await Promise.all(['FILE-A', 'FILE-B'].map(isStored));
    await everyShardMoves();
  });

  it('loads the good lines without a server and keeps the others', async () => {
    const other = mkdtempSync(join(tmpdir(), 'twinmesh-bad-file-'));
    const here = { node, at };
    try {
      await emptyDatabase(join(other, 'data'));
      expect(await load(other)).toContain('directly into the database');
      node = NodeProcess.start(other, { DEMO: 'off', SHARDS: String(SHARDS) });
      at = await whereabouts(node);
      await untilReady(at.http);
      expect(await letters()).toHaveLength(rejections);
      await Promise.all(['FILE-A', 'FILE-B'].map(isStored));
      await everyShardMoves();
    } finally {
      if (node !== here.node) {
        node.signal('SIGKILL');
        await node.ended();
      }
      ({ node, at } = here);
      rmSync(other, { recursive: true, force: true });
    }
  });
});
