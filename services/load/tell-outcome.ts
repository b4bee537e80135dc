import { setTimeout as sleep } from 'node:timers/promises';
import type { Entry } from '../../actors/protocol/entry.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { twinIdOf } from '../../actors/protocol/twin-id.ts';
import type { ControlClient } from '../control-client.ts';
import { journalPages } from './journal-pages.ts';
import type { Labels } from './labels.ts';
import type { Terminal } from './load-command.ts';
import { Outcome } from './outcome.ts';
import { outcomeText } from './outcome-text.ts';
import type { Played } from './player.ts';

/** What was replayed: of which kind, with which labels, and how far it came. */
export interface Replayed {
  kind: Kind;
  labels: Labels;
  played: Played;
  /** When it began, ms. */
  startedAt: number;
}

/** Twins and journal entries that are read back; a fleet is judged by `npm run rescore` and `npm run eval:models`. */
const MAX_TWINS = 200;
const MAX_ENTRIES = 500_000;
/** Acknowledged is in the log: the commit, and the answers of models, follow. Twins that nothing new comes to for so long are at rest. */
const REST_MS = 1_000;
const PATIENCE_MS = 20_000;
/** A twin that is not there after so many looks has nothing committed. */
const LOOKS = 5;
const ASKED_TOGETHER = 16;
const NAMED = 10;

type Client = Pick<ControlClient, 'request'>;

/** Prints what the twins made of it. Throws nothing: the replay itself is over. */
export async function tellOutcome(
  client: Client,
  { kind, labels, played, startedAt }: Replayed,
  { out, err, signal }: Pick<Terminal, 'out' | 'err' | 'signal'>,
): Promise<void> {
  const { earliestMs, lastMs, twins } = played;
  if (earliestMs === null || lastMs === null || signal.aborted) return;
  const ids = [...twins].slice(0, MAX_TWINS);
  const outcome = new Outcome(kind, labels);
  const tooLong: string[] = [];
  const absent: string[] = [];
  try {
    const revisions = await revisionsAtRest(client, kind, ids, signal);
    let left = MAX_ENTRIES;
    for (const id of ids) {
      if (signal.aborted) break;
      const twinId = twinIdOf(kind.kind, id);
      const revision = revisions.get(id);
      if (revision === undefined) absent.push(id);
      else if (revision > left) tooLong.push(twinId);
      else {
        left -= revision;
        const pages = journalPages(client, { kind: kind.kind, id, twinId });
        await outcome.follow(id, until(signal, pages), { from: earliestMs, to: lastMs }, startedAt);
      }
    }
    if (signal.aborted) return;
    // with twins left out nobody can say what came of how many
    const isWhole = absent.length + tooLong.length + outcome.incomplete.length === 0 && ids.length === twins.size;
    out.write(`${outcomeText(outcome, kind, labels, isWhole ? played.sent : 0)}\n`);
    if (absent.length > 0) out.write(`  nothing was accepted of ${listed(absent)}: see GET /api/v1/dead-letters\n`);
    if (tooLong.length > 0)
      out.write(
        `  not read back: journals of more than ${MAX_ENTRIES.toLocaleString('en-US')} entries in all: ${listed(tooLong)}\n`,
      );
    if (twins.size > ids.length) out.write(`  ${twins.size - ids.length} further twins were not read back\n`);
  } catch (error) {
    const noServer = error instanceof TwinmeshError && error.details?.running === false;
    const why = noServer
      ? 'no server runs on this DATA_DIR: run the command beside it to be told'
      : `it could not be read back: ${messageOf(error)}`;
    err.write(`What the twins made of it is not told: ${why}\n`);
  }
}

/** Revisions of the twins once nothing more comes to them, or patience ends; none of those that are not there. */
async function revisionsAtRest(
  client: Client,
  kind: Kind,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<Map<string, number>> {
  const until = performance.now() + PATIENCE_MS;
  let before = '';
  for (let look = 1; ; look++) {
    const revisions = new Map<string, number>();
    for (let i = 0; i < ids.length && !signal.aborted; i += ASKED_TOGETHER)
      await Promise.all(
        ids.slice(i, i + ASKED_TOGETHER).map(async (id) => {
          const path = `/api/v1/twins/${encodeURIComponent(twinIdOf(kind.kind, id))}`;
          const twin = await client.request<{ revision: number }>('GET', path).catch(unlessUnknown);
          if (twin !== null) revisions.set(id, twin.revision);
        }),
      );
    const now = JSON.stringify([...revisions].sort());
    const areThere = revisions.size === ids.length || look >= LOOKS;
    if ((now === before && areThere) || performance.now() > until || signal.aborted) return revisions;
    before = now;
    await sleep(REST_MS);
  }
}

async function* until(signal: AbortSignal, pages: AsyncIterable<Entry[]>): AsyncGenerator<Entry[]> {
  for await (const page of pages) {
    if (signal.aborted) return;
    yield page;
  }
}

function unlessUnknown(error: unknown): null {
  if (error instanceof TwinmeshError && error.code === 'not_found') return null;
  throw error;
}

function listed(names: readonly string[]): string {
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  return `${names.slice(0, NAMED).join(', ')}${more}`;
}
