import type { Evaluation, EvaluationScore } from '../evaluation.ts';
import type { Rows } from '../rows.ts';
import { coverage, mae, r2 } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';

/** Cycles left, on simulated packs: outside the ageing of training, inside it, faster than it, and known for hours only. */
const FLOOR = 'straight line through SoH';

/** State of health against cycles over three months as a line, carried on to 80 %. */
function line(rows: Rows, cap: number): Float64Array {
  const [fades, healths, cycles, middles] = ['fade', 'soh.90d.mean', 'cycles', 'cycles.90d.mean'].map((n) =>
    rows.feature(n),
  );
  return fades.map((told, i) => {
    const fade = Math.max(told, 1e-6);
    const now = healths[i] - fade * (cycles[i] - middles[i]);
    return Math.min(cap, Math.max(0, (now - 80) / fade));
  });
}

const evaluation: Evaluation = {
  async evaluate({ card, heldOut, rows, run }) {
    const sets = heldOut as { outside: ExportSpec[]; inside: ExportSpec; fast: ExportSpec; hours: ExportSpec };
    const cap = card.output.range?.[1] ?? Number.POSITIVE_INFINITY;
    const judge = async (data: string, specs: readonly ExportSpec[], withLine: boolean): Promise<EvaluationScore[]> => {
      const truth: number[] = [];
      const said: number[][] = [[], [], []];
      const lines: number[] = [];
      for (const spec of specs) {
        const all = await rows(spec);
        const left = all.column('truth.rul');
        const alive = all.where((row) => left[row] > 0);
        for (const cycles of alive.column('truth.rul')) truth.push(Math.min(cap, cycles));
        const answer = await run(alive.features, alive.count);
        [answer.value, answer.lo, answer.hi].forEach((values, i) => {
          for (const value of values) said[i].push(value);
        });
        if (withLine) for (const value of line(alive, cap)) lines.push(value);
      }
      const near = (values: readonly number[]) => values.filter((_, i) => truth[i] < cap);
      const told = card.scores.find((score) => score.data === data);
      const of = { data, split: told?.split ?? '' };
      const floor = (value: number) => (withLine ? { floor: { name: FLOOR, value } } : {});
      return [
        { ...of, name: 'RUL MAE', value: mae(truth, said[0]), ...(withLine && floor(mae(truth, lines))) },
        {
          ...of,
          name: 'RUL MAE below the bound',
          value: mae(near(truth), near(said[0])),
          ...(withLine && floor(mae(near(truth), near(lines)))),
        },
        { ...of, name: 'RUL R²', value: r2(truth, said[0]), ...(withLine && floor(r2(truth, lines))) },
        { ...of, name: 'coverage of the interval', value: coverage(truth, said[1], said[2]) },
      ];
    };
    return [
      ...(await judge('simulated packs, ageing outside training, 2 % noise', sets.outside, true)),
      ...(await judge('simulated packs, 2 % noise', [sets.inside], true)),
      ...(await judge('simulated packs that wear faster than any of training, 2 % noise', [sets.fast], true)),
      ...(await judge('simulated packs known for hours, 2 % noise', [sets.hours], false)),
    ];
  },
};

export default evaluation;
