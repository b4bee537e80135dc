import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { type ModelCard, parseCard } from '../card.ts';
import { compareVersions, isVersion } from '../version.ts';
import { dataFolder } from './data-folder.ts';
import { pythonInterpreter, runProgram, trainerEnv } from './python.ts';

/** Trains one model by its script `models/training/<model>.py`, in the pinned Python environment. */
export interface TrainOptions {
  model: string;
  /** Folder that gets model.onnx, card.json, parity.json and held-out.json. */
  out: string;
  /** Default: the version that the script says. */
  version?: string;
  /** Real data; null where there is none. Default: TWINMESH_DATA, else ../shared/data beside the checkout. */
  dataDir?: string | null;
  /** Interpreter of a prepared environment. Default: TRAINING_PYTHON, else one is made. */
  python?: string | null;
  onProgress?(fraction: number, text: string): void;
  /** Every other line that the trainer says. */
  onLine?(line: string): void;
  signal?: AbortSignal;
}

export const TRAINING_FOLDER = fileURLToPath(new URL('./', import.meta.url));
export const MODELS_FOLDER = fileURLToPath(new URL('../', import.meta.url));
const PROGRESS = /^progress (\d(?:\.\d+)?) (.*)$/;

/** Models that have a trainer, in order of name. */
export function trainableModels(): string[] {
  return readdirSync(TRAINING_FOLDER)
    .filter((file) => /^[a-z0-9-]+\.py$/.test(file))
    .map((file) => file.slice(0, -3))
    .sort();
}

/** The card of what has been trained. Throws bad_request for an unknown model or no Python, internal where the trainer fails, bad_model. */
export async function train(options: TrainOptions): Promise<ModelCard> {
  const { model, out, version, onProgress, signal } = options;
  const onLine = options.onLine ?? (() => undefined);
  if (!trainableModels().includes(model))
    throw new TwinmeshError(
      'bad_request',
      `There is no trainer of "${model}"; there is ${trainableModels().join(', ')}.`,
    );
  const dataDir = options.dataDir === undefined ? dataFolder() : options.dataDir;
  const python = await pythonInterpreter({ onLine, signal, prepared: options.python });
  mkdirSync(out, { recursive: true });
  const args = [join(TRAINING_FOLDER, `${model}.py`), '--out', out];
  if (version !== undefined) args.push('--version', version);
  if (dataDir !== null) args.push('--data', dataDir);
  const env = trainerEnv({ TWINMESH_NODE: process.execPath, PYTHONDONTWRITEBYTECODE: '1', PYTHONUNBUFFERED: '1' });
  const heard = (line: string) => {
    const progress = PROGRESS.exec(line);
    if (progress) onProgress?.(Number(progress[1]), progress[2]);
    else onLine(line);
  };
  await runProgram(python, args, { onLine: heard, signal }, env);
  return parseCard(readFileSync(join(out, 'card.json'), 'utf8'));
}

/** Newest version of a model in the project's own folder and its card; null where there is none. */
export function committedCard(model: string): { folder: string; card: ModelCard } | null {
  const folder = join(MODELS_FOLDER, model);
  const versions = existsSync(folder) ? readdirSync(folder).filter(isVersion).sort(compareVersions) : [];
  const newest = versions.at(-1);
  if (newest === undefined) return null;
  const path = join(folder, newest);
  return { folder: path, card: parseCard(readFileSync(join(path, 'card.json'), 'utf8')) };
}
