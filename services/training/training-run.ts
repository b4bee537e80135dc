import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Sql } from '../../actors/store/sql.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';
import { type CardScore, type ModelCard, parseCard } from '../../models/card.ts';
import { findModels, type ModelFolder } from '../../models/folder.ts';
import { Model } from '../../models/model.ts';
import { trainerEnv } from '../../models/training/python.ts';
import { type TrainOptions, train } from '../../models/training/training.ts';
import { compareVersions } from '../../models/version.ts';
import { listModels, registerTrained } from '../models/register.ts';
import { checkRoom, place, upload } from './artifacts.ts';
import { type Comparison, compareScores } from './comparison.ts';

/**
 * One training, from the queue to a registered candidate: train, check that what came out loads, hold it against the live version
 * on the same held-out rows, put it where inference finds it. It promotes nothing.
 */
export interface TrainingRunOptions {
  sql: Sql;
  model: string;
  /** Folders of models, the one for trained versions last. */
  roots: readonly string[];
  /** Null where a folder of this node is all there is. */
  objects: ObjectStore | null;
  /** Interpreter of a prepared environment; null where the trainer finds or makes one. */
  python?: string | null;
  signal: AbortSignal;
  onProgress(fraction: number, text: string): void;
  /** Stands in for the trainer in tests. */
  trainer?(options: TrainOptions): Promise<ModelCard>;
}

export interface Trained {
  card: ModelCard;
  folder: string;
  comparison: Comparison;
  /** Version that it was held against; null where none is live. */
  live: string | null;
}

const JUDGE = fileURLToPath(new URL('../../models/training/judge.ts', import.meta.url));
const JUDGE_MS = 10 * 60_000;
const run = promisify(execFile);

/** Throws what training throws, bad_model where the result does not load, unavailable where nothing can be written. */
export async function trainCandidate(options: TrainingRunOptions): Promise<Trained> {
  const { sql, model, roots, objects, signal, onProgress } = options;
  const own = roots[roots.length - 1];
  await checkRoom(own);
  const folders = (await findModels(roots)).get(model) ?? [];
  const registered = await listModels(sql, model);
  const version = nextVersion([...folders.map((each) => each.version), ...registered.map((each) => each.version)]);
  const live = registered.find(({ status }) => status === 'live')?.version ?? null;
  const scratch = await mkdtemp(join(tmpdir(), 'twinmesh-train-'));
  try {
    // of the whole: training takes most of the time, judging the rest
    const card = await (options.trainer ?? train)({
      model,
      out: scratch,
      version,
      python: options.python,
      signal,
      onProgress: (fraction, text) => onProgress(0.85 * fraction, text),
    });
    signal.throwIfAborted();
    onProgress(0.87, 'checking what came out');
    const loaded = await Model.load(scratch);
    await loaded.retire();
    onProgress(0.9, live === null ? 'nothing is live to compare with' : `comparing with ${model}@${live}`);
    const comparison = await compared(card, scratch, folders.find((each) => each.version === live) ?? null, options);
    signal.throwIfAborted();
    const folder = await place(scratch, own, model, card.version);
    if (objects !== null) await upload(objects, folder, model, card.version);
    await registerTrained(sql, card);
    return { card, folder, comparison, live };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** On the held-out rows of the candidate; by the cards alone where they cannot be judged so. */
async function compared(
  card: ModelCard,
  scratch: string,
  live: ModelFolder | null,
  { signal, onProgress }: TrainingRunOptions,
): Promise<Comparison> {
  if (live === null) return compareScores(card.scores, [], 'their cards');
  try {
    const { stdout } = await run(process.execPath, [JUDGE, scratch, live.path], {
      signal,
      env: trainerEnv(),
      timeout: JUDGE_MS,
      maxBuffer: 8 * 1_048_576,
    });
    const [mine, its] = JSON.parse(stdout) as CardScore[][];
    if (mine.length > 0) return compareScores(mine, its, 'the same held-out rows');
  } catch (error) {
    signal.throwIfAborted();
    onProgress(
      0.92,
      `the held-out rows could not be judged (${(error as Error).message.split('\n')[0]}); cards are compared`,
    );
  }
  const text = await readFile(join(live.path, 'card.json'), 'utf8');
  return compareScores(card.scores, parseCard(text).scores, 'their cards');
}

/** The next minor version after all there are: 1.4.2 → 1.5.0. */
export function nextVersion(versions: readonly string[]): string {
  const newest = [...versions].sort(compareVersions).at(-1);
  if (newest === undefined) return '1.0.0';
  const [major, minor] = newest.split('.').map(Number);
  return `${major}.${minor + 1}.0`;
}
