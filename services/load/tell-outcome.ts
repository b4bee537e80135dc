import { setTimeout as sleep } from 'node:timers/promises';
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
}

/** Twins and journal entries that are read back; a fleet is judged by `npm run rescore` and `npm run eval:models`. */
const MAX_TWINS = 200;
const MAX_ENTRIES = 1_000_000;
/** Acknowledged is in the log: the commit, and the answers of models, follow. Twins that nothing new comes to for so long are at rest. */
const REST_MS = 1_000;
const PATIENCE_MS = 20_000;

/** Prints what the twins made of it. Throws nothing: the replay itself is over. */
export async function tellOutcome(
  client: Pick<ControlClient, 'request'>,
  { kind, labels, played }: Replayed,
  { out, err, signal }: Pick<Terminal, 'out' | 'err' | 'signal'>,
): Promise<void> {
  const { firstMs, lastMs, twins } = played;
  if (firstMs === null || lastMs === null || signal.aborted) return;
  const ids = [...twins].slice(0, MAX_TWINS);
  const outcome = new Outcome(kind, labels);
  try {
    const unknown = await rest(client, kind, ids, signal);
    let entries = 0;
    for (const id of ids) {
      if (signal.aborted || entries >= MAX_ENTRIES) break;
      if (unknown.has(id)) continue;
      const twinId = twinIdOf(kind.kind, id);
      const pages = journalPages(client, { kind: kind.kind, id, twinId });
      entries += await outcome.follow(id, pages, { from: firstMs, to: lastMs });
    }
    out.write(`${outcomeText(outcome, kind)}\n`);
    if (unknown.size > 0)
      out.write(`  nothing was accepted of ${[...unknown].slice(0, 10).join(', ')} (GET /api/v1/dead-letters)\n`);
    const left = twins.size - unknown.size - outcome.twins;
    if (left > 0) out.write(`  ${left} further twins were not read back\n`);
  } catch (error) {
    const noServer = error instanceof TwinmeshError && error.details?.running === false;
    const why = noServer
      ? 'no server runs on this DATA_DIR: run the command beside it to be told'
      : `it could not be read back: ${messageOf(error)}`;
    err.write(`What the twins made of it is not told: ${why}\n`);
  }
}

/** Waits until nothing more comes to these twins; answers those that there are none of: nothing of them was accepted. */
async function rest(
  client: Pick<ControlClient, 'request'>,
  kind: Kind,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<Set<string>> {
  const unknown = new Set<string>();
  const until = performance.now() + PATIENCE_MS;
  for (let before = -1; performance.now() < until && !signal.aborted; ) {
    let revisions = 0;
    for (const id of ids) {
      const path = `/api/v1/twins/${encodeURIComponent(twinIdOf(kind.kind, id))}`;
      const twin = await client.request<{ revision: number }>('GET', path).catch(unlessUnknown);
      if (twin === null) unknown.add(id);
      else revisions += twin.revision;
    }
    if (revisions === before) return unknown;
    before = revisions;
    await sleep(REST_MS);
  }
  return unknown;
}

function unlessUnknown(error: unknown): null {
  if (error instanceof TwinmeshError && error.code === 'not_found') return null;
  throw error;
}
