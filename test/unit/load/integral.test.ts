import { expect, it } from 'vitest';
import { loadMap } from '../../../services/load/map.ts';
import { rowReader } from '../../../services/load/row-reading.ts';

/** Charge of the NASA cells, counted over each discharge. */
const HEADER = ['seq', 'type', 't_s', 'v', 'a', 'temp_c'];
const reader = () => rowReader(loadMap('nasa-battery'), { fileName: 'B0005.csv', startMs: 1.7e12, header: HEADER });
const row = (seq: number, type: string, t: number, a: string) => [String(seq), type, String(t), '3.5', a, '24'];
/** A charge, then two discharges at 1 A of half an hour each. */
const ROWS = [
  ...[0, 1, 2].map((i) => row(0, 'charge', i * 900, '1.5')),
  ...[0, 1, 2].map((i) => row(1, 'discharge', i * 900, '-1')),
  ...[0, 1, 2].map((i) => row(2, 'discharge', i * 900, i === 1 ? '' : '-1')),
];

function charges(rows: readonly string[][], first = 0, read = reader()): unknown[] {
  return rows.map((cells, i) => {
    const reading = read(cells, first + i);
    if (typeof reading === 'string') throw new Error(reading);
    return reading.values.soc;
  });
}

it('is told of discharges only, from full, by what a new cell holds', () => {
  expect(charges(ROWS)).toEqual([undefined, undefined, undefined, 100, 87.5, 75, 100, 87.5, 75]);
});

it('is not told where reading begins inside a discharge, until the next one', () => {
  expect(charges(ROWS.slice(4), 4)).toEqual([undefined, undefined, 100, 87.5, 75]);
});

it('begins anew with another pass over the file', () => {
  const read = reader();
  charges(ROWS, 0, read);
  expect(charges(ROWS.slice(3, 6), 3, read)).toEqual([undefined, undefined, undefined]);
  expect(charges(ROWS, 0, read).at(-1)).toBe(75);
});

it('stays inside its bounds, as it goes', () => {
  const read = reader();
  const rows = [
    row(1, 'discharge', 0, '0'),
    row(1, 'discharge', 3600, '2'),
    row(1, 'discharge', 7200, '2'),
    row(1, 'discharge', 9000, '-2'),
  ];
  // filled up beyond full, it is full; half an hour that ends in a discharge as strong takes and gives nothing
  expect(charges(rows, 0, read)).toEqual([100, 100, 100, 100]);
  expect(charges([row(1, 'discharge', 12_600, '-2'), row(1, 'discharge', 30_000, '-2')], 4, read)).toEqual([0, 0]);
});

it('begins with the first row that says something', () => {
  const read = reader();
  expect(read(['1', 'discharge', '0', '', '', ''], 0)).toBe('no_values');
  expect(charges(ROWS.slice(3, 6), 1, read)).toEqual([100, 87.5, 75]);
});

it('does not go back in time', () => {
  const rows = [row(1, 'discharge', 900, '-1'), row(1, 'discharge', 0, '-1'), row(1, 'discharge', 900, '-1')];
  expect(charges(rows)).toEqual([100, 100, 87.5]);
});
