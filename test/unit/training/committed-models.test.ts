import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { featureNames } from '../../../actors/protocol/feature.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { findModels } from '../../../models/folder.ts';
import { MAX_MODEL_BYTES, Model } from '../../../models/model.ts';
import { parseParity } from '../../../models/parity.ts';
import { MODELS_FOLDER, trainableModels } from '../../../models/training/training.ts';

/** What lies in models/: each file answers in ONNX Runtime as its trainer did, and fits the kind that asks it. */
const found = [...(await findModels([MODELS_FOLDER])).values()].flat();
const kinds = await loadKinds();
const uses = kinds
  .all()
  .flatMap((kind) => Object.entries(kind.models ?? {}).map(([name, use]) => ({ kind, name, use })));

describe('the models of the project', () => {
  it('are there', () => {
    expect(found.map(({ name }) => name)).toEqual(expect.arrayContaining(['battery-failure', 'battery-soh']));
  });

  it.each(found)('$name $version answers as its trainer did', async ({ name, version, path }) => {
    const model = await Model.load(path, { name, version });
    try {
      expect(statSync(join(path, 'model.onnx')).size).toBeLessThan(MAX_MODEL_BYTES);
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

  it.each(found)(
    '$name $version says what it learned from, how well, and what it is not for',
    async ({ path, name }) => {
      const card = JSON.parse(readFileSync(join(path, 'card.json'), 'utf8'));
      expect(card.training.data.length).toBeGreaterThan(0);
      expect(card.training.command).toBe(`npm run train -- ${name}`);
      expect(card.training.rows).toBeGreaterThan(10);
      expect(Number.isInteger(card.training.seed)).toBe(true);
      expect(card.scores.length).toBeGreaterThan(0);
      expect(card.limits.length).toBeGreaterThan(0);
      for (const { reference } of card.inputs) expect(reference.shares).toHaveLength(reference.edges.length + 1);
    },
  );

  it.each(found)('$name has a trainer and an evaluation', ({ name }) => {
    expect(trainableModels()).toContain(name);
    expect(existsSync(join(MODELS_FOLDER, 'training/evaluations', `${name}.ts`))).toBe(true);
  });

  it.each(uses)('$use.model takes what $kind.kind gives it for $name', async ({ kind, use }) => {
    const folder = found.filter(({ name }) => name === use.model).at(-1);
    expect(folder, `models/${use.model}`).toBeDefined();
    const card = JSON.parse(readFileSync(join(folder!.path, 'card.json'), 'utf8'));
    expect(card.kind).toBe(kind.kind);
    expect(card.inputs.map((input: { name: string }) => input.name)).toEqual(featureNames(kind, use.inputs));
  });
});
