import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Evaluation } from '../evaluation.ts';
import { coverage, rmse } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';

const DATA = 'C-MAPSS test_FD001';
const SPLIT = "the benchmark's own: 100 engines cut off before their end, judged at their last flight";
const CAP = 125;

/** Saxena et al., PHM 2008: late costs more than early; a sum over engines. */
export function phm08(truth: ArrayLike<number>, predicted: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < truth.length; i++) {
    const late = predicted[i] - truth[i];
    sum += late < 0 ? Math.expm1(-late / 13) : Math.expm1(late / 10);
  }
  return sum;
}

/** FD001 through the runtime: each engine's flights are folded by the kind, and the newest state is asked about. */
export default {
  async evaluate({ heldOut, dataDir, rows, run, skip }) {
    const truthFile = dataDir === null ? null : join(dataDir, 'cmapss', 'RUL_FD001.txt');
    if (truthFile === null || !existsSync(truthFile)) {
      skip(DATA, 'the data folder has no cmapss');
      return [];
    }
    const flights = readFileSync(truthFile, 'utf8').trim().split(/\s+/).map(Number);
    const test = await rows(heldOut.test as ExportSpec);
    const answers = await run(test.features as Float32Array, test.count);
    const engines = [...test.column('twin')].map((twin) => Number(test.twins[twin].split('-')[1]));
    const truth = engines.map((engine) => flights[engine - 1]);
    const within = truth.map((value) => Math.min(value, CAP));
    const score = (name: string, value: number) => ({ name, data: DATA, split: SPLIT, value });
    return [
      score('RMSE of flights (capped at 125)', rmse(within, answers.value)),
      score('RMSE of flights (truth not capped)', rmse(truth, answers.value)),
      score('PHM08 score (capped at 125)', phm08(within, answers.value)),
      score('PHM08 score (truth not capped)', phm08(truth, answers.value)),
      score('coverage of the 90 % interval (capped at 125)', coverage(within, answers.lo, answers.hi)),
    ];
  },
} satisfies Evaluation;
