import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJson, parseLines, parseMessages } from '../../../actors/ingress/json.ts';

const limits = { maxBytes: 100_000, maxDepth: 8 };
const codeOf = (text: string) => {
  try {
    parseJson(text, limits);
    return null;
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe('JSON from strangers', () => {
  it('is what JSON.parse says, for everything that is not nested too deep', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (text) => {
        expect(parseJson(Buffer.from(text), limits)).toEqual(JSON.parse(text));
      }),
      { numRuns: 2000 },
    );
  });

  it('counts levels, not brackets', () => {
    expect(codeOf(`${'['.repeat(8)}${']'.repeat(8)}`)).toBeNull();
    expect(codeOf(`${'['.repeat(9)}${']'.repeat(9)}`)).toBe('too_deep');
    expect(codeOf(JSON.stringify(Array.from({ length: 100 }, () => ({}))))).toBeNull();
    expect(codeOf(JSON.stringify('[{'.repeat(100)))).toBeNull();
    expect(codeOf(JSON.stringify('\\"[{'.repeat(100)))).toBeNull();
  });

  it.each([
    ['{"a":1,"a":1}', 'duplicate_key'],
    ['{"a":1,"b":{"c":1,"c":2}}', 'duplicate_key'],
    ['[{"a":1},{"a":1,"\\u0061":2}]', 'duplicate_key'],
    ['{"__proto__":1,"__proto__":2}', 'duplicate_key'],
    ['{"1":1,"1":2}', 'duplicate_key'],
    ['{"a":1,"b":{"a":1}}', null],
    ['{"a":":","b":"\\":"}', null],
    ['{"__proto__":{"a":1}}', null],
  ])('%s: %s', (text, code) => {
    expect(codeOf(text)).toBe(code);
  });

  it('splits arrays and keeps what each element said', () => {
    const parsed = parseMessages('[ {"a":"],["} , 2,[3, "x\\"" ],{"b":1,"b":2}, null ]', limits);
    expect(parsed.map(({ value, error }) => error?.code ?? value)).toEqual([
      { a: '],[' },
      2,
      [3, 'x"'],
      'duplicate_key',
      null,
    ]);
    expect(parsed.map((message) => message.text())).toEqual([
      '{"a":"],["}',
      '2',
      '[3, "x\\"" ]',
      '{"b":1,"b":2}',
      'null',
    ]);
    expect(parseMessages('[]', limits)).toEqual([]);
  });

  it('gives the text of each element of any array', () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue({ maxDepth: 4 }), { minLength: 1 }),
        fc.constantFrom(0, 2),
        (values, indent) => {
          const parsed = parseMessages(JSON.stringify(values, null, indent), limits);
          expect(parsed.map((message) => JSON.parse(message.text()))).toEqual(JSON.parse(JSON.stringify(values)));
        },
      ),
    );
  });

  it('refuses a deep element alone, and an array that never closes as a whole', () => {
    const deep = `${'['.repeat(50)}${']'.repeat(50)}`;
    expect(parseMessages(`[1,${deep},2]`, limits).map(({ value, error }) => error?.code ?? value)).toEqual([
      1,
      'too_deep',
      2,
    ]);
    expect(parseMessages(`[1,${'['.repeat(50)}`, limits).map(({ error }) => error?.code)).toEqual(['too_deep']);
  });

  it('reads lines of every ending, bounded each by itself', () => {
    const parsed = parseLines(Buffer.from('1\r\n\n 2 \n{"a"\n"\xff"\n3'), { maxBytes: 6, maxDepth: 8 });
    expect(parsed.map(({ value, error }) => error?.code ?? value)).toEqual([1, 2, 'not_json', 'ÿ', 3]);
    const bytes = Buffer.concat([Buffer.from('1\n'), Buffer.from([0xff, 0x0a]), Buffer.from('1234567\n2')]);
    expect(parseLines(bytes, { maxBytes: 6, maxDepth: 8 }).map(({ value, error }) => error?.code ?? value)).toEqual([
      1,
      'not_json',
      'too_large',
      2,
    ]);
  });
});
