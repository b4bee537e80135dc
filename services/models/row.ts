import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { ModelCard } from '../../models/card.ts';

/** Inputs by name, as a caller sends them, as the row that the model takes. */
export type NamedInputs = Record<string, unknown>;

/**
 * Names are those of the card; `name` alone with an array stands for `name[0]`, `name[1]`, … Left out or null: missing, which the
 * card has to allow. Throws bad_request naming every fault at once.
 */
export function writeRow(card: ModelCard, inputs: NamedInputs, into: Float32Array, offset: number): void {
  const faults: string[] = [];
  const given = new Map(Object.entries(inputs).flatMap(([name, value]) => spread(name, value)));
  for (const [i, { name, missing }] of card.inputs.entries()) {
    const value = given.get(name) ?? null;
    given.delete(name);
    if (value === null) {
      if (missing === 'required') faults.push(`${name} is missing`);
      into[offset + i] = Number.NaN;
    } else if (typeof value !== 'number' || !Number.isFinite(Math.fround(value)))
      faults.push(`${name} must be a number`);
    else into[offset + i] = value;
  }
  for (const name of given.keys()) faults.push(`${name.slice(0, 100)} is none of its inputs`);
  if (faults.length > 0) {
    const more = faults.length > 10 ? ` and ${faults.length - 10} more` : '';
    throw new TwinmeshError('bad_request', `${card.name}: ${faults.slice(0, 10).join('; ')}${more}.`);
  }
}

function spread(name: string, value: unknown): [string, unknown][] {
  return Array.isArray(value) ? value.slice(0, 2_000).map((item, i) => [`${name}[${i}]`, item]) : [[name, value]];
}
