import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { metricsOf } from '../actors/store/queries/history-table.ts';
import { spanOf } from '../actors/store/queries/span.ts';
import { findTwin } from '../actors/store/queries/twin-key.ts';
import type { Settings } from '../config/settings.ts';
import { openArchive } from './archive/open-archive.ts';
import { EXIT, faultText, isMendable } from './command-line.ts';
import { processSettings } from './config-file.ts';
import { control, isRunning } from './control-client.ts';
import { exportedFile, FORMATS, type Format, idsOf } from './export/exported-readings.ts';
import { createLogger } from './logger.ts';
import { openParts } from './parts.ts';
import { mustHoldData } from './present-data.ts';

/** `npm run export`: history into a file. */
const HELP = `Writes readings of one kind into a file, asset by asset, each in order of time.

  npm run -s export -- --kind mote --format parquet --out motes.parquet
  npm run -s export -- --kind machine --twins M1,M2 --metrics temperature --from 2026-01-01 --to 2026-02-01 --out m.csv

  --kind KIND       kind of asset
  --out FILE        file to write; it appears when it is whole
  --format FORMAT   csv or parquet; left out, the ending of FILE tells
  --from, --to      event time, from (in it) and to (not in it): ISO 8601 or epoch seconds or milliseconds
  --twins A,B       ids of assets; default all
  --metrics A,B     names of metrics; default all

What retention has dropped comes from the archive. With DATABASE_URL nodes go on meanwhile; the embedded database belongs to
its node: stop it, or ask it over HTTP (GET /api/v1/export/parquet).
`;

const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  kind: { type: 'string' },
  out: { type: 'string' },
  format: { type: 'string' },
  from: { type: 'string' },
  to: { type: 'string' },
  twins: { type: 'string' },
  metrics: { type: 'string' },
} as const;

/** Writes the file; answers what to print. Throws TwinmeshError, SettingsError. */
export async function exportHistory(args: string[]): Promise<string> {
  const { values } = optionsOf(args);
  if (values.help) return HELP;
  const { kind: name, out } = values;
  if (!name || !out)
    throw new TwinmeshError('bad_request', 'Say what and where: --kind KIND --out FILE; --help shows how.');
  const format = (values.format ?? out.split('.').at(-1)) as Format;
  if (!Object.hasOwn(FORMATS, format)) throw new TwinmeshError('bad_request', '--format takes csv or parquet.');
  const span = spanOf(values.from, values.to, ['--from', '--to']);
  const settings = processSettings();
  const logger = createLogger({ level: 'silent', format: 'json', node: settings.nodeId });
  if (settings.databaseUrl === null) await mustBeAlone(settings, format, name);
  mustHoldData(settings);
  const parts = await openParts({ ...settings, natsUrl: null }, { logger, startHost: false });
  const archive = openArchive(parts);
  try {
    const kind = parts.kinds.get(name);
    metricsOf(kind, values.metrics);
    const ids = values.twins === undefined ? undefined : idsOf(name, values.twins);
    for (const id of ids ?? []) await findTwin(parts.sql, `${name}:${id}`);
    const older = archive.reader();
    const progress = new Progress();
    const query = { ids, metric: values.metrics, span, pageRows: 5_000 };
    const file = exportedFile(format, parts.sql, kind, query, older, (rows) => progress.add(rows));
    const bytes = await write(out, file);
    progress.end();
    const notes = older.notes.map((note) => `note: ${note}\n`).join('');
    return `${notes}${out}: ${progress.rows} readings, ${(bytes / 1e6).toFixed(1)} MB in ${progress.seconds.toFixed(1)} s (${Math.round(progress.rows / Math.max(progress.seconds, 0.001))} readings/s).\n`;
  } finally {
    archive.close();
    await parts.close();
  }
}

/** The embedded database belongs to its node. Throws `data_dir`, which says how the node is asked. */
async function mustBeAlone(settings: Settings, format: Format, kind: string): Promise<void> {
  if (!(await isRunning(control(settings)))) return;
  throw new TwinmeshError(
    'data_dir',
    `A node runs on ${resolve(settings.dataDir)}, and its database is open to nobody else: ask the node, GET /api/v1/export/${format}?kind=${encodeURIComponent(kind)} with a key, or stop it.`,
  );
}

/** Writes beside the file and brings it to its place when it is whole. Answers its length. */
async function write(out: string, pieces: AsyncIterable<string | Uint8Array>): Promise<number> {
  const partial = `${out}.partial`;
  const file = createWriteStream(partial, { mode: 0o600 });
  try {
    await once(file, 'open');
    for await (const piece of pieces) if (!file.write(piece)) await once(file, 'drain');
    file.end();
    await once(file, 'close');
    await rename(partial, out);
    return file.bytesWritten;
  } catch (error) {
    file.destroy();
    await rm(partial, { force: true });
    if (error instanceof TwinmeshError) throw error;
    throw new TwinmeshError('bad_request', `${out}: ${messageOf(error)}`, undefined, { cause: error });
  }
}

/** A line a second on a terminal's error output. */
class Progress {
  rows = 0;
  readonly #startedAt = performance.now();
  #shownAt = performance.now();

  add(rows: number): void {
    this.rows += rows;
    if (!process.stderr.isTTY || performance.now() - this.#shownAt < 1_000) return;
    this.#shownAt = performance.now();
    process.stderr.write(`\r\x1b[K${this.rows} readings, ${Math.round(this.rows / this.seconds)} a second`);
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }

  get seconds(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }
}

function optionsOf(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS, strict: true });
  } catch (error) {
    throw new TwinmeshError('bad_request', `${messageOf(error).split('.')[0]}; --help shows what there is.`);
  }
}

if (import.meta.main)
  try {
    process.stdout.write(await exportHistory(process.argv.slice(2)));
  } catch (error) {
    process.stderr.write(`${faultText(error)}\n`);
    process.exitCode = isMendable(error) ? EXIT.faulty : EXIT.crashed;
  }
