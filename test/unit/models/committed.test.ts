import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { featureNames } from '../../../actors/protocol/feature.ts';
import type { ModelUse } from '../../../actors/protocol/kind.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { parseCard } from '../../../models/card.ts';
import { misfitOf } from '../../../models/fit.ts';
import { findModels } from '../../../models/folder.ts';
import { Model } from '../../../models/model.ts';

/** The models that come with twinmesh: each loads, and is what the kinds ask. */
const MODELS = fileURLToPath(new URL('../../../models/', import.meta.url));
const found = [...(await findModels([MODELS])).values()].flat();
const kinds = (await loadKinds()).all();
const uses = kinds.flatMap((kind) => Object.values<ModelUse>(kind.models ?? {}).map((use) => ({ kind, use })));

describe.skipIf(found.length === 0)('models that come with twinmesh', () => {
  it.each(found.map((folder) => ({ ...folder, id: `${folder.name}@${folder.version}` })))(
    '$id loads, and is asked with what it was trained on',
    async ({ name, version, path }) => {
      const model = await Model.load(path, { name, version });
      await model.retire();
      const card = parseCard(readFileSync(join(path, 'card.json'), 'utf8'));
      for (const { kind, use } of uses.filter(({ use }) => use.model === name)) {
        expect(card.kind).toBe(kind.kind);
        expect(card.inputs.map((input) => input.name)).toEqual(featureNames(kind, use.inputs));
      }
      expect(misfitOf(card, kinds)).toBeNull();
    },
  );

  it('do not fit with other inputs, in another order, or for another kind', () => {
    const card = parseCard(readFileSync(join(MODELS, 'machine-anomaly/1.0.0/card.json'), 'utf8'));
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
