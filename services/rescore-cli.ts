import { parseArgs } from 'node:util';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import type { DifferenceItem, RescoreItem } from '../actors/store/queries/rescore-list.ts';
import { stepOf } from '../actors/store/queries/span.ts';
import { EXIT, faultText, tableText } from './command-line.ts';
import { interruption } from './load/interruption.ts';
import { asLocalAdmin, type LocalAdmin } from './local-admin.ts';
import { rescoreText } from './replay/rescore-text.ts';

/** `npm run rescore`: history once more, with another version of a model. */
const HELP = `npm run rescore -- --model NAME --version VERSION --from TIME [--to TIME] [--kind KIND] [--twin ID]… [--window SPAN] [--json]

Folds the history of all twins that ask the model once more: without what it has said, and with what another version of it says at
the moments when it would have been due. Prints alerts, anomalies and recommended actions gained, lost, earlier, later.
No twin is changed. The result is stored: GET /api/v1/rescores/{id}

  --from, --to    time of receipt by the node, ISO 8601 or epoch; --to left out: now. What was replayed today was received today,
                  whatever event times it carries
  --kind, --twin  only twins of this kind, only these (kind:id, several times)
  --window        happenings of one name that lie further apart are one lost and one gained; default 1h
  --json          summary and all differences as JSON

Works on the data folder (DATA_DIR or DATABASE_URL), through the server where one runs on it. Ctrl-C ends it; nothing is left half done.
`;
const LOOK_EVERY_MS = 500;

interface Found extends RescoreItem {
  differences: { items: DifferenceItem[]; nextCursor: string | null };
}

async function main(): Promise<void> {
  const values = parsed(process.argv.slice(2));
  if (values.help) return void process.stdout.write(HELP);
  for (const name of ['model', 'version', 'from'] as const)
    if (values[name] === undefined) throw new TwinmeshError('bad_request', `Say --${name}; --help shows how.`);
  const params = {
    model: values.model,
    version: values.version,
    from: values.from,
    ...(values.to === undefined ? {} : { to: values.to }),
    ...(values.kind === undefined ? {} : { kind: values.kind }),
    ...(values.twin === undefined ? {} : { twins: values.twin }),
    ...(values.window === undefined ? {} : { windowMs: stepOf(values.window) }),
  };
  const stop = interruption(EXIT.crashed);
  await asLocalAdmin(async (admin) => {
    const path = '/api/v1/rescores';
    const { id } = await admin.call<{ id: string }>({ action: 'replay.rescore', method: 'POST', path, params });
    const end = await follow(admin, id, stop);
    if (end.state !== 'done') process.exitCode = EXIT.crashed;
    const differences = await everyDifference(admin, end);
    if (values.json) process.stdout.write(`${JSON.stringify({ ...end, differences })}\n`);
    else process.stdout.write(`${rescoreText(end, differences, tableText)}\n`);
  }, 'reads');
}

function parsed(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      strict: true,
      options: {
        model: { type: 'string' },
        version: { type: 'string' },
        from: { type: 'string' },
        to: { type: 'string' },
        kind: { type: 'string' },
        twin: { type: 'string', multiple: true },
        window: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    return values;
  } catch (error) {
    throw new TwinmeshError('bad_request', `${messageOf(error).split('.')[0]}; --help shows what there is.`);
  }
}

async function follow(admin: LocalAdmin, id: string, stop: AbortSignal): Promise<Found> {
  const isWatched = process.stderr.isTTY;
  let isEnding = false;
  for (;;) {
    const found = await look(admin, id);
    if (isWatched) process.stderr.write(`\r${progressText(found)}\x1b[K`);
    if (found.state !== 'running') {
      if (isWatched) process.stderr.write('\n');
      return found;
    }
    if (stop.aborted && !isEnding) {
      isEnding = true;
      const path = `/api/v1/rescores/${id}`;
      await admin.call({ action: 'replay.cancelRescore', method: 'DELETE', path, params: { id } });
      continue;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

function look(admin: LocalAdmin, id: string, cursor?: string): Promise<Found> {
  const params = { limit: 500, ...(cursor === undefined ? {} : { cursor }) };
  const path = `/api/v1/rescores/${id}`;
  return admin.call<Found>({ action: 'replay.rescored', method: 'GET', path, inPath: { id }, params });
}

async function everyDifference(admin: LocalAdmin, found: Found): Promise<DifferenceItem[]> {
  const items = [...found.differences.items];
  for (let next = found.differences.nextCursor; next !== null; ) {
    const { differences } = await look(admin, found.id, next);
    items.push(...differences.items);
    next = differences.nextCursor;
  }
  return items;
}

function progressText({ progress }: RescoreItem): string {
  const { twins, readings, elapsedMs } = progress as Partial<{
    twins: { done: number; total: number };
    readings: number;
    elapsedMs: number;
  }>;
  if (twins === undefined || readings === undefined || elapsedMs === undefined) return 'begins';
  const rate = elapsedMs > 0 ? Math.round((readings / elapsedMs) * 1000) : 0;
  return `${twins.done} of ${twins.total} twins, ${readings.toLocaleString('en-US')} readings, ${rate.toLocaleString('en-US')} a second`;
}

main().catch((error) => {
  process.stderr.write(`${faultText(error)}\n`);
  process.exitCode = EXIT.faulty;
});
