import { describe, expect, it } from 'vitest';
import { ERRORS } from '../../../actors/protocol/errors.ts';
import { probe } from '../../../services/health/readiness.ts';
import { FakeClock, settle } from './fake-clock.ts';

const running = { state: 'running', stale: null } as const;

describe('probe', () => {
  it('is ready when the store answers and the host runs', async () => {
    const clock = new FakeClock();
    expect(await probe({ clock, store: async () => undefined, host: () => running })).toEqual({
      ready: true,
      checks: { store: { ok: true }, host: { ok: true } },
    });
    expect(clock.timers).toBe(0);
  });

  it('does not tell strangers why the store is down', async () => {
    const faults: unknown[] = [];
    const readiness = await probe({
      clock: new FakeClock(),
      store: async () => {
        throw new Error('password authentication failed for user "ops" at 10.0.0.3');
      },
      host: () => running,
      onFault: (_, error) => faults.push(error),
    });
    expect(readiness).toEqual({
      ready: false,
      checks: { store: { ok: false, reason: 'store down', remedy: ERRORS.store_down.remedy }, host: { ok: true } },
    });
    expect(faults).toHaveLength(1);
  });

  it('waits for a store that hangs only so long', async () => {
    const clock = new FakeClock();
    const probing = probe({ clock, store: () => new Promise(() => undefined), host: () => running });
    await settle();
    clock.advance(1000);
    expect((await probing).checks.store).toEqual({
      ok: false,
      reason: 'no answer within 1000 ms',
      remedy: ERRORS.store_down.remedy,
    });
  });

  it.each(['starting', 'draining', 'stopped'] as const)('is not ready while the host is %s', async (state) => {
    const readiness = await probe({
      clock: new FakeClock(),
      store: async () => undefined,
      host: () => ({ state, stale: null }),
    });
    expect(readiness).toMatchObject({
      ready: false,
      checks: { host: { ok: false, reason: state, remedy: expect.any(String) } },
    });
  });

  it('is not ready while telemetry does not move', async () => {
    const stale = { reason: 'store down', since: 'x', remedy: 'y' } as const;
    const readiness = await probe({
      clock: new FakeClock(),
      store: async () => undefined,
      host: () => ({ ...running, stale }),
    });
    expect(readiness.checks.host).toEqual({ ok: false, reason: 'store down', since: 'x', remedy: 'y' });
  });
});
