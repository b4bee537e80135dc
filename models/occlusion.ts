import type { Occlusion } from './card.ts';
import type { Model } from './model.ts';
import type { Tensors } from './onnx.ts';

/**
 * Contributions of groups of inputs by hiding them: each group in turn takes the values that stand for "nothing special", and
 * how far the answer moves is its share. Costs a run of the model for each group.
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
  const moved = new Float64Array(rows * names.length);
  for (const [g, name] of names.entries()) {
    const hidden = Float32Array.from(inputs);
    for (let i = 0; i < rows; i++) for (const k of groups[name]) hidden[i * width + k] = reference[k];
    const without = await model.run(hidden, rows);
    for (let i = 0; i < rows; i++)
      moved[i * names.length + g] = Math.abs(said(answered, i) - said(without, i, answered));
  }
  return Array.from({ length: rows }, (_, i) => {
    const row = moved.subarray(i * names.length, (i + 1) * names.length);
    const total = row.reduce((sum, x) => sum + x, 0);
    // Nothing moves it: then there is nothing to share.
    if (!(total > 0) || !Number.isFinite(total)) return null;
    return Object.fromEntries(names.map((name, g) => [name, row[g] / total]));
  });
}

/** The one number of an answer; of a classification the probability of the class that `whose` finds likeliest. */
function said(tensors: Tensors, i: number, whose: Tensors = tensors): number {
  const single = tensors.value ?? tensors.score;
  if (single !== undefined) return single.data[i];
  const { data, width } = whose.probabilities;
  const row = data.subarray(i * width, (i + 1) * width);
  return tensors.probabilities.data[i * width + row.indexOf(Math.max(...row))];
}
