import { TwinmeshError } from '../actors/protocol/errors.ts';
import { Faults } from './shape.ts';

/** Sample rows and what the trainer answered: `parity.json`. The runtime has to give the same within the tolerance. */
export interface Parity {
  rows: number;
  /** Rows × width; null was NaN. */
  inputs: Float32Array;
  /** By output, rows × its width. */
  outputs: Map<string, Float64Array>;
  tolerance: { absolute: number; relative: number };
}

export const MAX_PARITY_BYTES = 4_000_000;
const MAX_ROWS = 1_000;
const DEFAULT_TOLERANCE = { absolute: 1e-3, relative: 1e-3 };
/** A file that calls everything alike would check nothing. */
const LOOSEST = { absolute: 0.1, relative: 0.02 };

/** Throws bad_model with every fault. */
export function parseParity(text: string, width: number): Parity {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new TwinmeshError('bad_model', 'parity.json is not valid JSON.');
  }
  const faults = new Faults('parity.json');
  const parity = faults.object('the file', value);
  const inputs = rowsOf(faults, 'inputs', parity.inputs);
  if (inputs.length === 0) faults.add('inputs', 'must have at least one row');
  for (const [i, row] of inputs.entries())
    if (row.length !== width) faults.add(`inputs[${i}]`, `must have ${width} values, as the card has inputs`);
  const outputs = new Map<string, Float64Array>();
  for (const [name, values] of Object.entries(faults.object('outputs', parity.outputs))) {
    const rows = rowsOf(faults, `outputs.${name}`, values);
    if (rows.length !== inputs.length) faults.add(`outputs.${name}`, `must have ${inputs.length} rows`);
    if (rows.some((row) => row.length !== rows[0].length)) faults.add(`outputs.${name}`, 'must have rows of one width');
    outputs.set(name, Float64Array.from(rows.flat()));
  }
  if (outputs.size === 0) faults.add('outputs', 'must name at least one');
  const given = parity.tolerance === undefined ? {} : faults.object('tolerance', parity.tolerance);
  const tolerance = {
    absolute: faults.number('tolerance.absolute', given.absolute ?? DEFAULT_TOLERANCE.absolute, 0, LOOSEST.absolute),
    relative: faults.number('tolerance.relative', given.relative ?? DEFAULT_TOLERANCE.relative, 0, LOOSEST.relative),
  };
  faults.end();
  return { rows: inputs.length, inputs: Float32Array.from(inputs.flat()), outputs, tolerance };
}

function rowsOf(faults: Faults, path: string, value: unknown): number[][] {
  return faults.list(path, value, MAX_ROWS).map((row, i) => {
    const cells = Array.isArray(row) ? row : [row];
    return cells.map((cell) => {
      if (cell === null) return Number.NaN;
      return faults.number(`${path}[${i}]`, cell);
    });
  });
}
