import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Evaluation, EvaluationContext, EvaluationScore } from '../evaluation.ts';
import type { Rows } from '../rows.ts';
import { f1 } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';
import { scoreNab } from './nab.ts';

const METRICS = ['temperature', 'vibration', 'pressure', 'power'];
const SPLIT = 'simulated machines of seeds that training has not seen; threshold from training seeds of ordinary work';
const RAMPED = new Set(['bearing_wear', 'overheating', 'pressure_loss', 'drift']);
const BROKEN: Record<string, string> = {
  bearing_wear: 'vibration',
  overheating: 'temperature',
  pressure_loss: 'pressure',
  power_surge: 'power',
  drift: 'temperature',
};
const MINUTE = 60_000;

/**
 * Each failure scenario on machines of held-out seeds, reading by reading, with the z-score of the 5-minute window on the
 * same readings beside it.
 */
export default {
  async evaluate(context) {
    const scores: EvaluationScore[] = [];
    for (const [scenario, spec] of Object.entries(context.heldOut))
      scores.push(...(await scenarioScores(context, scenario, spec as ExportSpec)));
    context.skip('ai4i2020, hydraulic_zema', 'classifiers of their own, scored by the trainer only: see the card');
    const { dataDir } = context;
    if (dataDir === null || !existsSync(join(dataDir, 'nab'))) context.skip('nab', 'the data folder has none');
    else scores.push(scoreNab(dataDir));
    return scores;
  },
} satisfies Evaluation;

async function scenarioScores(
  { rows, run, card }: EvaluationContext,
  scenario: string,
  spec: ExportSpec,
): Promise<EvaluationScore[]> {
  const held = await rows(spec);
  const answers = await run(held.features as Float32Array, held.count);
  const z = await rows({ ...spec, inputs: METRICS.map((metric) => `${metric}.5m.z`) });
  const label = labelsOf(held, scenario);
  const counted = Array.from(label.keys()).filter((row) => label[row] >= 0);
  const truth = counted.map((row) => label[row]);
  const threshold = card.output.threshold as number;
  const isRare = (row: number) => METRICS.some((_, i) => Math.abs(z.features[row * METRICS.length + i]) > 3);
  const flagged = counted.map((row) => (answers.score[row] > threshold ? 1 : 0));
  const severity = (spec.simulator?.[0].scenarios?.severity ?? Number.NaN) as number;
  const score = (name: string, value: number) => ({ name, data: 'simulator', split: SPLIT, value });
  const floor = {
    name: 'z-score over 5 minutes',
    value: f1(
      truth,
      counted.map((row) => (isRare(row) ? 1 : 0)),
    ),
  };
  const out: EvaluationScore[] = [{ ...score(`F1 ${scenario} at severity ${severity}`, f1(truth, flagged)), floor }];
  const broken = BROKEN[scenario];
  if (broken === undefined) return out;
  const hits = counted.filter((row) => label[row] === 1 && answers.score[row] > threshold);
  const right = hits.filter((row) => largest(answers.contributions, row) === METRICS.indexOf(broken)).length;
  out.push(score(`largest contribution is ${broken} in ${scenario}`, right / hits.length));
  return out;
}

/** As the trainer labels: 1 where the scenario shows, 0 where all is well, −1 where neither is claimed. */
function labelsOf(held: Rows, scenario: string): Int8Array {
  const since = held.column('since');
  const severity = held.column('severity');
  const damage = held.column('truth.damage');
  return Int8Array.from(since, (ms, row) => {
    if (Number.isNaN(ms) || ms > 65 * MINUTE) return 0;
    if (ms > 20 * MINUTE) return -1;
    return RAMPED.has(scenario) && damage[row] < 0.2 * severity[row] ? -1 : 1;
  });
}

function largest(contributions: Float32Array, row: number): number {
  let best = 0;
  for (let i = 1; i < METRICS.length; i++)
    if (contributions[row * METRICS.length + i] > contributions[row * METRICS.length + best]) best = i;
  return best;
}
