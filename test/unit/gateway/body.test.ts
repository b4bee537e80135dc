import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { bodyParams, mustBeStorable } from '../../../services/gateway/body.ts';
import type { RouteDocs } from '../../../services/gateway/routes.ts';

function incoming(body: Buffer | string | null, headers: Record<string, string> = {}): IncomingMessage {
  const bytes = body === null ? null : Buffer.from(body);
  const stream = Readable.from(bytes === null ? [] : [bytes.subarray(0, 7), bytes.subarray(7)]);
  const length: Record<string, string> = bytes === null ? {} : { 'content-length': String(bytes.length) };
  return Object.assign(stream, { headers: { ...length, ...headers } }) as unknown as IncomingMessage;
}

const LIMITS = { maxBytes: 10_000, maxDepth: 8 };
const params = (body: Buffer | string | null, docs: RouteDocs = {}, headers: Record<string, string> = {}) =>
  bodyParams(incoming(body, { 'content-type': 'application/json', ...headers }), docs, LIMITS);

describe('bodyParams', () => {
  it('spreads an object, or puts the whole body into one param', async () => {
    expect(await params('{"a":1,"b":[2]}')).toEqual({ a: 1, b: [2] });
    expect(await params('{"a":1}', { bodyParam: 'patch' })).toEqual({ patch: { a: 1 } });
    expect(await params('[1]', { bodyParam: 'items' })).toEqual({ items: [1] });
    expect(await params(null)).toEqual({});
  });

  it('hands raw bytes over as they are, unpacked', async () => {
    expect(await params('x\ny', { body: 'raw' }, { 'content-type': 'text/plain' })).toEqual({
      body: Buffer.from('x\ny'),
    });
    const packed = gzipSync('{"a":1}');
    expect(await params(packed, { body: 'raw' }, { 'content-encoding': 'gzip' })).toEqual({
      body: Buffer.from('{"a":1}'),
    });
    expect(await params(packed, {}, { 'content-encoding': 'gzip' })).toEqual({ a: 1 });
  });

  it.each<[string, Buffer | string, RouteDocs, Record<string, string>, string]>([
    ['not JSON', '{', {}, {}, 'not_json'],
    ['no object', '[1]', {}, {}, 'bad_request'],
    ['null', 'null', {}, {}, 'bad_request'],
    ['too deep', '['.repeat(50) + ']'.repeat(50), {}, {}, 'too_deep'],
    ['a key twice', '{"a":1,"a":2}', {}, {}, 'duplicate_key'],
    ['a prototype', '{"__proto__":{"role":"admin"}}', {}, {}, 'bad_request'],
    ['a nested prototype', '{"a":{"__proto__":1}}', {}, {}, 'bad_request'],
    ['NUL', '{"a":"\\u0000"}', {}, {}, 'bad_text'],
    ['a lone surrogate', '{"a":"\\ud800"}', {}, {}, 'bad_text'],
    ['a lone surrogate in a key', '{"\\ud800":1}', {}, {}, 'bad_text'],
    ['an infinite number', '{"a":1e400}', {}, {}, 'not_finite'],
    ['too many bytes', JSON.stringify({ a: 'x'.repeat(10_000) }), {}, {}, 'too_large'],
    ['more than the action takes', '{"a":"12345678901"}', { maxBodyBytes: 10 }, {}, 'too_large'],
    ['a form', 'a=1', {}, { 'content-type': 'application/x-www-form-urlencoded' }, 'unsupported'],
    ['text', '{"a":1}', {}, { 'content-type': 'text/plain' }, 'unsupported'],
    ['brotli', '{"a":1}', {}, { 'content-encoding': 'br' }, 'unsupported'],
    ['a gzip bomb', gzipSync(Buffer.alloc(5_000_000)), { body: 'raw' }, { 'content-encoding': 'gzip' }, 'too_large'],
    ['what is no gzip', 'hello', { body: 'raw' }, { 'content-encoding': 'gzip' }, 'bad_request'],
  ])('refuses %s', async (_, body, docs, headers, code) => {
    await expect(params(body, docs, headers)).rejects.toMatchObject({ code });
  });

  it('stops reading where the limit is, when no length was said', async () => {
    let given = 0;
    const endless = new Readable({
      read() {
        given += 1000;
        this.push(Buffer.alloc(1000));
      },
    });
    const req = Object.assign(endless, { headers: { 'transfer-encoding': 'chunked' } }) as unknown as IncomingMessage;
    await expect(bodyParams(req, { body: 'raw' }, LIMITS)).rejects.toMatchObject({ code: 'too_large' });
    expect(given).toBeLessThan(200_000);
    endless.destroy();
  });

  it('does not hang on a body that breaks off', async () => {
    const stream = new Readable({ read() {} });
    const req = Object.assign(stream, { headers: { 'content-length': '10' } }) as unknown as IncomingMessage;
    const reading = bodyParams(req, {}, LIMITS);
    stream.push('{"a"');
    stream.destroy();
    await expect(reading).rejects.toMatchObject({ code: 'bad_request' });
  });

  it('asks for the body only once it may come', async () => {
    let asked = 0;
    const req = incoming('{"a":1}', { 'content-type': 'application/json' });
    await bodyParams(req, {}, LIMITS, () => asked++);
    expect(asked).toBe(1);
    const large = incoming('x'.repeat(20_000), { 'content-type': 'application/json' });
    await expect(bodyParams(large, {}, LIMITS, () => asked++)).rejects.toThrow();
    expect(asked).toBe(1);
  });
});

describe('mustBeStorable', () => {
  it('takes what PostgreSQL and JSON can hold', () => {
    expect(() => mustBeStorable({ a: [1, -0.5, 'ä😀', null, true, { b: {} }], constructor: 1 })).not.toThrow();
  });
});
