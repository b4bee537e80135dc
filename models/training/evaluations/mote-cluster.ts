import { adjustedRandIndex, likeliest } from '../class-scores.ts';
import type { Evaluation } from '../evaluation.ts';
import type { ExportSpec } from '../spec.ts';

const OF = { data: 'simulator', split: 'unseen seeds' };

/** The groups found without labels against those that the simulator seeds. */
export default {
  async evaluate({ card, heldOut, rows, run }) {
    const all = await rows(heldOut.simulator as ExportSpec);
    const hottest = all.feature('temperature.24h.max');
    const held = all.where((row) => hottest[row] < 60);
    const seeded = held.column('truth.group');
    const classes = card.output.classes!.length;
    const found = async (inputs: Float32Array) => likeliest((await run(inputs, held.count)).probabilities, classes);
    const answer = await found(held.features);
    const dark = held.features.slice();
    const width = held.names.length;
    const lights = held.names.flatMap((name, i) => (name.startsWith('light.') ? [i] : []));
    for (let row = 0; row < held.count; row++) for (const i of lights) dark[row * width + i] = Number.NaN;
    const right = answer.filter((which, row) => which === seeded[row]).length;
    return [
      { ...OF, name: 'adjusted Rand index', value: adjustedRandIndex(seeded, answer) },
      { ...OF, name: 'adjusted Rand index without light', value: adjustedRandIndex(seeded, await found(dark)) },
      { ...OF, name: 'share in the group of their place', value: right / held.count },
    ];
  },
} satisfies Evaluation;
