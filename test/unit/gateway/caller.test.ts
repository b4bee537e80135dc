import { describe, expect, it } from 'vitest';
import { ACCESS, mayCall, ROLES } from '../../../services/gateway/caller.ts';
import { ANONYMOUS, mustBeAdmitted } from '../../../services/gateway/request.ts';

describe('mayCall', () => {
  it('is the table of roles', () => {
    const table = Object.fromEntries(
      [null, ...ROLES].map((role) => [String(role), ACCESS.filter((access) => mayCall(role, access)).join(' ')]),
    );
    expect(table).toEqual({
      null: 'public',
      viewer: 'viewer public metrics',
      technician: 'viewer technician public metrics',
      operator: 'viewer technician operator device public metrics',
      admin: 'viewer technician operator admin device public metrics',
      device: 'device public',
    });
  });
});

describe('mustBeAdmitted', () => {
  const user = (role: (typeof ROLES)[number]) => ({ ...ANONYMOUS, user: { keyId: 'k', name: 'n', role } });

  it('tells who is unknown from who may not', () => {
    expect(() => mustBeAdmitted(ANONYMOUS, 'viewer')).toThrow(expect.objectContaining({ code: 'unauthenticated' }));
    expect(() => mustBeAdmitted(user('viewer'), 'admin')).toThrow(expect.objectContaining({ code: 'forbidden' }));
    expect(mustBeAdmitted(user('admin'), 'admin')).toMatchObject({ role: 'admin' });
    expect(mustBeAdmitted(ANONYMOUS, 'public')).toBeNull();
  });

  it('opens metrics to this machine and to the token, and nothing else to them', () => {
    for (const identity of [
      { ...ANONYMOUS, loopback: true },
      { ...ANONYMOUS, metricsToken: true },
    ]) {
      expect(mustBeAdmitted(identity, 'metrics')).toBeNull();
      expect(() => mustBeAdmitted(identity, 'viewer')).toThrow(expect.objectContaining({ code: 'unauthenticated' }));
    }
    expect(() => mustBeAdmitted(ANONYMOUS, 'metrics')).toThrow();
    expect(() => mustBeAdmitted(user('device'), 'metrics')).toThrow();
  });
});
