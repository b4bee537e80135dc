import type { IntegralRule, ValueRule } from './map.ts';
import { asNumber, conversionOf, type Row } from './row-reading.ts';

/**
 * Makes what reads an integral, row after row: the value at this row, undefined where there is none. `number` counts rows of the
 * file from 0, and `begun` says that the pass began there: one that begins inside a file knows nothing of the stretch that it
 * begins in.
 */
export function integralOf(
  rule: IntegralRule & Pick<ValueRule, 'factor' | 'offset' | 'decimals'>,
  cell: (name: string) => (row: Row) => unknown,
): (row: Row, number: number, ms: number, begun?: boolean) => number | undefined {
  const { restart, where, within } = rule;
  const column = cell(rule.integral);
  const stretch = restart === undefined ? () => undefined : cell(restart);
  const told = where === undefined ? null : cell(where.column);
  const convert = conversionOf(rule);
  let last = Number.NaN;
  let of: unknown;
  let sum = Number.NaN;
  let ms = 0;
  let x = 0;
  return (row, number, at, begun = number === 0) => {
    const now = stretch(row);
    const follows = number > last;
    if (number === 0 || (begun && Number.isNaN(last)) || (follows && now !== of)) sum = 0;
    else if (!follows) sum = Number.NaN;
    else {
      const value = numberOr(column(row), x);
      sum += (((x + value) / 2) * Math.max(0, at - ms)) / 1000;
    }
    last = number;
    of = now;
    ms = at;
    x = numberOr(column(row), sum === 0 ? 0 : x);
    if (!Number.isFinite(sum)) return undefined;
    const converted = convert(sum);
    const value = within === undefined ? converted : Math.min(within[1], Math.max(within[0], converted));
    // kept inside as it goes: what is full is not filled further
    if (value !== converted) sum = (value - (rule.offset ?? 0)) / (rule.factor ?? 1);
    return told === null || told(row) === where!.is ? value : undefined;
  };
}

function numberOr(cell: unknown, otherwise: number): number {
  const value = asNumber(cell);
  return typeof value === 'number' && Number.isFinite(value) ? value : otherwise;
}
