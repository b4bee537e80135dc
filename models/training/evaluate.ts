import { parseArgs } from 'node:util';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { ModelCard } from '../card.ts';
import { dataFolder } from './data-folder.ts';
import type { EvaluationScore } from './evaluation.ts';
import { exportRows } from './export.ts';
import { judgeFolder } from './judging.ts';
import { committedCard, trainableModels } from './training.ts';

/** `npm run eval:models`: runs each model's ONNX file on what its training has not seen. */
const HELP = `npm run eval:models -- [MODEL…] [--data DIR] [--json]

Makes held-out rows anew (simulated ones, and those of real data where it is there), asks each ONNX file in ONNX Runtime for
Node, and prints one table: model, data, split, score, the card's own, floor, the field's best with source.

  --data DIR   real data; default TWINMESH_DATA, else ../shared/data beside the checkout
  --json       an array of objects instead of the table
`;

export interface Judged extends EvaluationScore {
  model: string;
  /** The same score in the card; null where it has none. */
  card: number | null;
  best: { name: string; value: number; source: string } | null;
}

/** Scores of one model; `skip` is told what cannot be judged. */
export async function evaluateModel(
  model: string,
  dataDir: string | null,
  skip: (what: string, why: string) => void,
): Promise<Judged[]> {
  const committed = committedCard(model);
  if (committed === null) throw new TwinmeshError('not_found', `models/${model} holds no version.`);
  const { folder } = committed;
  const { id, card, scores } = await judgeFolder(folder, {
    heldOutIn: folder,
    dataDir,
    rows: async (spec) => (await exportRows(spec, { dataDir })).rows,
    skip,
  });
  return scores.map((score) => ({ ...score, model: id, ...cardScore(card, score) }));
}

function cardScore(card: ModelCard, { name, data, split, floor }: EvaluationScore) {
  const told = card.scores.find((score) => score.name === name && score.data === data && score.split === split);
  const own = floor ?? told?.floor;
  return { card: told?.value ?? null, best: told?.best ?? null, ...(own === undefined ? {} : { floor: own }) };
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { data: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  });
  if (values.help) return void process.stdout.write(HELP);
  const models = positionals.length > 0 ? positionals : trainableModels();
  const strangers = models.filter((model) => !trainableModels().includes(model));
  if (strangers.length > 0)
    throw new TwinmeshError(
      'not_found',
      `There is no ${strangers.join(', ')}; there is ${trainableModels().join(', ')}.`,
    );
  const judged: Judged[] = [];
  const skipped: string[] = [];
  for (const model of models) {
    const skip = (what: string, why: string) => void skipped.push(`${model}: ${what}: ${why}`);
    try {
      process.stderr.write(`${model} …\n`);
      judged.push(...(await evaluateModel(model, dataFolder(values.data), skip)));
    } catch (error) {
      skip('not judged', messageOf(error));
      if (!(error instanceof TwinmeshError && error.code === 'not_found')) process.exitCode = 1;
    }
  }
  if (values.json) process.stdout.write(`${JSON.stringify({ judged, skipped }, null, 2)}\n`);
  else {
    process.stdout.write(tableOf(judged));
    for (const line of skipped) process.stdout.write(`skipped  ${line}\n`);
  }
}

function tableOf(judged: readonly Judged[]): string {
  const number = (value: number | null | undefined) =>
    value === null || value === undefined ? '' : value.toPrecision(4);
  const cells = judged.map((j) => [
    j.model,
    j.data,
    j.split,
    j.name,
    number(j.value),
    number(j.card),
    j.floor ? `${number(j.floor.value)} ${j.floor.name}` : '',
    j.best ? `${number(j.best.value)} ${j.best.name} (${j.best.source})` : '',
  ]);
  const all = [['model', 'data', 'split', 'score', 'value', 'card', 'floor', "field's best (source)"], ...cells];
  const widths = all[0].map((_, i) => Math.max(...all.map((row) => row[i].length)));
  return all
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i]))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

if (import.meta.main) {
  main().catch((error) => {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 1;
  });
}
