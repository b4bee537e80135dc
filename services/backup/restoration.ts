import fs from 'node:fs';
import { join, resolve } from 'node:path';
import type { StreamCopy } from '../../actors/log/jetstream-copy.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { MIGRATIONS } from '../../actors/store/schema.ts';
import { type Settings, SettingsError } from '../../config/settings.ts';
import { databaseUrlOf } from '../parts.ts';
import { openStream, type Tell } from './backup.ts';
import { mustBeEqual, restoreClusterOf } from './data-folder.ts';
import { DUMP_FILE, restoreOf, rowsOf, settle } from './database.ts';
import { openBackup } from './folder.ts';
import { LOG_FILE, readLogFile } from './log-file.ts';
import type { Manifest } from './manifest.ts';

/**
 * Puts a backup back, into an empty database and an empty log only.
 *
 *  1 Everything that can be refused is refused before anything is written.
 *  2 Nodes do not start on a database before its last row is in, and that comes when log and rows are there: what is
 *    left of a restore that was broken off is thrown away, never mended.
 */
const APPENDS_AT_ONCE = 512;

export async function restore(settings: Settings, from: string, tell: Tell): Promise<Manifest> {
  tell('checking the sums of the backup');
  const { folder, manifest } = await openBackup(from);
  await mustFit(settings, manifest, tell);
  if (manifest.database === 'embedded') {
    const put = restoreClusterOf(resolve(settings.dataDir));
    tell('restoring the embedded database');
    await put(folder, manifest);
    return manifest;
  }
  await served(settings, folder, manifest, tell);
  return manifest;
}

async function served(settings: Settings, folder: string, manifest: Manifest, tell: Tell): Promise<void> {
  const url = databaseUrlOf(settings);
  const stream = settings.natsUrl === null ? null : await openStream(settings);
  try {
    if (stream) await mustBeEmpty(stream);
    // Counting the rows of a large table takes longer than a query of people may.
    const sql = await Pg.open({ url, statementTimeoutMs: 0, applicationName: 'twinmesh restore' });
    try {
      const put = await restoreOf(url, sql, manifest.timescale);
      tell('restoring the database');
      await put(join(folder, DUMP_FILE));
      mustBeEqual(manifest.rows, await rowsOf(sql, Object.keys(manifest.rows)));
      if (stream) {
        tell('putting the messages into the log');
        await putLog(stream, folder, manifest);
      }
      await settle(sql, manifest.settings);
    } finally {
      await sql.close();
    }
  } finally {
    await stream?.close();
  }
}

async function mustFit(settings: Settings, manifest: Manifest, tell: Tell): Promise<void> {
  const { database, schemaVersion, shards, log } = manifest;
  const faults: string[] = [];
  if (database === 'postgres' && settings.databaseUrl === null)
    faults.push('The backup is one of PostgreSQL: set DATABASE_URL to an empty database.');
  if (database === 'embedded' && settings.databaseUrl !== null)
    faults.push('The backup is one of the embedded database: unset DATABASE_URL, and set DATA_DIR to a new folder.');
  if (settings.shards !== shards) faults.push(`The backup has ${shards} shards: set SHARDS=${shards}.`);
  if (log !== null && log.messages > 0 && settings.natsUrl === null)
    faults.push(`The backup holds ${log.messages} messages of the log: set NATS_URL to a NATS server for them.`);
  if (faults.length > 0) throw new SettingsError(faults);
  const { version: newest } = MIGRATIONS[MIGRATIONS.length - 1];
  if (schemaVersion > newest)
    throw new TwinmeshError(
      'newer_schema',
      `The backup has schema version ${schemaVersion}; this program knows up to ${newest}.`,
    );
  const here = await loadKinds(settings.kindsDir === null ? [] : [resolve(settings.kindsDir)]);
  for (const { kind, version } of manifest.kinds) {
    if (!here.has(kind)) tell(`there is no kind "${kind}" here: its twins rest until KINDS_DIR brings it`);
    else if (here.get(kind).version < version)
      throw new TwinmeshError(
        'newer_snapshot',
        `The backup has version ${version} of the kind ${kind}; this program knows ${here.get(kind).version}.`,
      );
  }
}

async function mustBeEmpty(stream: StreamCopy): Promise<void> {
  const state = await stream.state();
  if (state === null || state.messages === 0) return;
  throw new TwinmeshError(
    'conflict',
    `The log of NATS_URL holds ${state.messages} messages. Use a new NATS server, or remove its stream (nats stream rm TWINS) when nobody needs it.`,
  );
}

/** In the order of the file, which is that of each shard. */
async function putLog(stream: StreamCopy, folder: string, { log }: Manifest): Promise<void> {
  await stream.make();
  const file = join(folder, LOG_FILE);
  if (log === null || !fs.existsSync(file)) return;
  const underWay: Promise<unknown>[] = [];
  let messages = 0;
  for await (const message of readLogFile(file)) {
    messages++;
    const appended = stream.append(message);
    appended.catch(() => undefined);
    underWay.push(appended);
    if (underWay.length >= APPENDS_AT_ONCE) await underWay.shift();
  }
  await Promise.all(underWay);
  if (messages !== log.messages)
    throw new TwinmeshError('bad_request', `${LOG_FILE} holds ${messages} messages instead of ${log.messages}.`);
}
