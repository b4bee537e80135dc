import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { isId } from '../../actors/protocol/twin-id.ts';
import type { TwinItem } from '../../actors/store/queries/twin-list.ts';

/** Motes as environmental-sensor clients know them: numbers as ids where they are numbers, a column a metric. */
export const MOTE = 'mote';

export type MoteId = number | string;

/** `7` for the mote `7`; ids that are no plain whole numbers stay text. */
export function moteIdOf(id: string): MoteId {
  return /^(0|[1-9]\d{0,14})$/.test(id) ? Number(id) : id;
}

/** The twin id of a mote as a client names it. Throws `bad_request`. */
export function moteTwinId(moteId: string): string {
  if (!isId(moteId)) throw new TwinmeshError('bad_request', 'mote_id: 1 to 128 characters of A-Z a-z 0-9 . _ -');
  return `${MOTE}:${moteId}`;
}

/** Every metric of the kind, null where there is no value. */
export function columnsOf(kind: Kind, values: Record<string, number>): Record<string, number | null> {
  return Object.fromEntries(kind.metricNames.map((name) => [name, values[name] ?? null]));
}

export function latestOf(kind: Kind, item: Pick<TwinItem, 'id' | 'at' | 'reported'>): Record<string, unknown> {
  return { mote_id: moteIdOf(item.id), timestamp: item.at, ...columnsOf(kind, item.reported) };
}

export function moteOf(item: Omit<TwinItem, 'reported'>): Record<string, unknown> {
  return {
    mote_id: moteIdOf(item.id),
    twinId: item.twinId,
    online: item.online,
    retired: item.retired,
    health: item.health,
    alerts: item.alerts,
    last_seen: item.receivedAt,
    timestamp: item.at,
    attributes: item.attributes,
  };
}
