import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseQuery } from '../../../services/gateway/query.ts';

describe('parseQuery', () => {
  it('reads flat text', () => {
    expect({ ...parseQuery('a=1&b=x%20y+z&c&d=%3D') }).toEqual({ a: '1', b: 'x y z', c: '', d: '=' });
    expect(Object.getPrototypeOf(parseQuery('a=1'))).toBeNull();
  });

  it('makes no arrays and no objects', () => {
    expect({ ...parseQuery('a[b]=1&c[]=2') }).toEqual({ 'a[b]': '1', 'c[]': '2' });
  });

  it.each([
    ['a=1&a=2', 'bad_request'],
    ['a=%zz', 'bad_request'],
    ['a=%00', 'bad_text'],
    ['%00=1', 'bad_text'],
    ['__proto__=1&__proto__=2', 'bad_request'],
    [Array.from({ length: 51 }, (_, i) => `p${i}=1`).join('&'), 'bad_request'],
  ])('refuses %.20s as %s', (search, code) => {
    expect(() => parseQuery(search)).toThrow(expect.objectContaining({ code }));
  });

  it('gives back what was encoded', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1 }).filter((s) => !s.includes('\0') && s.isWellFormed());
    fc.assert(
      fc.property(fc.dictionary(text, text, { maxKeys: 20 }), (wanted) => {
        const search = Object.entries(wanted)
          .map(([k, v]) => `${encodeURIComponent(k)}=${encodeURIComponent(v)}`)
          .join('&');
        expect(Object.entries(parseQuery(search)).sort()).toEqual(Object.entries(wanted).sort());
      }),
    );
  });
});
