import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { messageOf } from '../../actors/protocol/errors.ts';
import { parseFeature } from '../../actors/protocol/feature.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { dataFolder } from './data-folder.ts';
import { replayedRows } from './replayed.ts';
import { makeRoom, touched } from './row-cache.ts';
import { type Rows, writeNpy } from './rows.ts';
import { simulatedRows } from './simulated.ts';
import { type ExportSpec, readSpec } from './spec.ts';

/**
 * Rows for training: simulated or real readings, folded by the very turn that serves, features read by the very reader
 * that serves, and the truth beside them.
 *
 *     node models/training/export.ts --spec SPEC.json --out DIR [--data DIR]
 *
 * writes DIR/features.npy (32 bit), DIR/truth.npy (64 bit) and DIR/rows.json { names, truthNames, twins, scenarios, count }.
 * What was written once for a spec, the code and the data files is kept in ~/.cache/twinmesh/rows, up to 2 GiB, and not made again.
 */
export async function exportRows(
  spec: ExportSpec,
  options: { dataDir?: string | null; progress?: (done: number, of: number) => void } = {},
): Promise<{ rows: Rows; kind: Kind; scenarios: string[] }> {
  const kinds = await loadKinds();
  const kind = kinds.get(spec.kind);
  const progress = options.progress ?? (() => undefined);
  const dataDir = options.dataDir === undefined ? dataFolder() : options.dataDir;
  const rows = spec.files ? await replayedRows(kind, spec, dataDir, progress) : simulatedRows(kind, spec, progress);
  return { rows, kind, scenarios: Object.keys(kind.simulator?.scenarios ?? {}) };
}

/** Unit and range of a feature for the model card; no range where only the data can say. */
function meaningOf(kind: Kind, name: string): { unit: string; min: number | null; max: number | null } {
  const feature = parseFeature(kind, name.replace(/\[\d+\]$/, ''));
  const metric = feature !== null && 'metric' in feature ? kind.metrics[feature.metric] : undefined;
  if (feature === null || metric === undefined)
    return { unit: '', min: feature?.type === 'hour' ? -1 : null, max: feature?.type === 'hour' ? 1 : null };
  const { unit, min, max } = metric;
  if (feature.type !== 'statistic') return { unit, min, max };
  switch (feature.statistic) {
    case 'count':
      return { unit: 'readings', min: 0, max: null };
    case 'std':
      return { unit, min: 0, max: max - min };
    case 'slope':
      return { unit: `${unit}/s`, min: null, max: null };
    case 'z':
      return { unit: 'standard deviations', min: null, max: null };
    default:
      return { unit, min, max };
  }
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Code that rows depend on. */
const SOURCES = [
  'actors/rolling',
  'actors/kinds/simulators',
  'actors/runtime/features.ts',
  'actors/runtime/foretelling.ts',
  'actors/runtime/turn.ts',
  'actors/runtime/layout.ts',
];
const OWN = ['export.ts', 'sampling.ts', 'simulated.ts', 'replayed.ts', 'spec.ts', 'maps'];

/** Where rows of a spec are kept: by the spec, the code that makes them, and the data files. */
export function cacheFolder(spec: ExportSpec, dataDir: string | null): string {
  const hash = createHash('sha256').update(JSON.stringify(spec));
  const read = (path: string): void => {
    if (statSync(path).isDirectory()) for (const file of readdirSync(path).sort()) read(join(path, file));
    else hash.update(readFileSync(path));
  };
  const kind = [`actors/kinds/${spec.kind}.ts`, `actors/kinds/simulators/${spec.kind}.ts`];
  for (const path of [...SOURCES, ...kind, ...OWN.map((file) => `models/training/${file}`)])
    if (existsSync(join(ROOT, path))) read(join(ROOT, path));
  for (const file of spec.files ?? [])
    for (const path of [file.path, ...(file.beside ?? []), file.labels?.path ?? '']) {
      const full = join(dataDir ?? '', path);
      if (path !== '' && existsSync(full)) hash.update(`${path} ${statSync(full).size} ${statSync(full).mtimeMs}`);
    }
  return join(homedir(), '.cache', 'twinmesh', 'rows', hash.digest('hex').slice(0, 24));
}

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({ options: { spec: text, out: text, data: text } });
  if (!values.spec || !values.out) throw new Error('export.ts --spec SPEC.json --out DIR [--data DIR]');
  const spec = readSpec(values.spec);
  const dataDir = dataFolder(values.data);
  const cached = cacheFolder(spec, dataDir);
  if (!existsSync(cached)) {
    let told = 0;
    const progress = (done: number, of: number) => {
      const percent = Math.floor((10 * done) / of) * 10;
      if (percent > told) process.stderr.write(`rows ${percent} %\n`);
      told = Math.max(told, percent);
    };
    const { rows, kind, scenarios } = await exportRows(spec, { dataDir, progress });
    const fresh = `${cached}.${process.pid}`;
    mkdirSync(fresh, { recursive: true });
    makeRoom(dirname(cached));
    writeNpy(join(fresh, 'features.npy'), rows.features, rows.names.length);
    writeNpy(join(fresh, 'truth.npy'), rows.truth, rows.truthNames.length);
    const { names, truthNames, twins, count } = rows;
    const inputs = names.map((name) => ({ name, ...meaningOf(kind, name) }));
    writeFileSync(join(fresh, 'rows.json'), JSON.stringify({ names, truthNames, twins, scenarios, count, inputs }));
    try {
      renameSync(fresh, cached);
    } catch (error) {
      // another trainer was quicker
      rmSync(fresh, { recursive: true, force: true });
      if (!existsSync(cached)) throw error;
    }
  }
  touched(cached);
  mkdirSync(values.out, { recursive: true });
  for (const file of readdirSync(cached)) writeFileSync(join(values.out, file), readFileSync(join(cached, file)));
}

if (import.meta.main) {
  main().catch((error) => {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 1;
  });
}
