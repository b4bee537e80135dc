import { parseArgs } from 'node:util';
import { messageOf } from '../../actors/protocol/errors.ts';
import { dataFolder } from './data-folder.ts';
import type { EvaluationScore } from './evaluation.ts';
import { exportRows } from './export.ts';
import { judgeFolder } from './judging.ts';
import type { Rows } from './rows.ts';
import type { ExportSpec } from './spec.ts';

/**
 * Judges versions of one model on the held-out rows of the first: `judge.ts FOLDER FOLDER…` prints a JSON array, the scores of
 * each folder. A process of its own, because making the rows keeps a processor busy for seconds.
 */
export async function judge(folders: readonly string[], dataDir: string | null): Promise<EvaluationScore[][]> {
  const all: EvaluationScore[][] = [];
  // the same rows for all of them are made once
  const made = new Map<string, Promise<Rows>>();
  const rows = (spec: ExportSpec): Promise<Rows> => {
    const key = JSON.stringify(spec);
    const known = made.get(key) ?? exportRows(spec, { dataDir }).then((exported) => exported.rows);
    made.set(key, known);
    return known;
  };
  const skip = (what: string, why: string) => void process.stderr.write(`skipped ${what}: ${why}\n`);
  for (const folder of folders) {
    const { scores } = await judgeFolder(folder, { heldOutIn: folders[0], dataDir, rows, skip });
    all.push(scores);
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
