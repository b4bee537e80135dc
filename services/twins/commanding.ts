import { randomUUID } from 'node:crypto';
import type { Command, CommandHeader } from '../../actors/protocol/entry.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { parseTwinId, type TwinId } from '../../actors/protocol/twin-id.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import type { CommandOptions, CommandResult, TwinHost } from '../../actors/runtime/host-api.ts';
import type { CallMeta } from '../gateway/caller.ts';

/** From a request to a command: who, under which idempotency key, on which revision. */
const COMMAND_DEADLINE_MS = 10_000;

/**
 * The header of the caller's command. Keys of different callers never meet; without one every request is a new command, and
 * stays the same one however often it is sent to another node.
 */
export function headerOf(meta: Partial<CallMeta>): CommandHeader {
  const key = meta.request?.idempotencyKey;
  return {
    key: key === undefined ? `once:${meta.callId ?? randomUUID()}` : `${meta.user?.keyId ?? 'inside'}:${key}`,
    by: meta.user?.name ?? 'inside',
  };
}

/** Sends the command and answers as the API does. Throws what `host.command` throws. */
export async function send(
  host: Pick<TwinHost, 'command' | 'get'>,
  twinId: TwinId,
  command: Command,
  ifMatch: string | undefined,
): Promise<{ revision: number; repeated: boolean; twin: TwinView }> {
  const options: CommandOptions = { deadlineMs: COMMAND_DEADLINE_MS };
  const expectedRevision = await expected(host, twinId, ifMatch);
  if (expectedRevision !== undefined) options.expectedRevision = expectedRevision;
  const result: CommandResult = await host.command(twinId, command, options);
  return { revision: result.revision, repeated: result.repeated, twin: result.view };
}

/**
 * The revision that If-Match asks for. Of several ETags the one the twin has is taken; none of them fails here, and the
 * host decides again when the command's turn comes.
 */
async function expected(
  host: Pick<TwinHost, 'get'>,
  twinId: TwinId,
  ifMatch: string | undefined,
): Promise<number | undefined> {
  if (ifMatch === undefined) return undefined;
  if (ifMatch.trim() === '*') {
    await host.get(twinId);
    return undefined;
  }
  const revisions = ifMatch.split(',').map(revisionOfTag);
  const known = revisions.filter((revision) => revision !== null);
  if (known.length === 1 && revisions.length === 1) return known[0];
  const { revision } = await host.get(twinId);
  if (known.includes(revision)) return revision;
  throw new TwinmeshError('precondition_failed', `${twinId} is at "rev:${revision}".`);
}

/** Weak tags never match: RFC 9110 compares If-Match strongly. */
function revisionOfTag(tag: string): number | null {
  const match = /^"rev:(\d{1,15})"$/.exec(tag.trim());
  return match ? Number(match[1]) : null;
}

export function etagOf(view: TwinView): string {
  return `"rev:${view.revision}"`;
}

/** The twin of an alert id, `<twinId>~<rule>~<revision>`. Throws not_found. */
export function twinOfAlert(alertId: string): TwinId {
  const [twinId, rule, revision, more] = alertId.split('~');
  if (!rule || !/^\d+$/.test(revision ?? '') || more !== undefined)
    throw new TwinmeshError('not_found', 'There is no such alert; ids look like machine:M1~overheating~42.');
  parseTwinId(twinId);
  return twinId;
}
