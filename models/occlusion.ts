import type { Occlusion } from './card.ts';
import { type Model, SLICE_ROWS } from './model.ts';
import type { Tensors } from './onnx.ts';

/**
 * Contributions of groups of inputs by hiding them: each group in turn takes the values that stand for "nothing special", and
 * how far the answer moves is its share. Costs a run of the explained output for each group.
 *
 *  1  Hidden rows are run in slices as `Model.run` cuts them, each in its own place: a graph may round the same row otherwise in
 *     another place of a batch of another size, and what no input has moved must not seem to have moved.
 *  2  A missing input stays missing: a metric that a twin does not report has no share.
 *  3  A slice whose rows all have the reference's values already is not run: its answer is known.
 */
export async function sharesByOcclusion(
  model: Model,
  { groups, reference }: Occlusion,
  inputs: Float32Array,
  rows: number,
  answered: Tensors,
): Promise<(Record<string, number> | null)[]> {
  const width = model.card.inputs.length;
  const names = Object.keys(groups);
  const indices = Object.values(groups);
  const plain = Float32Array.from(reference);
  const moved = new Float64Array(rows * names.length);
  const hidden = new Float32Array(Math.min(rows, SLICE_ROWS) * width);
  for (let start = 0; start < rows; start += SLICE_ROWS) {
    const count = Math.min(SLICE_ROWS, rows - start);
    const slice = inputs.subarray(start * width, (start + count) * width);
    const buffer = hidden.subarray(0, slice.length);
    buffer.set(slice);
    for (const [g, hiding] of indices.entries()) {
      if (hide(buffer, hiding, plain)) {
        const without = await model.runExplained(buffer, count);
        for (let i = 0; i < count; i++) {
          const row = start + i;
          moved[row * names.length + g] = Math.abs(said(answered, row) - said(without, i, answered, row));
        }
      }
      for (const k of hiding) for (let at = k; at < buffer.length; at += width) buffer[at] = slice[at];
    }
  }
  return Array.from({ length: rows }, (_, i) => sharesOf(names, moved, i * names.length));
}

/** Gives the inputs of a group the reference's values; whether that has changed any, bit by bit. */
function hide(rows: Float32Array, group: readonly number[], reference: Float32Array): boolean {
  let isOther = false;
  for (const k of group) {
    const plain = reference[k];
    for (let at = k; at < rows.length; at += reference.length) {
      // what was never told has moved nothing
      if (Number.isNaN(rows[at])) continue;
      isOther ||= !Object.is(rows[at], plain);
      rows[at] = plain;
    }
  }
  return isOther;
}

function sharesOf(names: readonly string[], moved: Float64Array, from: number): Record<string, number> | null {
  let total = 0;
  for (let g = 0; g < names.length; g++) total += moved[from + g];
  // Nothing moves it: then there is nothing to share.
  if (!(total > 0) || !Number.isFinite(total)) return null;
  const shares: Record<string, number> = {};
  for (let g = 0; g < names.length; g++) shares[names[g]] = moved[from + g] / total;
  return shares;
}

/** The one number of an answer; of a classification the probability of the class that `whose` finds likeliest in its row `of`. */
function said(tensors: Tensors, i: number, whose: Tensors = tensors, of: number = i): number {
  const single = tensors.value ?? tensors.score;
  if (single !== undefined) return single.data[i];
  const { data, width } = whose.probabilities;
  const row = data.subarray(of * width, (of + 1) * width);
  return tensors.probabilities.data[i * width + row.indexOf(Math.max(...row))];
}
