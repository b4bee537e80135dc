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
    for (const [set, spec] of Object.entries(context.heldOut))
      scores.push(...(await scenarioScores(context, set, spec as ExportSpec)));
    context.skip('ai4i2020, hydraulic_zema', 'classifiers of their own, scored by the trainer only: see the card');
    const { dataDir } = context;
    if (dataDir === null || !existsSync(join(dataDir, 'nab'))) context.skip('nab', 'the data folder has none');
    else scores.push(scoreNab(dataDir));
    return scores;
  },
} satisfies Evaluation;

/** `set` is a scenario at the severity of its F1, or `<scenario> at <severity>`, of which the contributions alone are judged. */
async function scenarioScores(
  { rows, run, card }: EvaluationContext,
  set: string,
  spec: ExportSpec,
): Promise<EvaluationScore[]> {
  const [scenario, strong] = set.split(' at ');
  const held = await rows(spec);
  const answers = await run(held.features as Float32Array, held.count);
  const label = labelsOf(held, scenario);
  const threshold = card.output.threshold as number;
  const isFlagged = (row: number) => answers.score[row] > threshold;
  const score = (name: string, value: number) => ({ name, data: 'simulator', split: SPLIT, value });
  const out: EvaluationScore[] = [];
  if (strong === undefined) {
    const z = await rows({ ...spec, inputs: METRICS.map((metric) => `${metric}.5m.z`) });
    const isRare = (row: number) => METRICS.some((_, i) => Math.abs(z.features[row * METRICS.length + i]) > 3);
    const counted = Array.from(label.keys()).filter((row) => label[row] >= 0);
    const f1Of = (is: (row: number) => boolean) =>
      f1(
        counted.map((row) => label[row]),
        counted.map((row) => (is(row) ? 1 : 0)),
      );
    const severity = (spec.simulator?.[0].scenarios?.severity ?? Number.NaN) as number;
    const floor = { name: 'z-score over 5 minutes', value: f1Of(isRare) };
    out.push({ ...score(`F1 ${scenario} at severity ${severity}`, f1Of(isFlagged)), floor });
  }
  const broken = BROKEN[scenario];
  if (broken === undefined) return out;
  const at = strong === undefined ? '' : ` at severity ${strong}`;
  const share = (of: readonly number[]) =>
    of.filter((row) => largest(answers.contributions, row) === METRICS.indexOf(broken)).length / of.length;
  const hits = Array.from(label.keys()).filter((row) => label[row] === 1 && isFlagged(row));
  out.push(score(`largest contribution is ${broken} in ${scenario}${at}`, share(hits)));
  const first = `largest contribution is ${broken} at the first reading above the threshold in ${scenario}${at}`;
  out.push(score(first, share(firstOf(held, isFlagged))));
  return out;
}

/** The first flagged row of each run since its scenario began: the one that the event tells. */
function firstOf(held: Rows, isFlagged: (row: number) => boolean): number[] {
  const run = held.column('run');
  const since = held.column('since');
  const first = new Map<number, number>();
  for (let row = 0; row < held.count; row++)
    if (since[row] <= 20 * MINUTE && isFlagged(row) && !first.has(run[row])) first.set(run[row], row);
  return [...first.values()];
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
