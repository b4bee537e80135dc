import type { Command, Entry, Tuning } from '../../actors/protocol/entry.ts';
import type { TwinId } from '../../actors/protocol/twin-id.ts';
import type { ControlClient } from '../control-client.ts';

const PAGE = 500;

interface Page {
  items: Record<string, unknown>[];
  nextCursor: string | null;
}

/**
 * The journal of a twin, as the running server tells it, in pages. Two things are not told and play no part in what follows from an
 * entry: the idempotency keys of commands, and the unrounded time of arrival.
 */
export async function* journalPages(
  client: Pick<ControlClient, 'request'>,
  { kind, id, twinId }: { kind: string; id: string; twinId: TwinId },
): AsyncGenerator<Entry[]> {
  for (let after: string | null = '0'; after !== null; ) {
    const path = `/api/v1/twins/${encodeURIComponent(twinId)}/journal?after=${after}&limit=${PAGE}`;
    const page: Page = await client.request<Page>('GET', path);
    yield page.items.map((item) => entryOf(item, kind, id));
    after = page.nextCursor;
  }
}

function entryOf(view: Record<string, unknown>, kind: string, id: string): Entry {
  const { revision, type, receivedAt: received, ...rest } = view as { revision: number; type: string } & typeof view;
  const receivedAt = Date.parse(String(received));
  switch (type) {
    case 'reading': {
      const { id: key, at, ...reading } = rest as { id?: string; at: string; values: Record<string, number> };
      return {
        type,
        revision,
        receivedAt,
        reading: { ...reading, kind, id, at: Date.parse(at), ...(key === undefined ? {} : { key }) },
      };
    }
    case 'command': {
      const { command: name, ...command } = rest;
      return { type, revision, receivedAt, command: { ...command, name, key: String(revision) } as Command };
    }
    case 'prediction': {
      const { name, basedOn, prediction } = rest as { name: string; basedOn: number; prediction: { at?: string } };
      const at = prediction.at === undefined ? {} : { at: Date.parse(prediction.at) };
      return { type, revision, receivedAt, name, basedOn, prediction: { ...prediction, ...at } };
    }
    case 'tuning':
      return { type, revision, receivedAt, tuning: rest.tuning as Tuning };
    default:
      return { type: 'tick', revision, receivedAt };
  }
}
