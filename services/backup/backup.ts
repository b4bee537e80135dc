import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { StreamCopy } from '../../actors/log/jetstream-copy.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { HeldSnapshot } from '../../actors/store/held-snapshot.ts';
import type { Settings } from '../../config/settings.ts';
import { natsAccess } from '../../mixins/nats-access.ts';
import { databaseUrlOf } from '../parts.ts';
import { copyCluster, embeddedContents } from './data-folder.ts';
import { contentsOf, DUMP_FILE, dumpOf, positionsOf } from './database.ts';
import { BackupFolder, sumOf } from './folder.ts';
import { coverLog, doubtfulShards } from './log-cover.ts';
import { LOG_FILE, LogFile } from './log-file.ts';
import { FORMAT, type Manifest } from './manifest.ts';

/** Told of each step as it begins. */
export type Tell = (step: string) => void;

const NATS_WITHIN_MS = 10_000;

/**
 * Takes a backup: the database as of one moment, and every message of the log that it had not committed by then. Nodes
 * go on meanwhile, except on an embedded database. Answers what it wrote down.
 */
export async function backUp(settings: Settings, to: string, tell: Tell): Promise<Manifest> {
  const kinds = await loadKinds(settings.kindsDir === null ? [] : [resolve(settings.kindsDir)]);
  const about = {
    format: FORMAT,
    twinmesh: versionHere(),
    kinds: kinds.all().map(({ kind, version }) => ({ kind, version })),
  };
  const folder = BackupFolder.create(to);
  try {
    const taken =
      settings.databaseUrl === null ? await embedded(settings, folder, tell) : await served(settings, folder, tell);
    const manifest: Manifest = { ...about, ...taken };
    tell('flushing to the disk');
    folder.finish(manifest);
    return manifest;
  } catch (error) {
    folder.discard();
    throw error;
  }
}

type Taken = Omit<Manifest, 'format' | 'twinmesh' | 'kinds'>;

async function embedded({ dataDir }: Settings, folder: BackupFolder, tell: Tell): Promise<Taken> {
  const place = resolve(dataDir);
  tell('reading the embedded database');
  const contents = await embeddedContents(place);
  const takenAt = new Date().toISOString();
  tell('copying the embedded database');
  return { takenAt, database: 'embedded', ...contents, log: null, ...(await copyCluster(place, folder.path)) };
}

async function served(settings: Settings, folder: BackupFolder, tell: Tell): Promise<Taken> {
  const url = databaseUrlOf(settings);
  const stream = settings.natsUrl === null ? null : await openStream(settings);
  let snapshot: HeldSnapshot | null = null;
  try {
    const doubtful = stream && (await doubtfulBefore(url, stream));
    snapshot = await HeldSnapshot.open(url);
    const takenAt = new Date().toISOString();
    const held = snapshot;
    const dump = await dumpOf(url, held);
    tell('dumping the database');
    const dumping = dump(folder.file(DUMP_FILE));
    dumping.catch(() => undefined);
    let log: Manifest['log'] = null;
    const names = [DUMP_FILE];
    try {
      if (stream && doubtful) {
        tell('copying what the log holds above it');
        const file = new LogFile(folder.file(LOG_FILE));
        try {
          const { skipped } = await coverLog(stream, await positionsOf(held), doubtful, file);
          log = { messages: file.messages, bytes: file.bytes, skipped };
        } finally {
          await file.close();
        }
        names.push(LOG_FILE);
        tell(`${log.messages} messages of the log copied; the database is still being dumped`);
      }
    } finally {
      await dumping;
    }
    const contents = await contentsOf(held);
    const files: Manifest['files'] = {};
    for (const name of names) files[name] = await sumOf(folder.file(name));
    return { takenAt, database: 'postgres', ...contents, log, files, folders: [] };
  } finally {
    await snapshot?.close();
    await stream?.close();
  }
}

async function doubtfulBefore(url: string, stream: StreamCopy): Promise<Map<number, number>> {
  const before = await HeldSnapshot.open(url);
  try {
    await contentsAreThere(before);
    return await doubtfulShards(stream, await positionsOf(before));
  } finally {
    await before.close();
  }
}

/** A database that is not ours is refused before anything else is done with it. */
async function contentsAreThere(sql: HeldSnapshot): Promise<void> {
  const [{ there }] = await sql.query<{ there: boolean }>(`select to_regclass('shards') is not null as there`);
  if (!there) await contentsOf(sql);
}

export async function openStream(settings: Settings): Promise<StreamCopy> {
  return await StreamCopy.open(
    { ...natsAccess(settings, 'backup'), firstWithinMs: NATS_WITHIN_MS },
    { maxBytes: settings.logMaxBytes, replicas: settings.logReplicas },
    systemClock,
  );
}

function versionHere(): string {
  return String(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version);
}
