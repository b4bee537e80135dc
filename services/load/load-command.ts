import { resolve } from 'node:path';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Settings } from '../../config/settings.ts';
import { EXIT, faultText, isMendable } from '../command-line.ts';
import { control } from '../control-client.ts';
import { claimLog } from '../log-identity.ts';
import { createLogger } from '../logger.ts';
import { openParts } from '../parts.ts';
import type { Blocks } from './block.ts';
import { Checkpoint } from './checkpoint.ts';
import { type FileOptions, fileOptions, parsedArguments } from './command-options.ts';
import { DirectDelivery, mustBeAlone } from './direct-delivery.ts';
import { DryDelivery } from './dry-delivery.ts';
import { openBlocks } from './layout.ts';
import { type Delivery, loadBlocks } from './loading.ts';
import { mapNames } from './map.ts';
import { Progress } from './progress.ts';
import { ServerDelivery } from './server-delivery.ts';
import { noTotals, summaryText, sumOf, type Totals } from './totals.ts';

/** `npm run load`: files into twins, of any size, as far as they are good. */
export interface Terminal {
  out: { write(text: string): unknown };
  err: { write(text: string): unknown; isTTY?: boolean; columns?: number };
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
}

/** A file that could not be read to its end, or of which nothing was a reading. */
const EXIT_FILE = 1;
export const EXIT_INTERRUPTED = 130;
/** Requests larger than this gain nothing. */
const MESSAGE_BYTES = 524_288;
const EXAMPLES = 3;

const LOAD_HELP = `npm run load -- --kind KIND [--map MAP] [options] FILE…

Stores the readings of files: CSV, NDJSON, matrices, Intel lab text; gzip is unpacked by itself.
Goes on where it was interrupted; loading a file again gives duplicates, which are counted and not stored.

  --kind KIND     what the readings are of; may be left out where the map says it
  --map MAP       how columns become readings: ${mapNames().join(', ')},
                  or the path of a map of your own (docs/load.md)
  --start TIME    when the file begins, for maps that count from it, e.g. 2026-01-01T00:00:00Z
  --restart       from the beginning, whatever has been loaded before
  --dry-run       reads and checks everything, stores nothing
  -h, --help      this text

While a server runs on this DATA_DIR it is given the readings; else they go into the database directly.
Settings (DATA_DIR, DATABASE_URL, …) are those of npm start.
`;

/** Answers the exit code; throws nothing. */
export async function runLoad(args: readonly string[], settings: () => Settings, terminal: Terminal): Promise<number> {
  try {
    const own = { restart: { type: 'boolean' }, 'dry-run': { type: 'boolean' } } as const;
    const { values, files } = parsedArguments(args, own);
    if (values.help) {
      terminal.out.write(LOAD_HELP);
      return EXIT.ok;
    }
    const set = settings();
    const options = await fileOptions(values, files, set.kindsDir === null ? null : resolve(set.kindsDir));
    const opened = await opening(options, set);
    const dry = values['dry-run'] === true;
    return await loadAll(opened, options, set, terminal, { dry, restart: values.restart === true });
  } catch (error) {
    terminal.err.write(`${faultText(error)}\n`);
    return isMendable(error) ? EXIT.faulty : EXIT.crashed;
  }
}

/** Every file is looked at before anything is stored. */
function opening(options: FileOptions, settings: Settings): Promise<Blocks[]> {
  const { kind, map, startMs, files } = options;
  const messageBytes = Math.min(MESSAGE_BYTES, settings.maxBodyBytes);
  return openBlocks(files, { kind, map, startMs, messageBytes, decode: null });
}

async function loadAll(
  all: readonly Blocks[],
  options: FileOptions,
  settings: Settings,
  terminal: Terminal,
  { dry, restart }: { dry: boolean; restart: boolean },
): Promise<number> {
  const { delivery, close } = await openDelivery(options, settings, dry);
  terminal.err.write(`loading ${delivery.way}\n`);
  const days = settings.historyRetentionDays;
  const keptSinceMs = days > 0 ? Date.now() - days * 86_400_000 : null;
  let code: number = EXIT.ok;
  try {
    for (const blocks of all) {
      const { kind, map, startMs } = options;
      const what = { file: blocks.identity, kind: kind.kind, map, startMs };
      const checkpoint = dry ? null : new Checkpoint(settings.dataDir, what);
      if (restart) checkpoint?.clear();
      const result = await loadOne(blocks, { delivery, checkpoint, signal: terminal.signal, keptSinceMs }, terminal);
      code = Math.max(code, result);
      if (result === EXIT_INTERRUPTED) break;
    }
  } finally {
    await close();
  }
  return code;
}

async function loadOne(
  blocks: Blocks,
  options: { delivery: Delivery; checkpoint: Checkpoint | null; signal: AbortSignal; keptSinceMs: number | null },
  { out, err }: Terminal,
): Promise<number> {
  const before = options.checkpoint?.read();
  if (before) err.write(`${blocks.title}: going on behind line ${before.position.lines.toLocaleString('en-US')}\n`);
  const state = {
    title: blocks.title,
    sizeBytes: blocks.sizeBytes,
    bytesRead: blocks.bytesRead,
    totals: before?.totals ?? noTotals(),
    linesBefore: before?.position.lines ?? 0,
    waiting: () => options.delivery.waiting,
  };
  const progress = new Progress(err, state);
  const examples: string[] = [];
  let warned = false;
  const onBlock = (totals: Totals, { rejected }: { rejected: { message: string }[] }) => {
    state.totals = totals;
    for (const { message } of rejected) if (examples.length < EXAMPLES) examples.push(message);
    if (totals.beyondRetention > 0 && !warned) {
      warned = true;
      const since = new Date(options.keptSinceMs ?? 0).toISOString().slice(0, 10);
      const what = `${blocks.title} holds readings from before ${since}, which HISTORY_RETENTION_DAYS will drop`;
      err.write(`${what}; set it to 0 to keep them.\n`);
    }
  };
  let fault: unknown = null;
  let whole = false;
  try {
    const loaded = await loadBlocks(blocks, { ...options, onBlock });
    state.totals = loaded.totals;
    whole = loaded.whole;
  } catch (error) {
    if (!(error instanceof TwinmeshError)) throw error;
    fault = error;
  } finally {
    progress.end();
  }
  const { totals } = state;
  out.write(`${summaryText(blocks.title, totals, progress.elapsedSeconds, state.linesBefore)}\n`);
  for (const example of examples) out.write(`    e.g. ${example}\n`);
  if (totals.beyondRetention > 0)
    out.write(`  ${totals.beyondRetention.toLocaleString('en-US')} lie beyond the retention of history\n`);
  if (fault !== null) {
    err.write(`${messageOf(fault)}\nWhat came before is stored; the same command goes on from there.\n`);
    return EXIT_FILE;
  }
  if (!whole) {
    err.write('Stopped; the same command goes on from here.\n');
    return EXIT_INTERRUPTED;
  }
  const got = totals.accepted + totals.duplicates;
  const lost = sumOf(totals.rejected) + sumOf(totals.skipped);
  return got === 0 && lost > 0 ? EXIT_FILE : EXIT.ok;
}

async function openDelivery(
  { kind, kinds }: FileOptions,
  settings: Settings,
  dry: boolean,
): Promise<{ delivery: Delivery; close(): Promise<void> }> {
  if (dry) return { delivery: new DryDelivery(settings, kinds, kind), close: () => Promise.resolve() };
  const client = control(settings);
  if (await serverRuns(client)) {
    const delivery = new ServerDelivery(client, kind, settings.maxBodyBytes);
    return { delivery, close: () => delivery.close() };
  }
  const logger = createLogger({
    level: 'warn',
    format: settings.logFormat,
    node: settings.nodeId,
    destination: { write: (line) => process.stderr.write(line) },
  });
  // Another node on a PostgreSQL would have to be found before this one takes its shards.
  const remote = settings.databaseUrl !== null;
  const parts = await openParts(settings, { logger, kinds, startHost: !remote });
  try {
    if (remote) {
      await mustBeAlone(parts.sql, settings.ttlMs);
      await claimLog(parts.sql, parts.log, settings);
      await parts.host.start();
    }
  } catch (error) {
    await parts.close();
    throw error;
  }
  const delivery = new DirectDelivery(parts, kind);
  return {
    delivery,
    close: async () => {
      await delivery.close();
      if (remote) await parts.host.stop();
      await parts.close();
    },
  };
}

/** Throws what a server that is there but does not answer gives. */
async function serverRuns(client: ReturnType<typeof control>): Promise<boolean> {
  try {
    await client.request('GET', '/health/live');
    return true;
  } catch (error) {
    if (error instanceof TwinmeshError && error.details?.running === false) return false;
    throw error;
  }
}
