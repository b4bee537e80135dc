import { describe, expect, it } from 'vitest';
import type { Command } from '../../../actors/protocol/entry.ts';
import type { TwinView } from '../../../actors/protocol/view.ts';
import type { CommandOptions } from '../../../actors/runtime/host-api.ts';
import { headerOf, send, twinOfAlert } from '../../../services/twins/commanding.ts';

const user = (keyId: string) => ({ keyId, name: `name of ${keyId}`, role: 'operator' }) as const;
const request = (idempotencyKey?: string) => ({ method: 'POST', accept: '', contentType: '', idempotencyKey });

describe('headerOf', () => {
  it('keeps the keys of two callers apart', () => {
    const a = headerOf({ user: user('a'), request: request('same') });
    const b = headerOf({ user: user('b'), request: request('same') });
    expect(a.key).not.toBe(b.key);
    expect(headerOf({ user: user('a'), request: request('same') })).toEqual(a);
    expect(a.by).toBe('name of a');
  });

  it('makes every request without a key a new command', () => {
    const meta = { user: user('a'), request: request() };
    expect(headerOf(meta).key).not.toBe(headerOf(meta).key);
  });
});

describe('send', () => {
  const sent = async (ifMatch: string | undefined) => {
    let options: CommandOptions | undefined;
    const view = { twinId: 'machine:M1', revision: 7 } as TwinView;
    const host = {
      get: async () => view,
      command: async (_id: string, _command: Command, given?: CommandOptions) => {
        options = given;
        return { revision: 8, view: { ...view, revision: 8 }, repeated: false };
      },
    };
    const result = await send(host, 'machine:M1', { key: 'k', by: 'n', name: 'retire' }, ifMatch);
    expect(result).toMatchObject({ revision: 8, repeated: false, twin: { revision: 8 } });
    return options?.expectedRevision;
  };

  it('hands the revision of If-Match to the host, which decides', async () => {
    expect(await sent(undefined)).toBeUndefined();
    expect(await sent('*')).toBeUndefined();
    expect(await sent('"rev:5"')).toBe(5);
    expect(await sent('"rev:5", "rev:7"')).toBe(7);
  });

  it.each(['W/"rev:7"', '"7"', 'rev:7', '"rev:1", "rev:2"', '"rev:-7"'])('does not match %s', async (tag) => {
    await expect(sent(tag)).rejects.toMatchObject({ code: 'precondition_failed' });
  });
});

describe('twinOfAlert', () => {
  it('is the part before the rule', () => {
    expect(twinOfAlert('machine:M1~overheating~42')).toBe('machine:M1');
  });

  it.each([
    ['machine:M1', 'not_found'],
    ['machine:M1~r', 'not_found'],
    ['machine:M1~r~x', 'not_found'],
    ['machine:M1~r~1~2', 'not_found'],
    ['M1~r~1', 'bad_id'],
    ["machine:'~r~1", 'bad_id'],
  ])('refuses %s', (id, code) => {
    expect(() => twinOfAlert(id)).toThrow(expect.objectContaining({ code }));
  });
});
