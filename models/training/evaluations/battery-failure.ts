import type { Evaluation, EvaluationScore } from '../evaluation.ts';
import { missingFiles } from '../replayed.ts';
import { auc, expectedCalibrationError } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';

/**
 * Failing or not: on simulated packs of seeds that training has not seen, with and without a reported health; and how often it
 * is said of the sound pack of real drives that training has not seen.
 */
const ALARM = 0.6;
const DATA = {
  spec: 'simulated packs',
  bare: 'simulated packs without health and cycles',
  other: 'simulated packs without health and cycles, 38 to 122 Ah',
  coarse: 'simulated packs without health and cycles, 38 to 122 Ah, coarse sensors',
};
interface Sets {
  spec: ExportSpec;
  bare?: Record<'bare' | 'other' | 'coarse', ExportSpec>;
  drives?: ExportSpec;
  faults: number[];
}

const evaluation: Evaluation = {
  async evaluate({ card, heldOut, dataDir, rows, run, skip }) {
    const { spec, bare, drives, faults } = heldOut as unknown as Sets;
    const splitOf = (data: string) => card.scores.find((score) => score.data === data)?.split ?? '';
    const shareAbove = (values: Float32Array, of: (row: number) => boolean) => {
      const those = values.filter((_, row) => of(row));
      return those.filter((value) => value > ALARM).length / those.length;
    };
    const judge = async (data: string, set: ExportSpec): Promise<EvaluationScore[]> => {
      const held = await rows(set);
      const scenario = held.column('scenario');
      const extent = held.column('truth.fault');
      const truth = scenario.map((which, i) => (faults.includes(which) && extent[i] > 0 ? 1 : 0));
      const { value } = await run(held.features, held.count);
      const of = { data, split: splitOf(data) };
      return [
        { ...of, name: 'AUC', value: auc(truth, value) },
        { ...of, name: 'calibration error', value: expectedCalibrationError(truth, value) },
        { ...of, name: `share above ${ALARM}, sound packs`, value: shareAbove(value, (row) => scenario[row] < 0) },
        { ...of, name: `share above ${ALARM}, failing packs`, value: shareAbove(value, (row) => truth[row] === 1) },
      ];
    };
    const scores = await judge(DATA.spec, spec);
    for (const [name, set] of Object.entries(bare ?? {}))
      scores.push(...(await judge(DATA[name as keyof typeof DATA], set)));
    if (drives === undefined) return scores;
    const missing = missingFiles(drives, dataDir);
    if (missing.length > 0) {
      skip('bmw_i3_trips', `${missing.length} files are not there, ${missing[0]} among them`);
      return scores;
    }
    const real = await rows(drives);
    const { value } = await run(real.features, real.count);
    const of = { data: 'bmw_i3_trips', split: splitOf('bmw_i3_trips') };
    return [...scores, { ...of, name: `share above ${ALARM}, sound packs`, value: shareAbove(value, () => true) }];
  },
};

export default evaluation;
