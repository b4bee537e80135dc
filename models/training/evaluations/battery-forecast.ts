import type { Evaluation, EvaluationScore } from '../evaluation.ts';
import { missingFiles } from '../replayed.ts';
import type { Rows } from '../rows.ts';
import { rmse } from '../scores.ts';
import type { ExportSpec } from '../spec.ts';

/** Temperature and charge in five minutes, against "it stays as it is", on drives left out and on simulated packs. */
const evaluation: Evaluation = {
  async evaluate({ card, heldOut, dataDir, rows, run, skip }) {
    const sets = heldOut as { drives: ExportSpec; packs: ExportSpec };
    const metrics = card.output.metrics ?? [];
    const judge = async (data: string, spec: ExportSpec): Promise<EvaluationScore[]> => {
      const known = complete(await rows(spec), metrics);
      const { forecast } = await run(known.features, known.count);
      return metrics.map((metric, m) => {
        const truth = known.column(`ahead.${metric}`);
        const said = truth.map((_, i) => forecast[i * metrics.length + m]);
        const name = `${metric} RMSE`;
        const split = card.scores.find((score) => score.name === name && score.data === data)?.split ?? '';
        const floor = { name: 'persistence', value: rmse(truth, known.feature(metric)) };
        return { name, data, split, value: rmse(truth, said), floor };
      });
    };
    const scores: EvaluationScore[] = [];
    const missing = missingFiles(sets.drives, dataDir);
    if (missing.length === 0) scores.push(...(await judge('bmw_i3_trips', sets.drives)));
    else skip('bmw_i3_trips', `${missing.length} files are not there, ${missing[0]} among them`);
    return [...scores, ...(await judge('simulated packs', sets.packs))];
  },
};

/** Rows that have now and then of every metric. */
function complete(rows: Rows, metrics: readonly string[]): Rows {
  const needed = metrics.flatMap((metric) => [rows.column(`ahead.${metric}`), rows.feature(metric)]);
  return rows.where((row) => needed.every((column) => Number.isFinite(column[row])));
}

export default evaluation;
