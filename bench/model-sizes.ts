import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { seededRandom } from '../actors/protocol/clock.ts';
import { findModels } from '../models/folder.ts';
import { Model } from '../models/model.ts';
import { inputsOf, type OnnxGraph, onnxFile, writeModel } from '../test/fixtures/onnx.ts';

/**
 * Models to measure with: the trained ones where they are there, else ones of the same build and size with random weights,
 * which cost the same. The name of what was measured says which.
 */
export const MODELS = fileURLToPath(new URL('../models/', import.meta.url));

export interface MeasuredModel {
  model: Model;
  /** E.g. `battery-rul@1.0.0`, or `400 trees of depth 6 (made up)`. */
  called: string;
}

export async function trainedOrMadeUp(name: string, folder: string, make: () => MadeUp): Promise<MeasuredModel> {
  const versions = existsSync(join(MODELS, name)) ? ((await findModels([MODELS])).get(name) ?? []) : [];
  const newest = versions.at(-1);
  if (newest !== undefined) {
    const model = await Model.load(newest.path);
    return { model, called: model.id };
  }
  const { onnx, width, card, output, called } = make();
  const path = writeModel(folder, {
    name,
    version: '1.0.0',
    onnx,
    card: { inputs: inputsOf(...Array.from({ length: width }, (_, i) => `x${i}`)), ...card },
    parity: await parityOf(onnx, width, output),
  });
  return { model: await Model.load(path), called: `${called} (made up: ${name} is not there yet)` };
}

interface MadeUp {
  onnx: Buffer;
  width: number;
  card: Record<string, unknown>;
  /** The output that the parity file holds. */
  output: string;
  called: string;
}

/** A model made up has no trainer: what it says of one row is taken from itself. */
async function parityOf(onnx: Buffer, width: number, output: string): Promise<unknown> {
  const { openOnnx } = await import('../models/onnx.ts');
  const session = await openOnnx(onnx);
  const row = Array.from({ length: width }, (_, i) => Math.fround(Math.sin(i)));
  const said = await session.run(Float32Array.from(row), 1, [output]);
  await session.close();
  return { inputs: [row], outputs: { [output]: [[...said[output].data]] } };
}

/** Gradient boosting: `trees` of full depth, as TreeEnsembleRegressor. */
export function boosted(trees: number, depth: number, width: number): MadeUp {
  const random = seededRandom(1);
  const ids = {
    tree: [] as number[],
    node: [] as number[],
    feature: [] as number[],
    yes: [] as number[],
    no: [] as number[],
  };
  const values: number[] = [];
  const modes: string[] = [];
  const target = { tree: [] as number[], node: [] as number[], weight: [] as number[] };
  const inner = 2 ** depth - 1;
  for (let tree = 0; tree < trees; tree++)
    for (let node = 0; node < 2 ** (depth + 1) - 1; node++) {
      const isLeaf = node >= inner;
      ids.tree.push(tree);
      ids.node.push(node);
      ids.feature.push(isLeaf ? 0 : Math.floor(random() * width));
      ids.yes.push(isLeaf ? 0 : 2 * node + 1);
      ids.no.push(isLeaf ? 0 : 2 * node + 2);
      values.push(isLeaf ? 0 : random() * 2 - 1);
      modes.push(isLeaf ? 'LEAF' : 'BRANCH_LEQ');
      if (!isLeaf) continue;
      target.tree.push(tree);
      target.node.push(node);
      target.weight.push(random() - 0.5);
    }
  const zeros = target.tree.map(() => 0);
  const onnx = onnxFile({
    mlOpset: 3,
    inputs: { input: ['N', width] },
    outputs: { value: ['N', 1] },
    nodes: [
      {
        op: 'TreeEnsembleRegressor',
        domain: 'ai.onnx.ml',
        inputs: ['input'],
        outputs: ['value'],
        attributes: {
          n_targets: 1,
          nodes_treeids: { ints: ids.tree },
          nodes_nodeids: { ints: ids.node },
          nodes_featureids: { ints: ids.feature },
          nodes_values: { floats: values },
          nodes_modes: { strings: modes },
          nodes_truenodeids: { ints: ids.yes },
          nodes_falsenodeids: { ints: ids.no },
          target_treeids: { ints: target.tree },
          target_nodeids: { ints: target.node },
          target_ids: { ints: zeros },
          target_weights: { floats: target.weight },
        },
      },
    ],
  });
  return { onnx, width, card: {}, output: 'value', called: `${trees} trees of depth ${depth}, ${width} inputs` };
}

/** Autoencoder: dense layers down and up again, the score is the mean of squared errors, the shares those of the metrics. */
export function autoencoder(width: number, hidden: readonly number[], metrics: readonly string[]): MadeUp {
  const random = seededRandom(2);
  const sizes = [width, ...hidden, width];
  const constants: NonNullable<OnnxGraph['constants']> = {};
  const nodes: OnnxGraph['nodes'][number][] = [];
  let from = 'input';
  for (let i = 1; i < sizes.length; i++) {
    const count = sizes[i - 1] * sizes[i];
    constants[`w${i}`] = {
      dims: [sizes[i - 1], sizes[i]],
      values: Array.from({ length: count }, () => random() - 0.5),
    };
    constants[`b${i}`] = { dims: [sizes[i]], values: Array(sizes[i]).fill(0.01) };
    nodes.push({ op: 'Gemm', inputs: [from, `w${i}`, `b${i}`], outputs: [`h${i}`] });
    from = `h${i}`;
    if (i === sizes.length - 1) continue;
    nodes.push({ op: 'Relu', inputs: [from], outputs: [`r${i}`] });
    from = `r${i}`;
  }
  // Which metric each input belongs to, as a matrix: sums of squares by metric.
  const member = Array.from({ length: width * metrics.length }, (_, k) =>
    Math.floor(k / metrics.length) % metrics.length === k % metrics.length ? 1 : 0,
  );
  constants.member = { dims: [width, metrics.length], values: member };
  constants.size = { dims: [1], values: [width] };
  nodes.push(
    { op: 'Sub', inputs: ['input', from], outputs: ['error'] },
    { op: 'Mul', inputs: ['error', 'error'], outputs: ['squared'] },
    { op: 'MatMul', inputs: ['squared', 'member'], outputs: ['by_metric'] },
    { op: 'ReduceSum', inputs: ['by_metric'], outputs: ['total'], attributes: { axes: { ints: [1] }, keepdims: 1 } },
    { op: 'Div', inputs: ['by_metric', 'total'], outputs: ['contributions'] },
    { op: 'Div', inputs: ['total', 'size'], outputs: ['score'] },
  );
  const onnx = onnxFile({
    opset: 12,
    inputs: { input: ['N', width] },
    outputs: { score: ['N', 1], contributions: ['N', metrics.length] },
    constants,
    nodes,
  });
  const card = { type: 'anomaly', opset: 12, output: { threshold: 1, groups: metrics } };
  return { onnx, width, card, output: 'score', called: `autoencoder ${sizes.join('-')}` };
}
