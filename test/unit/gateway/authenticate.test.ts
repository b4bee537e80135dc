import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { identify, presentedKey } from '../../../services/gateway/authenticate.ts';
import { MemoryRateLimiter } from '../../../services/gateway/rate-limit.ts';
import { mustBeAdmitted } from '../../../services/gateway/request.ts';

const USER = { keyId: 'k1', name: 'n', role: 'viewer' } as const;

function gate(perMinute = 5) {
  const limiter = new MemoryRateLimiter(perMinute, () => 0);
  let looked = 0;
  const options = {
    limiter,
    metricsToken: 'a-token-of-some-length',
    authenticate: async (key: string) => {
      looked++;
      if (key === 'unlucky') throw new TwinmeshError('store_down', 'away');
      return key === 'good' ? USER : null;
    },
    knows: (key: string) => key === 'good',
  };
  const call = (headers: Record<string, string>, remoteAddress = '10.0.0.1') =>
    identify({ headers, socket: { remoteAddress } } as unknown as IncomingMessage, options);
  return { call, looked: () => looked };
}

describe('presentedKey', () => {
  it('takes a bearer or x-api-key', () => {
    expect(presentedKey({})).toBeNull();
    expect(presentedKey({ authorization: 'Bearer abc' })).toBe('abc');
    expect(presentedKey({ authorization: 'bearer abc' })).toBe('abc');
    expect(presentedKey({ 'x-api-key': 'abc' })).toBe('abc');
    expect(presentedKey({ authorization: 'Bearer abc', 'x-api-key': 'abc' })).toBe('abc');
  });

  it.each([
    [{ authorization: 'Basic abc' }],
    [{ authorization: 'Bearer' }],
    [{ authorization: 'Bearer a b' }],
    [{ authorization: `Bearer ${'x'.repeat(600)}` }],
    [{ authorization: 'Bearer abc', 'x-api-key': 'other' }],
  ])('refuses %j', (headers) => {
    expect(() => presentedKey(headers)).toThrow(expect.objectContaining({ code: 'unauthenticated' }));
  });
});

describe('identify', () => {
  it('knows users, strangers and the metrics token', async () => {
    const { call } = gate();
    expect(await call({})).toEqual({ user: null, loopback: false, metricsToken: false });
    expect(await call({ 'x-api-key': 'good' })).toMatchObject({ user: USER });
    expect(await call({ authorization: 'Bearer a-token-of-some-length' })).toMatchObject({
      user: null,
      metricsToken: true,
    });
    await expect(call({ 'x-api-key': 'bad' })).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  it('is in doubt when a key cannot be looked up, which matters only where one is needed', async () => {
    const identity = await gate().call({ 'x-api-key': 'unlucky' });
    expect(mustBeAdmitted(identity, 'public')).toBeNull();
    expect(() => mustBeAdmitted(identity, 'viewer')).toThrow(expect.objectContaining({ code: 'store_down' }));
  });

  it('believes the connection about the address, not the headers', async () => {
    const { call } = gate(2);
    await call({ 'x-forwarded-for': '1.1.1.1' });
    await call({ 'x-forwarded-for': '2.2.2.2' });
    await expect(call({ 'x-forwarded-for': '3.3.3.3' })).rejects.toMatchObject({ code: 'rate_limited' });
    expect(await call({}, '10.0.0.2')).toMatchObject({ user: null });
  });

  it('is this machine only without a proxy in between', async () => {
    const { call } = gate(100);
    for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1', '127.9.9.9'])
      expect(await call({}, address)).toMatchObject({ loopback: true });
    for (const header of ['x-forwarded-for', 'forwarded', 'via'])
      expect(await call({ [header]: 'x' }, '127.0.0.1')).toMatchObject({ loopback: false });
    for (const address of ['128.0.0.1', '10.127.0.0', '::2', '1127.0.0.1'])
      expect(await call({}, address)).toMatchObject({ loopback: false });
  });

  it('stops guessing before it reaches the store, and leaves good keys their own budget', async () => {
    const { call, looked } = gate(3);
    for (let i = 0; i < 3; i++)
      await expect(call({ 'x-api-key': `bad${i}` })).rejects.toMatchObject({ code: 'unauthenticated' });
    expect(looked()).toBe(3);
    await expect(call({ 'x-api-key': 'bad' })).rejects.toMatchObject({ code: 'rate_limited' });
    expect(looked()).toBe(3);
    // Whoever shares the address and has been let in before is let in again.
    expect(await call({ 'x-api-key': 'good' })).toMatchObject({ user: USER });
    expect(await call({})).toMatchObject({ user: null });
    await expect(call({ 'x-api-key': 'bad' }, '10.0.0.9')).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  it('limits each key', async () => {
    const { call } = gate(2);
    await call({ 'x-api-key': 'good' }, '10.0.0.1');
    await call({ 'x-api-key': 'good' }, '10.0.0.2');
    const refused = await call({ 'x-api-key': 'good' }, '10.0.0.3').catch((error) => error);
    expect(refused).toMatchObject({ code: 'rate_limited', details: { retryAfterMs: 30_000 } });
  });
});
