import type { Evaluation } from '../evaluation.ts';
import { auc, expectedCalibrationError } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';

/** Failing or not, on simulated packs of seeds that training has not seen. */
const evaluation: Evaluation = {
  async evaluate({ card, heldOut, rows, run }) {
    const { spec, faults } = heldOut as { spec: ExportSpec; faults: number[] };
    const held = await rows(spec);
    const scenario = held.column('scenario');
    const extent = held.column('truth.fault');
    const truth = scenario.map((which, i) => (faults.includes(which) && extent[i] > 0 ? 1 : 0));
    const { value } = await run(held.features, held.count);
    const of = { data: 'simulated packs', split: String(card.training.split) };
    return [
      { ...of, name: 'AUC', value: auc(truth, value) },
      { ...of, name: 'calibration error', value: expectedCalibrationError(truth, value) },
    ];
  },
};

export default evaluation;
