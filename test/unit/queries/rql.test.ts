import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { fieldsOf, MAX_DEPTH, MAX_LENGTH, MAX_NODES, parseFilter } from '../../../actors/store/queries/rql.ts';

function faultOf(text: string): string {
  try {
    parseFilter(text);
  } catch (error) {
    if (error instanceof TwinmeshError && error.code === 'bad_request') return error.message;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

describe('a filter', () => {
  it('is parsed into a tree', () => {
    expect(
      parseFilter(' and( eq(kind,"battery") , not(in(id, a, \'b"c\', 7)), exists(attributes/site))'),
    ).toMatchObject({
      op: 'and',
      of: [
        { op: 'eq', field: { name: 'kind', position: 10 }, value: { literal: 'battery' } },
        { op: 'not', of: { op: 'in', values: [{ literal: 'a' }, { literal: 'b"c' }, { literal: 7 }] } },
        { op: 'exists', field: { name: 'attributes/site' } },
      ],
    });
  });

  it('tells numbers, truth, null, times and words apart', () => {
    const literal = (text: string) => {
      const filter = parseFilter(`eq(x,${text})`);
      return filter.op === 'eq' ? filter.value.literal : undefined;
    };
    expect(literal('-1.5e3')).toBe(-1500);
    expect(literal('true')).toBe(true);
    expect(literal('null')).toBe(null);
    expect(literal('"null"')).toBe('null');
    expect(literal('2026-01-01T00:00:00Z')).toBe('2026-01-01T00:00:00Z');
    expect(literal("'it\\'s \\\\ \\\"'")).toBe('it\'s \\ "');
    expect(literal('1e')).toBe('1e');
  });

  it('names every field it uses', () => {
    expect(fieldsOf(parseFilter('or(eq(a,1),not(and(like(b,"x"),in(c,1))),exists(d))'))).toEqual(['a', 'b', 'c', 'd']);
  });

  it.each([
    ['', 'expected a condition such as eq(kind,"battery"), found the end at position 1'],
    ['eq(kind', 'expected ",", found the end at position 8'],
    ['eq(kind,)', 'expected a value, found ")" at position 9'],
    ['eq(,1)', 'expected the name of a field, found "," at position 4'],
    ['eq(a,1)x', 'expected the end, found "x" at position 8'],
    ['foo(a,1)', 'unknown operator "foo" at position 1'],
    ['eq(a,"x)', 'a quote that is not closed at position 6'],
    ['eq(a,"\\n")', '\\ goes before a quote or \\ only, at position 7'],
    ['eq(a,1e400)', 'a number that is not finite at position 6'],
    ['and()', 'expected a condition such as eq(kind,"battery"), found ")" at position 5'],
    ['EQ(a,1)', 'unknown operator "EQ" at position 1'],
    ['eq(a,1,2)', 'expected ")", found "," at position 7'],
  ])('%j is refused: %s', (text, message) => {
    expect(faultOf(text)).toBe(`filter: ${message}.`);
  });

  it('is bounded in length, depth and number of conditions and values', () => {
    expect(faultOf(`eq(a,"${'x'.repeat(MAX_LENGTH)}")`)).toContain('at most');
    const nested = (levels: number) => `${'not('.repeat(levels)}exists(a)${')'.repeat(levels)}`;
    expect(() => parseFilter(nested(MAX_DEPTH - 1))).not.toThrow();
    expect(faultOf(nested(MAX_DEPTH))).toContain(`more than ${MAX_DEPTH} levels`);
    expect(faultOf(`and(${Array.from({ length: MAX_NODES }, () => 'exists(a)').join(',')})`)).toContain('conditions');
    expect(faultOf(`in(a,${Array.from({ length: 201 }, () => '1').join(',')})`)).toContain('values');
  });

  it('that is no text is refused', () => {
    expect(faultOf('eq(a,"\0")')).toContain('not text');
    expect(faultOf('eq(a,"\ud800")')).toContain('not text');
  });

  it('of any text is parsed or refused with a position', () => {
    const piece = fc.constantFrom(
      'and',
      'or',
      'not',
      'eq',
      'in',
      'like',
      'exists',
      '(',
      ')',
      ',',
      '"',
      "'",
      '\\',
      'a',
      '1',
      ' ',
      ';',
      '--',
      '$1',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece, { maxLength: 40 }).map((p) => p.join('')),
        ),
        (text) => {
          try {
            parseFilter(text);
          } catch (error) {
            expect((error as TwinmeshError).code).toBe('bad_request');
            expect((error as TwinmeshError).message).toMatch(/^filter: .*(at position \d+\.|not text\.)$/s);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
