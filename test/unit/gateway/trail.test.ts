import { describe, expect, it } from 'vitest';
import { redacted } from '../../../services/audit/trail.ts';

describe('redacted', () => {
  it('hides secrets, shortens bytes, leaves out what is large', () => {
    expect(redacted({ name: 'n', apiKey: 'x', nested: { password: 'p', token: 't', keep: 1 } })).toEqual({
      name: 'n',
      apiKey: '[hidden]',
      nested: { password: '[hidden]', token: '[hidden]', keep: 1 },
    });
    expect(redacted({ body: Buffer.from('abc') })).toEqual({ body: '[3 bytes]' });
    expect(redacted({ patch: 'x'.repeat(5000) })).toEqual({ omitted: '5012 characters' });
  });
});
