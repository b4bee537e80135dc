import { classScore, likeliest, macroF1 } from '../class-scores.ts';
import type { Evaluation, EvaluationScore } from '../evaluation.ts';
import type { ExportSpec } from '../spec.ts';

const OF = { data: 'simulator', split: 'unseen seeds' };
const MINUTE_MS = 60_000;

/** The classes on simulated motes of seeds that training has not seen. */
export default {
  async evaluate({ card, heldOut, rows, run }) {
    const held = await rows(heldOut.simulator as ExportSpec);
    const classes = card.output.classes!;
    const of = (name: string) => classes.indexOf(name);
    const [charge, astray, drift, stuck, dropout] = ['charge', 'astray', 'drift', 'stuck', 'dropout'].map((name) =>
      held.column(`truth.${name}`),
    );
    const truth = Array.from(charge, (left, row) => {
      if (stuck[row] > 0 || astray[row] > 0.3) return of('sensor_fault');
      if (drift[row] >= 1) return of('drifting');
      if (dropout[row] > 0) return of('silent_prone');
      return left < 0.2 ? of('low_battery') : of('ok');
    });
    const answer = likeliest((await run(held.features, held.count)).probabilities, classes.length);
    const since = held.column('since');
    const scenario = held.column('scenario');
    const where = (keep: (row: number) => boolean) => {
      const kept = truth.map((_, row) => row).filter(keep);
      return [kept.map((row) => truth[row]), kept.map((row) => answer[row])] as const;
    };
    const scores: EvaluationScore[] = [{ ...OF, name: 'macro F1', value: macroF1(truth, answer) }];
    for (const name of classes) {
      const { f1 } = classScore(truth, answer, of(name));
      scores.push({ ...OF, name: `F1 ${name}`, value: f1 });
    }
    const clear = where((row) => !(since[row] < 2 * MINUTE_MS));
    scores.push({
      name: 'macro F1',
      value: macroF1(...clear),
      data: OF.data,
      split: 'unseen seeds, from two minutes after a fault begins',
    });
    const [, said] = where((row) => scenario[row] < 0 && truth[row] === of('ok'));
    const right = said.filter((which) => which === of('ok')).length;
    return [...scores, { ...OF, name: 'share of sound readings called ok', value: right / said.length }];
  },
} satisfies Evaluation;
