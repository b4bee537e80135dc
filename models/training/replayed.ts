import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { DOOR_LIMITS, Door } from '../../actors/ingress/door.ts';
import { eventTime } from '../../actors/ingress/event-time.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind, RawReading } from '../../actors/protocol/kind.ts';
import { twinIdOf } from '../../actors/protocol/twin-id.ts';
import { type FeatureReader, featureReader } from '../../actors/runtime/features.ts';
import { newState } from '../../actors/runtime/state.ts';
import { BEGINNING } from '../../services/load/block.ts';
import { openBlocks } from '../../services/load/layout.ts';
import { type DataMap, loadMap } from '../../services/load/map.ts';
import { Rows } from './rows.ts';
import { Sampler } from './sampling.ts';
import type { ExportSpec, FileSpec } from './spec.ts';

const MAPS = fileURLToPath(new URL('./maps/', import.meta.url));
/** Truth columns of a replayed row, before the attributes, the labels and what lies ahead. */
const COLUMNS = ['file', 'twin', 'at', 'elapsed'] as const;
const START_MS = Date.UTC(2020, 0, 1);

/** Paths of the spec that the data folder does not have. */
export function missingFiles(spec: ExportSpec, dataDir: string | null): string[] {
  const paths = (spec.files ?? []).flatMap((file) => [
    file.path,
    ...(file.beside ?? []),
    ...(file.labels ? [file.labels.path] : []),
  ]);
  return [...new Set(paths)].filter((path) => dataDir === null || !existsSync(join(dataDir, path)));
}

/**
 * Replays real files as readings of their twins, in the order of the file, and makes rows of the twins. Attributes of the
 * map that are numbers become truth columns `attribute.<name>` (NaN where they are text), labels `label.<column>`.
 */
export async function replayedRows(
  kind: Kind,
  spec: ExportSpec,
  dataDir: string | null,
  progress: (done: number, of: number) => void,
): Promise<Rows> {
  const missing = missingFiles(spec, dataDir);
  if (missing.length > 0) {
    const where = dataDir === null ? 'there is no data folder' : `${dataDir} lacks ${missing.slice(0, 3).join(', ')}`;
    throw new TwinmeshError('not_found', `Real data is needed and ${where}: name it by --data or TWINMESH_DATA.`);
  }
  const files = spec.files!;
  const maps = files.map((file) => loadMap(file.map.startsWith('./') ? join(MAPS, file.map) : file.map));
  const attributes = [...new Set(maps.flatMap((map) => Object.keys(map.attributes ?? {})))];
  const labels = [...new Set(files.flatMap((file) => file.labels?.columns ?? []))];
  const ahead = (spec.ahead?.metrics ?? []).map((metric) => `ahead.${metric}`);
  const reader = featureReader(kind, spec.inputs);
  const rows = new Rows(reader.names, [
    ...COLUMNS,
    ...attributes.map((name) => `attribute.${name}`),
    ...labels.map((name) => `label.${name}`),
    ...ahead,
  ]);
  for (let i = 0; i < files.length; i++) {
    await oneFile(
      kind,
      spec,
      { file: files[i], number: i, map: maps[i], dataDir: dataDir!, attributes, labels },
      reader,
      rows,
    );
    progress(i + 1, files.length);
  }
  return rows;
}

interface Which {
  file: FileSpec;
  number: number;
  map: DataMap;
  dataDir: string;
  attributes: readonly string[];
  labels: readonly string[];
}

async function oneFile(kind: Kind, spec: ExportSpec, which: Which, reader: FeatureReader, rows: Rows): Promise<void> {
  const { file, number, map, dataDir, attributes, labels } = which;
  const plan = { kind, map, startMs: START_MS, messageBytes: 1_048_576, decode: null };
  const [blocks] = await openBlocks(
    [file.path, ...(file.beside ?? [])].map((path) => join(dataDir, path)),
    plan,
  );
  const door = new Door({ ...DOOR_LIMITS, maxSkewMs: 0 });
  const samplers = new Map<string, Sampler>();
  const seen = new Map<string, Record<string, unknown>>();
  const table = file.labels === undefined ? null : labelTable(join(dataDir, file.labels.path), file.labels);
  const counted = chargeCounter(file);
  for await (const block of blocks.from(BEGINNING)) {
    for (const { attributes: told, ...raw } of block.readings) {
      counted(raw, told);
      const reading = door.admit(kind, raw, Number.POSITIVE_INFINITY);
      let sampler = samplers.get(reading.id);
      if (sampler === undefined) {
        const twin = rows.twins.push(`${reading.id}`) - 1;
        const firstAt = reading.at;
        sampler = new Sampler(
          newState(kind, twinIdOf(kind.kind, reading.id)),
          reader,
          rows,
          spec,
          (row, { id, at }) => {
            const facts = seen.get(id) ?? {};
            const found = table?.(id, facts) ?? null;
            const values = [
              number,
              twin,
              at,
              at - firstAt,
              ...attributes.map((name) => numberIn(facts[name])),
              ...labels.map((name) => numberIn(found?.[name])),
            ];
            values.forEach((value, i) => {
              rows.tell(row, i, value);
            });
          },
        );
        samplers.set(reading.id, sampler);
      }
      seen.set(reading.id, (told as Record<string, unknown> | undefined) ?? {});
      sampler.take(reading);
    }
  }
  for (const sampler of samplers.values()) sampler.end();
}

/** Adds the counted state of charge to readings, in place. */
function chargeCounter({ chargeCount }: FileSpec): (raw: RawReading, attributes: unknown) => void {
  if (chargeCount === undefined) return () => undefined;
  const { capacityAh, restartOn } = chargeCount;
  let within: unknown;
  let lastMs = 0;
  let lastA = 0;
  let soc = 100;
  return (raw, attributes) => {
    const now = (attributes as Record<string, unknown> | undefined)?.[restartOn];
    const ms = eventTime(raw.at, Number.POSITIVE_INFINITY, 0);
    // a reading without a current goes on with the one before
    const current = Number(raw.values.current ?? lastA);
    if (now !== within) soc = 100;
    else soc += ((((lastA + current) / 2) * (ms - lastMs)) / 3_600_000 / capacityAh) * 100;
    within = now;
    lastMs = ms;
    lastA = current;
    raw.values.soc = Math.min(100, Math.max(0, soc));
  };
}

function numberIn(value: unknown): number {
  return value === undefined || value === null || value === '' ? Number.NaN : Number(value);
}

/** Finds the row of a comma-separated table whose key columns are equal to the facts of a reading. */
function labelTable(
  path: string,
  { on }: NonNullable<FileSpec['labels']>,
): (id: string, facts: Record<string, unknown>) => Record<string, string> | null {
  const bytes = readFileSync(path);
  const text = (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString('utf8');
  const [head, ...lines] = text.split('\n').filter((line) => line.trim() !== '');
  const columns = head.trim().split(',');
  const keys = Object.values(on);
  const rows = new Map<string, Record<string, string>>();
  for (const line of lines) {
    const cells = line.trim().split(',');
    const row = Object.fromEntries(columns.map((name, i) => [name, cells[i] ?? '']));
    rows.set(keys.map((key) => keyOf(row[key])).join('|'), row);
  }
  const facts = Object.keys(on);
  return (id, told) => rows.get(facts.map((fact) => keyOf(fact === 'twin' ? id : told[fact])).join('|')) ?? null;
}

/** 7, "7" and "7.0" are one key. */
function keyOf(value: unknown): string {
  const number = numberIn(value);
  return Number.isNaN(number) ? String(value) : String(number);
}
