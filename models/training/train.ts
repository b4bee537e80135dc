import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { ModelCard } from '../card.ts';
import { dataFolder } from './data-folder.ts';
import { committedCard, MODELS_FOLDER, train, trainableModels } from './training.ts';

/** `npm run train`: trains a model anew and holds its scores against those of its card. */
const HELP = `npm run train -- MODEL… [--data DIR] [--check] [--version V] [--out DIR]

Trains models (${trainableModels().join(', ')}; "all")
and writes models/MODEL/VERSION/{model.onnx, card.json, parity.json, held-out.json}. Needs Python 3.11 or newer and, the first
time, a package index; the packages are kept in ~/.cache/twinmesh. TRAINING_PYTHON names the interpreter of an environment that has
them already.

  --data DIR    real data; default TWINMESH_DATA, else ../shared/data beside the checkout
  --check       writes nothing: exit code 1 where a score differs from the card's
  --version V   of what is written; default that of the trainer
  --out DIR     writes DIR/MODEL/VERSION instead
`;

/** The same seed gives the same score; another processor may round another way. */
const SAME = { relative: 0.002, absolute: 0.0005 };

export interface ScoreChange {
  name: string;
  data: string;
  before: number | null;
  now: number | null;
  isSame: boolean;
}

/** Scores of two cards side by side. */
export function scoreChanges(before: ModelCard | null, now: ModelCard): ScoreChange[] {
  const keyOf = ({ name, data, split }: { name: string; data: string; split: string }) => `${name}\n${data}\n${split}`;
  const old = new Map((before?.scores ?? []).map((score) => [keyOf(score), score]));
  const changes = now.scores.map((score): ScoreChange => {
    const was = old.get(keyOf(score));
    old.delete(keyOf(score));
    const isSame =
      was !== undefined && Math.abs(was.value - score.value) <= SAME.absolute + SAME.relative * Math.abs(was.value);
    return { name: score.name, data: score.data, before: was?.value ?? null, now: score.value, isSame };
  });
  for (const { name, data, value } of old.values())
    changes.push({ name, data, before: value, now: null, isSame: false });
  return changes;
}

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    options: {
      data: text,
      version: text,
      out: text,
      check: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
    allowPositionals: true,
  });
  if (values.help || positionals.length === 0) {
    process.stdout.write(HELP);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const models = positionals.includes('all') ? trainableModels() : positionals;
  for (const model of models) {
    const before = committedCard(model)?.card ?? null;
    const scratch = mkdtempSync(join(tmpdir(), 'twinmesh-train-'));
    try {
      const startedAt = performance.now();
      const say = (line: string) => process.stdout.write(`${model}  ${line}\n`);
      const card = await train({
        model,
        out: scratch,
        version: values.version,
        dataDir: dataFolder(values.data),
        onProgress: (fraction, what) => say(`${String(Math.round(100 * fraction)).padStart(3)} %  ${what}`),
        onLine: say,
        signal: stop.signal,
      });
      const changes = scoreChanges(before, card);
      for (const { name, data, before: was, now, isSame } of changes)
        say(
          `${isSame ? 'same' : was === null ? 'new' : 'differs'}  ${name} on ${data}: ${now ?? 'none'}, card ${was ?? 'none'}`,
        );
      say(`${Math.round((performance.now() - startedAt) / 1000)} s`);
      if (values.check) {
        if (changes.some(({ isSame }) => !isSame)) process.exitCode = 1;
        continue;
      }
      const folder = join(values.out ? resolve(values.out) : MODELS_FOLDER, model, card.version);
      mkdirSync(folder, { recursive: true });
      cpSync(scratch, folder, { recursive: true });
      say(`written to ${relative(process.cwd(), folder) || folder}`);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }
}

if (import.meta.main) {
  main().catch((error) => {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 1;
  });
}
