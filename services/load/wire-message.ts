import { generic } from '../../actors/ingress/route.ts';
import type { Kind, RawReading } from '../../actors/protocol/kind.ts';
import { msOf } from './loading.ts';
import { changed, wireFieldsOf } from './wire-fields.ts';

/** A reading as its device would publish it. */
export interface WireMessage {
  topic: string;
  payload: string;
}

export interface Speech {
  /** For people: format and topic. */
  readonly title: string;
  /** Null where the reading has no time or no id that a topic can carry. */
  say(raw: RawReading): WireMessage | null;
}

const TOPIC_ID = /^[^/+#\0]{1,128}$/;

/**
 * How the devices of a kind speak: in its own format, on its own topic; what that cannot carry goes in the generic format.
 * Each message is decoded again before it is sent, so that what a twin hears is what the file says.
 */
export function speechOf(kind: Kind): Speech {
  const fields = wireFieldsOf(kind);
  const topics = fields?.format.mqtt ?? [];
  const filter = topics.find((topic) => topic.includes('{id}')) ?? topics[0];
  const own =
    fields?.id && fields.time && filter !== undefined
      ? { format: fields.format, id: fields.id, time: fields.time, metrics: fields.metrics }
      : null;
  const numericId = own !== null && typeof at(own.format.example, own.id) === 'number';

  const inOwn = (raw: RawReading, id: string, time: string): Record<string, unknown> | null => {
    if (own === null || raw.sensor !== undefined || raw.attributes !== undefined || raw.unit !== undefined) return null;
    let message = changed({}, own.id, numericId && /^(0|[1-9]\d{0,14})$/.test(id) ? Number(id) : id);
    message = changed(message, own.time, time);
    for (const metric of Object.keys(raw.values)) {
      const path = own.metrics[metric];
      if (path === undefined) return null;
      message = changed(message, path, raw.values[metric]);
    }
    if (raw.seq !== undefined) message.seq = raw.seq;
    if (raw.key !== undefined) message.id = raw.key;
    return says(own.format.decode(message, id), raw, id, time) ? message : null;
  };

  return {
    title: own === null ? `twins/${kind.kind}/{id}/telemetry` : `${own.format.name} on ${filter}`,
    say(raw) {
      const id = typeof raw.id === 'number' ? String(raw.id) : raw.id;
      const ms = msOf(raw.at);
      if (typeof id !== 'string' || !TOPIC_ID.test(id) || Number.isNaN(ms)) return null;
      const time = new Date(ms).toISOString();
      const message = inOwn(raw, id, time);
      if (message !== null) return { topic: (filter as string).replace('{id}', id), payload: JSON.stringify(message) };
      return { topic: `twins/${kind.kind}/${id}/telemetry`, payload: generic(kind, { ...raw, id, at: time }) };
    },
  };
}

function says(decoded: RawReading, raw: RawReading, id: string, time: string): boolean {
  if (String(decoded.id) !== id || decoded.at !== time || decoded.seq !== raw.seq || decoded.key !== raw.key)
    return false;
  const names = Object.keys(raw.values);
  const told = Object.values(decoded.values).filter((value) => value !== undefined && value !== null).length;
  if (told !== names.length) return false;
  // A number that JSON lacks would become null on the way: the generic format writes it as it is.
  return names.every((name) => {
    const value = raw.values[name];
    return decoded.values[name] === value && (typeof value !== 'number' || Number.isFinite(value));
  });
}

function at(object: unknown, path: readonly string[]): unknown {
  let value = object;
  for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
  return value;
}
