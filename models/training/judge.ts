import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../../actors/protocol/errors.ts';
import { Model } from '../model.ts';
import { dataFolder } from './data-folder.ts';
import type { Evaluation, EvaluationScore } from './evaluation.ts';
import { exportRows } from './export.ts';
import { TRAINING_FOLDER } from './training.ts';

/**
 * Judges versions of one model on the held-out rows of the first: `judge.ts FOLDER FOLDER…` prints a JSON array, the scores of
 * each folder. A process of its own, because making the rows keeps a processor busy for seconds.
 */
export async function judge(folders: readonly string[], dataDir: string | null): Promise<EvaluationScore[][]> {
  const all: EvaluationScore[][] = [];
  const heldOutPath = join(folders[0], 'held-out.json');
  const heldOut = existsSync(heldOutPath) ? JSON.parse(readFileSync(heldOutPath, 'utf8')) : {};
  for (const folder of folders) {
    const model = await Model.load(folder);
    try {
      const path = join(TRAINING_FOLDER, 'evaluations', `${model.card.name}.ts`);
      const { default: evaluation } = (await import(path)) as { default: Evaluation };
      all.push(
        await evaluation.evaluate({
          card: model.card,
          heldOut,
          dataDir,
          rows: async (spec) => (await exportRows(spec, { dataDir })).rows,
          run: async (inputs, rows) => {
            const tensors = await model.run(inputs, rows);
            return Object.fromEntries(Object.entries(tensors).map(([name, { data }]) => [name, data]));
          },
          skip: (what, why) => void process.stderr.write(`skipped ${what}: ${why}\n`),
        }),
      );
    } finally {
      await model.retire();
    }
  }
  return all;
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ options: { data: { type: 'string' } }, allowPositionals: true });
  judge(positionals, dataFolder(values.data)).then(
    (scores) => void process.stdout.write(JSON.stringify(scores)),
    (error) => {
      process.stderr.write(`${messageOf(error)}\n`);
      process.exitCode = 1;
    },
  );
}
