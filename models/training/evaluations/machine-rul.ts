import type { Evaluation } from '../evaluation.ts';
import { coverage, mae } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';

const SPLIT = 'simulated machines of seeds that training and calibration have not seen';
const CAP_H = 500;
const LEAST_H = 0.02;

function medianError(truth: readonly number[], predicted: readonly number[]): number {
  const errors = truth.map((value, i) => Math.abs(value - predicted[i])).sort((a, b) => a - b);
  const half = errors.length >> 1;
  return errors.length % 2 === 1 ? errors[half] : (errors[half - 1] + errors[half]) / 2;
}

/** Machines of held-out seeds: sound ones, and such that wear out over minutes to weeks. */
export default {
  async evaluate({ heldOut, rows, run }) {
    const all = { truth: [] as number[], value: [] as number[], lo: [] as number[], hi: [] as number[] };
    const sound: number[] = [];
    for (const [set, spec] of Object.entries(heldOut)) {
      const held = await rows(spec as ExportSpec);
      const answers = await run(held.features as Float32Array, held.count);
      const hours = held.column('truth.hoursToFailure');
      const population = held.column('population');
      for (let row = 0; row < held.count; row++) {
        all.truth.push(Math.min(CAP_H, Math.max(LEAST_H, hours[row])));
        all.value.push(answers.value[row]);
        all.lo.push(answers.lo[row]);
        all.hi.push(answers.hi[row]);
        if (set !== 'fast' && population[row] === 0) sound.push(answers.value[row]);
      }
    }
    const of = (column: readonly number[], keep: (hours: number) => boolean) =>
      column.filter((_, row) => keep(all.truth[row]));
    const wearing = (hours: number) => hours < CAP_H;
    const soon = (hours: number) => hours < 20;
    const score = (name: string, value: number) => ({ name, data: 'simulator', split: SPLIT, value });
    return [
      score(
        'coverage of the 90 % interval, wearing machines',
        coverage(of(all.truth, wearing), of(all.lo, wearing), of(all.hi, wearing)),
      ),
      score('coverage of the 90 % interval, all machines', coverage(all.truth, all.lo, all.hi)),
      score(
        'mean error of ln hours, wearing machines',
        mae(of(all.truth, wearing).map(Math.log), of(all.value, wearing).map(Math.log)),
      ),
      score(
        'median error of hours where fewer than 20 are left',
        medianError(of(all.truth, soon), of(all.value, soon)),
      ),
      score('share of sound machines told 200 h or more', sound.filter((h) => h >= 200).length / sound.length),
    ];
  },
} satisfies Evaluation;
