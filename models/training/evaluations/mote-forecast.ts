import type { Evaluation, EvaluationContext, EvaluationScore } from '../evaluation.ts';
import type { Rows } from '../rows.ts';
import { coverage, mae } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const METRICS = ['temperature', 'humidity'];

/** The hour ahead on a day that lies after all of training, against "as it is" and "as it was yesterday". */
export default {
  async evaluate(context) {
    const { heldOut, rows, dataDir, skip } = context;
    const scores: EvaluationScore[] = [];
    if (dataDir === null) skip('intel_lab_30min', 'there is no data folder');
    else {
      const lab = await rows(heldOut.lab as ExportSpec);
      const at = lab.column('at');
      const twin = lab.column('twin');
      const told = lab.column('ahead.temperature');
      const first = Math.floor(Math.min(...at) / DAY_MS);
      const isLast = (row: number) => Math.floor(at[row] / DAY_MS) - first === 2 && Number.isFinite(told[row]);
      const before = Object.fromEntries(
        METRICS.map((metric) => {
          const values = lab.feature(metric);
          return [metric, new Map(Array.from(values, (value, row) => [`${twin[row]} ${at[row]}`, value]))];
        }),
      );
      const yesterday = (of: Rows, metric: string) => {
        const [twins, times] = [of.column('twin'), of.column('at')];
        return times.map((time, row) => before[metric].get(`${twins[row]} ${time - 23 * HOUR_MS}`) ?? Number.NaN);
      };
      const splits: [string, (row: number) => boolean][] = [
        ['day 3, all motes', isLast],
        ['day 3, motes left out', (row) => isLast(row) && twin[row] % 5 === 2],
      ];
      for (const [split, keep] of splits)
        scores.push(...(await judged(context, lab.where(keep), { data: 'intel_lab_30min', split }, yesterday)));
    }
    const motes = await rows(heldOut.simulator as ExportSpec);
    const [told, now] = [motes.column('ahead.temperature'), motes.feature('temperature')];
    const sound = motes.where((row) => Number.isFinite(told[row]) && Math.abs(now[row]) < 60);
    return [...scores, ...(await judged(context, sound, { data: 'simulator', split: 'unseen seed' }, null))];
  },
} satisfies Evaluation;

async function judged(
  { run }: EvaluationContext,
  held: Rows,
  of: { data: string; split: string },
  yesterday: ((of: Rows, metric: string) => Float64Array) | null,
): Promise<EvaluationScore[]> {
  const { forecast, lo, hi } = await run(held.features, held.count);
  return METRICS.flatMap((metric, m) => {
    const truth = held.column(`ahead.${metric}`);
    const column = (tensor: Float32Array) => truth.map((_, row) => tensor[row * METRICS.length + m]);
    const value = mae(truth, column(forecast));
    const against = (name: string, floor: Float64Array): EvaluationScore => ({
      ...of,
      name: `MAE ${metric}, against ${name}`,
      value,
      floor: { name, value: mae(truth, floor) },
    });
    const scores = [against('persistence', held.feature(metric))];
    if (yesterday !== null) {
      scores.push(against('same hour yesterday', yesterday(held, metric)));
      scores.push({ ...of, name: `coverage ${metric}`, value: coverage(truth, column(lo), column(hi)) });
    }
    return scores;
  });
}
