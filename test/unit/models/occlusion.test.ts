import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import type { Occlusion } from '../../../models/card.ts';
import { findModels } from '../../../models/folder.ts';
import { Model } from '../../../models/model.ts';
import { sharesByOcclusion } from '../../../models/occlusion.ts';
import { openOnnx, type Tensors } from '../../../models/onnx.ts';
import { readOnnx } from '../../../models/onnx-file.ts';
import { partOf } from '../../../models/onnx-part.ts';
import { type OnnxGraph, onnxFile } from '../../fixtures/onnx.ts';

/** Shares by hiding inputs are, bit by bit, those of hiding them one group after the other in whole batches of the whole graph. */
const MODELS = fileURLToPath(new URL('../../../models/', import.meta.url));
const folders = [...(await findModels([MODELS])).values()].flat();
const models = (await Promise.all(folders.map(({ path }) => Model.load(path)))).filter(
  ({ card }) => card.output.explain?.method === 'occlusion',
);
afterAll(() => Promise.all(models.map((model) => model.retire())));
const howOf = ({ card }: Model) => card.output.explain as Occlusion;

describe('shares by hiding inputs', () => {
  it.each(models.map((model) => ({ model, id: model.id })))('of $id are those of hiding naively', async ({ model }) => {
    const random = seededRandom(11);
    let shared = 0;
    // One row, batches that end inside a slice, at its end, and one row after it.
    for (const rows of [1, 1, 1, 2, 3, 17, 64, 65, 130]) {
      const inputs = randomRows(model, rows, random);
      const answered = await model.run(inputs, rows);
      const wanted = await naively(model, inputs, rows, answered);
      const before = inputs.slice();
      const got = await sharesByOcclusion(model, howOf(model), inputs, rows, answered);
      expect(got).toEqual(wanted);
      expect(got.map((row) => row && Object.keys(row))).toEqual(wanted.map((row) => row && Object.keys(row)));
      expect(inputs).toEqual(before);
      shared += got.filter((row) => row !== null).length;
    }
    expect(shared).toBeGreaterThan(50);
  });

  it('of rows that have the reference already cost no run', async () => {
    const [model] = models;
    const { groups, reference } = howOf(model);
    const row = Float32Array.from(reference);
    const run = vi.spyOn(model, 'runExplained');
    const askedWith = async (inputs: Float32Array, rows: number) => {
      run.mockClear();
      const shares = await sharesByOcclusion(model, howOf(model), inputs, rows, await model.run(inputs, rows));
      return { runs: run.mock.calls.length, shares };
    };
    expect(await askedWith(row, 1)).toEqual({ runs: 0, shares: [null] });
    // One input of one row differs: its group is run, for the slice it is in.
    const [[k]] = Object.values(groups);
    const many = Float32Array.from({ length: 100 * row.length }, (_, i) => row[i % row.length]);
    many[99 * row.length + k] = reference[k] * 1.5;
    expect((await askedWith(many, 100)).runs).toBe(Object.values(groups).filter((group) => group.includes(k)).length);
    // One that is missing is not hidden: there is nothing to hide.
    many[99 * row.length + k] = Number.NaN;
    expect((await askedWith(many, 100)).runs).toBe(0);
    run.mockRestore();
  });

  it('of classes follow the class that each whole row finds likeliest', async () => {
    // Rows of two inputs; the probabilities of two classes are the inputs themselves.
    const card = { inputs: [{}, {}] };
    const run = async (inputs: Float32Array): Promise<Tensors> => ({
      probabilities: { data: inputs.slice(), width: 2 },
    });
    const model = { card, runExplained: run } as unknown as Model;
    // Rows of the second slice are of the other class than those in the same place of the first.
    const inputs = Float32Array.from({ length: 2 * 66 }, (_, i) => ((i % 2 === 0) === i < 2 * 64 ? 0.75 : 0.25));
    // Hiding `b` makes the second class the likeliest, which the rows of the first are not asked about.
    const how: Occlusion = { method: 'occlusion', groups: { a: [0], b: [1] }, reference: [0, 0.875] };
    const shares = await sharesByOcclusion(model, how, inputs, 66, await run(inputs));
    expect(shares).toEqual(shares.map((_, i) => (i < 64 ? { a: 1, b: 0 } : { a: 0, b: 1 })));
  });
});

describe('the part of a graph that one output needs', () => {
  const trees: OnnxGraph = {
    inputs: { input: ['N', 2] },
    outputs: { value: ['N', 1], lo: ['N', 1] },
    constants: { w: { dims: [2, 1], values: [2, 3] }, v: { dims: [2, 1], values: [5, 7] } },
    nodes: [
      { op: 'MatMul', inputs: ['input', 'w'], outputs: ['product'] },
      { op: 'MatMul', inputs: ['input', 'v'], outputs: ['other'] },
      { op: 'Exp', inputs: ['other'], outputs: ['power'] },
      { op: 'Identity', inputs: ['product'], outputs: ['value'] },
      { op: 'Sub', inputs: ['product', 'power'], outputs: ['lo'] },
    ],
  };

  it('has its nodes, its constants and itself only, and runs', async () => {
    const part = partOf(onnxFile(trees), 'value') as Uint8Array;
    expect(part).toEqual(
      onnxFile({
        ...trees,
        outputs: { value: ['N', 1] },
        constants: { w: { dims: [2, 1], values: [2, 3] } },
        nodes: [trees.nodes[0], trees.nodes[3]],
      }),
    );
    const session = await openOnnx(part);
    expect([...session.outputs.keys()]).toEqual(['value']);
    expect((await session.run(Float32Array.of(1, 1), 1, ['value'])).value.data[0]).toBe(5);
    await session.close();
    expect(partOf(onnxFile(trees), 'lo')).toEqual(
      onnxFile({ ...trees, outputs: { lo: ['N', 1] }, nodes: trees.nodes.toSpliced(3, 1) }),
    );
  });

  it('is none where nothing makes that output, or a node has a graph of its own', () => {
    expect(partOf(onnxFile(trees), 'hi')).toBeNull();
    const graph = Buffer.from([0x32, 0x00]);
    const attribute = Buffer.concat([Buffer.from([0x2a, graph.length]), graph]);
    const node = Buffer.concat([Buffer.from([0x12, 5]), Buffer.from('value'), attribute]);
    const file = (field: Buffer) => Buffer.concat([Buffer.from([0x3a, field.length + 2, 0x0a, field.length]), field]);
    expect(partOf(file(node), 'value')).toBeNull();
    expect(partOf(file(node.subarray(0, 7)), 'value')).toEqual(file(node.subarray(0, 7)));
  });

  it('of battery-rul is less than half of it, and trees of its interval are gone', () => {
    const whole = readFileSync(join(MODELS, 'battery-rul/1.0.0/model.onnx'));
    const part = partOf(whole, 'value') as Uint8Array;
    expect(part.length).toBeLessThan(whole.length / 2);
    expect(readOnnx(part).opsets).toEqual(readOnnx(whole).opsets);
    expect(readOnnx(part).operators.has('ai.onnx.ml/TreeEnsembleRegressor')).toBe(true);
  });
});

/** A group after the other takes the reference's values in all rows, what is missing apart, and the whole graph is run. */
async function naively(model: Model, inputs: Float32Array, rows: number, answered: Tensors) {
  const { groups, reference } = howOf(model);
  const width = reference.length;
  const names = Object.keys(groups);
  const moved: number[][] = [];
  for (const name of names) {
    const hidden = inputs.map((x, i) =>
      groups[name].includes(i % width) && !Number.isNaN(x) ? reference[i % width] : x,
    );
    const without = await model.run(hidden, rows);
    moved.push([...answered.value.data].map((x, i) => Math.abs(x - without.value.data[i])));
  }
  return Array.from({ length: rows }, (_, i) => {
    const total = moved.reduce((sum, group) => sum + group[i], 0);
    if (!(total > 0) || !Number.isFinite(total)) return null;
    return Object.fromEntries(names.map((name, g) => [name, moved[g][i] / total]));
  });
}

/** Inputs of training, of the reference, anywhere in the range of the card, and none. */
function randomRows(model: Model, rows: number, random: () => number): Float32Array {
  const { inputs } = model.card;
  const { reference } = howOf(model);
  return Float32Array.from({ length: rows * inputs.length }, (_, i) => {
    const { min, max, reference: seen } = inputs[i % inputs.length];
    const edges = seen?.edges ?? [min, max];
    const what = random();
    if (what < 0.1) return Number.NaN;
    if (what < 0.4) return reference[i % inputs.length];
    if (what < 0.45) return min + random() * (max - min);
    return edges[0] + random() * (edges[edges.length - 1] - edges[0]);
  });
}
