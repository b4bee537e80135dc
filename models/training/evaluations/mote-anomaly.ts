import { existsSync } from 'node:fs';
import { join } from 'node:path';
import mote from '../../../actors/kinds/mote.ts';
import { scoreDetectors } from '../../../services/load/detector-score.ts';
import { loadMap } from '../../../services/load/map.ts';
import { classScore } from '../class-scores.ts';
import type { Evaluation, EvaluationScore } from '../evaluation.ts';
import type { Rows } from '../rows.ts';
import type { ExportSpec } from '../spec.ts';

const SINGLE_HOP = 'lwsndr_motes/single_hop.csv.gz';
const LABELLED = { data: 'single_hop', split: 'motes 1 and 4, reading by reading' };
const EVENTS = { data: 'simulator', split: 'unseen seeds: heat and drift over 2 °C' };

/** The fused score on labelled readings of motes that no limit was set on, with the detectors of the kind beside it. */
export default {
  async evaluate({ card, heldOut, dataDir, rows, run, skip }) {
    const flags = async (of: Rows) =>
      Array.from((await run(of.features, of.count)).score, (score) => (score > card.output.threshold! ? 1 : 0));
    const scores: EvaluationScore[] = [];
    const tell = (truth: ArrayLike<number>, flagged: readonly number[], of: { data: string; split: string }) => {
      const { f1, precision, recall } = classScore(truth, flagged, 1);
      scores.push({ name: 'F1, fused', value: f1, ...of });
      scores.push({ name: 'precision, fused', value: precision, ...of });
      scores.push({ name: 'recall, fused', value: recall, ...of });
    };
    if (dataDir !== null && existsSync(join(dataDir, SINGLE_HOP))) {
      const all = await rows(heldOut.labelled as ExportSpec);
      const twin = all.column('twin');
      const labelled = all.where((row) => ['1', '4'].includes(all.twins[twin[row]]));
      tell(labelled.column('attribute.label'), await flags(labelled), LABELLED);
      const quiet = all.where((row) => ['2', '3'].includes(all.twins[twin[row]]));
      const alarms = (await flags(quiet)).filter(Boolean).length;
      scores.push({
        name: 'false alarms a thousand readings',
        value: (1000 * alarms) / quiet.count,
        data: 'single_hop',
        split: 'motes 2 and 3, on which the limits were set',
      });
      const { twins } = await scoreDetectors(mote, loadMap('single-hop'), 'label', join(dataDir, SINGLE_HOP));
      const sum = (what: 'truePositives' | 'falsePositives' | 'falseNegatives') =>
        twins['mote:1'][what] + twins['mote:4'][what];
      const [tp, fp, fn] = [sum('truePositives'), sum('falsePositives'), sum('falseNegatives')];
      scores.push({ name: 'F1, detectors of the kind alone', value: (2 * tp) / (2 * tp + fp + fn), ...LABELLED });
      scores.push({ name: 'precision, detectors of the kind alone', value: tp / (tp + fp), ...LABELLED });
      scores.push({ name: 'recall, detectors of the kind alone', value: tp / (tp + fn), ...LABELLED });
    } else skip('labelled motes', `${SINGLE_HOP} is not there`);
    const simulated = await rows(heldOut.events as ExportSpec);
    const [charge, temperature] = [simulated.column('truth.charge'), simulated.feature('temperature')];
    const events = simulated.where((row) => charge[row] > 0.3 && temperature[row] < 100);
    const [heat, drift] = [events.column('truth.heat'), events.column('truth.drift')];
    const wrong = heat.map((degrees, row) => (degrees > 2 || drift[row] > 2 ? 1 : 0));
    tell(wrong, await flags(events), EVENTS);
    const motes = await rows(heldOut.calm as ExportSpec);
    const [left, degrees] = [motes.column('truth.charge'), motes.feature('temperature')];
    const calm = motes.where((row) => left[row] > 0.3 && degrees[row] < 60);
    const alarms = (await flags(calm)).filter(Boolean).length;
    scores.push({
      name: 'false alarms a thousand readings',
      value: (1000 * alarms) / calm.count,
      data: 'simulator',
      split: 'unseen seeds, sound motes',
    });
    return scores;
  },
} satisfies Evaluation;
