import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { featureNames, metricsBehind } from '../../../actors/protocol/feature.ts';
import { needsOf } from '../../../actors/protocol/model-use.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { parseCard } from '../../../models/card.ts';
import { misfitOf } from '../../../models/fit.ts';
import { findModels } from '../../../models/folder.ts';
import { MAX_MODEL_BYTES, Model } from '../../../models/model.ts';
import { parseParity } from '../../../models/parity.ts';
import { predictWith } from '../../../models/predictor.ts';
import { MODELS_FOLDER, trainableModels } from '../../../models/training/training.ts';

/**
 * The models that come with twinmesh: each loads, answers in ONNX Runtime as its trainer did, says what it learned from, has a
 * trainer and an evaluation, and is what the kinds ask.
 */
const found = [...(await findModels([MODELS_FOLDER])).values()].flat();
const kinds = (await loadKinds()).all();
const uses = kinds.flatMap((kind) => Object.entries(kind.models ?? {}).map(([name, use]) => ({ kind, name, use })));
const cardIn = (path: string) => parseCard(readFileSync(join(path, 'card.json'), 'utf8'));

describe('models that come with twinmesh', () => {
  it('are there', () => {
    expect(found.map(({ name }) => name)).toEqual(expect.arrayContaining(['battery-failure', 'battery-soh']));
  });

  it.each(found)('$name $version loads, answers as its trainer did, and fits who asks it', async (folder) => {
    const { name, version, path } = folder;
    const model = await Model.load(path, { name, version });
    try {
      expect(statSync(join(path, 'model.onnx')).size).toBeLessThan(MAX_MODEL_BYTES);
      expect(misfitOf(model.card, kinds)).toBeNull();
      const width = model.card.inputs.length;
      const parity = parseParity(readFileSync(join(path, 'parity.json'), 'utf8'), width);
      expect(parity.rows).toBeGreaterThanOrEqual(5);
      const answer = await model.run(parity.inputs, parity.rows);
      let compared = 0;
      for (const [output, wanted] of parity.outputs) {
        const { absolute, relative } = parity.tolerance;
        answer[output].data.forEach((got, i) => {
          expect(Math.abs(got - wanted[i]), `${output} ${i}`).toBeLessThanOrEqual(
            absolute + relative * Math.abs(wanted[i]),
          );
          compared++;
        });
      }
      expect(compared).toBeGreaterThanOrEqual(parity.rows);
    } finally {
      await model.retire();
    }
  });

  it.each(found)('$name $version says what it learned from, how well, and what it is not for', ({ path, name }) => {
    const card = JSON.parse(readFileSync(join(path, 'card.json'), 'utf8'));
    expect(card.training.data.length).toBeGreaterThan(0);
    expect(card.training.command).toBe(`npm run train -- ${name}`);
    expect(card.training.rows).toBeGreaterThan(10);
    expect(Number.isInteger(card.training.seed)).toBe(true);
    expect(card.scores.length).toBeGreaterThan(0);
    expect(card.limits.length).toBeGreaterThan(0);
    for (const { reference } of card.inputs) expect(reference.shares).toHaveLength(reference.edges.length + 1);
  });

  it.each(found)('$name has a trainer and an evaluation', ({ name }) => {
    expect(trainableModels()).toContain(name);
    expect(existsSync(join(MODELS_FOLDER, 'training/evaluations', `${name}.ts`))).toBe(true);
  });

  it.each(uses)('$use.model takes what $kind.kind gives it for $name', ({ kind, use }) => {
    const folder = found.filter(({ name }) => name === use.model).at(-1);
    expect(folder, `models/${use.model}`).toBeDefined();
    const card = cardIn(folder!.path);
    expect(card.kind).toBe(kind.kind);
    expect(card.inputs.map(({ name }) => name)).toEqual(featureNames(kind, use.inputs));
  });

  it.each(uses.filter(({ kind, use }) => needsOf(kind, use).length < metricsBehind(kind, use.inputs).length))(
    '$use.model answers a $kind.kind that reports only what $name needs',
    async ({ kind, use }) => {
      const model = await Model.load(found.filter(({ name }) => name === use.model).at(-1)!.path);
      try {
        const needs = needsOf(kind, use);
        // in the middle of what training saw, and nothing of the metrics that it does not need
        const inputs = Float32Array.from(model.card.inputs, ({ name, reference }) => {
          const isTold = metricsBehind(kind, [name.replace(/\[\d+\]$/, '')]).every((metric) => needs.includes(metric));
          const { edges } = reference!;
          return isTold ? edges[edges.length >> 1] : Number.NaN;
        });
        expect(inputs.some(Number.isNaN)).toBe(true);
        const { predictions, refused } = await predictWith(model, { inputs, rows: 1, at: [0] });
        expect(Object.fromEntries(refused)).toEqual({});
        expect(predictions[0]).toMatchObject({ model: model.id });
      } finally {
        await model.retire();
      }
    },
  );

  it('do not fit with other inputs, in another order, or for another kind', () => {
    const card = cardIn(join(MODELS_FOLDER, 'machine-anomaly/1.0.0'));
    const [first, ...rest] = card.inputs;
    const other = (inputs: typeof card.inputs) => misfitOf({ ...card, inputs }, kinds);
    expect(other([{ ...first, name: 'bogus' }, ...rest])).toBe(
      'Input 0 is bogus in the card; machine sends temperature there.',
    );
    expect(other(card.inputs.toReversed())).toMatch(/^Input 0 is /);
    expect(other(rest)).toMatch(/^The card lists 33 inputs, machine sends 34/);
    expect(misfitOf({ ...card, kind: 'mote' }, kinds)).toMatch(/kind mote; machine asks/);
    expect(misfitOf({ ...card, name: 'nobody-asks', inputs: rest }, kinds)).toBeNull();
  });
});
