import type { Entry } from '../../actors/protocol/entry.ts';
import type { TwinEvent } from '../../actors/protocol/event.ts';

/** Beyond it a number is no time (ECMA-262, Time Values). */
const MAX_TIME_MS = 8.64e15;
const iso = (ms: number): string => new Date(ms).toISOString();

/** A journal entry as people see it: times in ISO 8601, a reading's parts at the top. */
export function entryView(entry: Entry): Record<string, unknown> {
  const head = { revision: entry.revision, type: entry.type, receivedAt: iso(entry.receivedAt) };
  switch (entry.type) {
    case 'reading': {
      const { at, values, key, seq, sensor, attributes, unit, untimed } = entry.reading;
      return {
        ...head,
        at: iso(at),
        values,
        ...(key === undefined ? {} : { id: key }),
        ...(seq === undefined ? {} : { seq }),
        ...(sensor === undefined ? {} : { sensor }),
        ...(unit === undefined ? {} : { unit }),
        ...(attributes === undefined ? {} : { attributes }),
        ...(untimed ? { untimed } : {}),
      };
    }
    case 'command': {
      // The idempotency key is the caller's own affair.
      const { key: _, by, name, ...rest } = entry.command;
      return { ...head, command: name, by, ...rest };
    }
    case 'prediction':
      return { ...head, name: entry.name, basedOn: entry.basedOn, prediction: predictionView(entry.prediction) };
    case 'tuning':
      return { ...head, tuning: entry.tuning };
    case 'tick':
      return head;
  }
}

function predictionView({ at, ...said }: Record<string, unknown>): Record<string, unknown> {
  return typeof at === 'number' && Math.abs(at) <= MAX_TIME_MS ? { at: iso(at), ...said } : said;
}

/** An event as people see it. */
export function eventView(event: Omit<TwinEvent, 'shard' | 'seq' | 'twin'>): Record<string, unknown> {
  return {
    event_id: event.eventId,
    type: event.type,
    twinId: event.twinId,
    revision: event.revision,
    at: iso(event.at),
    receivedAt: iso(event.receivedAt),
    body: event.body,
  };
}
