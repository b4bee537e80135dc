import type { Kind, RawReading, WireFormat } from '../../actors/protocol/kind.ts';

/** Which field of a message carries what: paths of keys into the message. */
export interface WireFields {
  format: WireFormat;
  id: string[] | null;
  time: string[] | null;
  metrics: Record<string, string[]>;
}

const PROBE = { number: 0.123456789, id: 'probe-id', time: 'probe-time' } as const;

/**
 * What a kind's own format calls its parts, found by asking its decoder: each field of its example is changed in turn, and
 * what changes in the reading is what the field means. So a kind needs no encoder, and what we send is what it reads. Null
 * for kinds with open metrics, whose messages carry one value and its name.
 */
export function wireFieldsOf(kind: Kind): WireFields | null {
  if (kind.openMetrics) return null;
  const format = kind.formats[0];
  const fields: WireFields = { format, id: null, time: null, metrics: {} };
  for (const path of leaves(format.example, [])) {
    const by = (value: unknown): RawReading => format.decode(changed(format.example, path, value), undefined);
    if (by(PROBE.id).id === PROBE.id) fields.id ??= path;
    else if (by(PROBE.time).at === PROBE.time) fields.time ??= path;
    else {
      const { values } = by(PROBE.number);
      for (const metric of kind.metricNames) if (values[metric] === PROBE.number) fields.metrics[metric] ??= path;
    }
  }
  return fields;
}

function* leaves(value: unknown, path: string[]): Generator<string[]> {
  if (!isObject(value)) {
    if (path.length > 0) yield path;
    return;
  }
  for (const key of Object.keys(value)) yield* leaves(value[key], [...path, key]);
}

/** A copy with another value at the path; what is not there yet is made. */
export function changed(
  object: Record<string, unknown>,
  path: readonly string[],
  value: unknown,
): Record<string, unknown> {
  const [key, ...rest] = path;
  if (rest.length === 0) return { ...object, [key]: value };
  const inner = isObject(object[key]) ? object[key] : {};
  return { ...object, [key]: changed(inner, rest, value) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
