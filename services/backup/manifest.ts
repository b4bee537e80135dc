import { TwinmeshError } from '../../actors/protocol/errors.ts';

/** What a backup says of itself: manifest.json, written last, so that a folder without one is no whole backup. */
export const MANIFEST = 'manifest.json';
export const FORMAT = 1;

export interface Manifest {
  format: number;
  /** Version of the program that wrote it. */
  twinmesh: string;
  /** When the state of the database was taken, ISO 8601. */
  takenAt: string;
  database: 'postgres' | 'embedded';
  schemaVersion: number;
  shards: number;
  /** Version of the extension, null without it. */
  timescale: string | null;
  kinds: { kind: string; version: number }[];
  /** Rows of the table `settings`, which a restore puts in last: nodes refuse a database without them. */
  settings: { name: string; value: unknown }[];
  /** Rows of each other table. */
  rows: Record<string, number>;
  /** Messages that were in the log above what the database had committed; null where the log is not one of its own. */
  log: { messages: number; bytes: number; skipped: number } | null;
  /** Of every file, by its path in the folder. */
  files: Record<string, { bytes: number; sha256: string }>;
  /** Folders of an embedded database, some of which are empty and have to be there. */
  folders: string[];
}

/** Throws `bad_request` for what no backup of this format says. */
export function readManifest(text: string): Manifest {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(text);
  } catch {
    throw damaged('it is not JSON');
  }
  if (typeof manifest !== 'object' || manifest === null) throw damaged('it is not an object');
  const { format, database, schemaVersion, shards, timescale, kinds, settings, rows, log, files, folders } = manifest;
  if (format !== FORMAT)
    throw new TwinmeshError(
      'bad_request',
      `The backup has format ${String(format)}; this program reads ${FORMAT}. Use the version of twinmesh that made it.`,
    );
  if (database !== 'postgres' && database !== 'embedded') throw damaged('database');
  if (![schemaVersion, shards].every(isCount)) throw damaged('schemaVersion or shards');
  if (timescale !== null && typeof timescale !== 'string') throw damaged('timescale');
  if (!isListOf(kinds, ({ kind, version }) => typeof kind === 'string' && isCount(version))) throw damaged('kinds');
  if (!isListOf(settings, ({ name }) => typeof name === 'string')) throw damaged('settings');
  if (!isRecordOf(rows, isCount)) throw damaged('rows');
  if (log !== null && ![log?.messages, log?.bytes, log?.skipped].every(isCount)) throw damaged('log');
  const isFile = (file: unknown) =>
    isCount((file as { bytes?: unknown } | null)?.bytes) &&
    /^[0-9a-f]{64}$/.test(String((file as { sha256?: unknown }).sha256));
  if (!isRecordOf(files, isFile) || !Object.keys(files).every(isInside)) throw damaged('files');
  if (!Array.isArray(folders) || !folders.every((path) => typeof path === 'string' && isInside(path)))
    throw damaged('folders');
  return manifest;
}

function damaged(what: string): TwinmeshError {
  return new TwinmeshError('bad_request', `${MANIFEST} is damaged (${what}): take another backup.`);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isListOf(value: unknown, holds: (item: Record<string, unknown>) => boolean): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'object' && item !== null && holds(item));
}

function isRecordOf(value: unknown, holds: (item: unknown) => boolean): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every(holds);
}

/** A path that does not lead out of the folder. */
function isInside(path: string): boolean {
  return path !== '' && !/(^|\/)\.\.?(\/|$)|^\/|[\\\0]/.test(path);
}
