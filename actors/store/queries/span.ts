import { eventTime } from '../../ingress/event-time.ts';
import { TwinmeshError } from '../../protocol/errors.ts';

/** Times are before the year 2200, as at the door. */
export const LATEST_MS = Date.UTC(2200, 0, 1);
const SECOND_MS = 1_000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

const UNIT_MS: Record<string, number> = {
  ms: 1,
  s: SECOND_MS,
  m: MINUTE_MS,
  min: MINUTE_MS,
  h: HOUR_MS,
  d: DAY_MS,
  w: 7 * DAY_MS,
};

/** An event-time interval, `from` in it and `to` not. Milliseconds. */
export interface Span {
  from: number;
  to: number;
}

/** A time that a caller gave: ISO 8601 or epoch seconds or milliseconds, as text or number. Throws `bad_request`. */
export function instantOf(value: string | number, name: string): number {
  const text = typeof value === 'string' ? value.trim() : value;
  // A '+' in front of an offset arrives as a space where the caller did not encode it.
  const at =
    typeof text !== 'string'
      ? text
      : /^-?\d+(\.\d+)?$/.test(text)
        ? Number(text)
        : text.replace(/(T.*) (\d{2}:?\d{2})$/, '$1+$2');
  try {
    return eventTime(at, LATEST_MS, 0);
  } catch (error) {
    if (error instanceof TwinmeshError) throw new TwinmeshError('bad_request', `${name}: ${error.message}`);
    throw error;
  }
}

/** A span as a caller gave it, under the names it has there; what is missing stays open. Throws `bad_request`. */
export function spanOf(
  from: string | number | undefined,
  to: string | number | undefined,
  names: readonly [string, string] = ['from', 'to'],
): Partial<Span> {
  const span: Partial<Span> = {};
  if (from !== undefined) span.from = instantOf(from, names[0]);
  if (to !== undefined) span.to = instantOf(to, names[1]);
  if (span.from !== undefined && span.to !== undefined && span.from >= span.to) {
    throw new TwinmeshError('bad_request', `${names[0]}: must lie before ${names[1]}.`);
  }
  return span;
}

/** A length of time: `500ms`, `15s`, `1m`, `1h`, `1d`, `1w`, or a number of milliseconds. Throws `bad_request`. */
export function stepOf(value: string | number): number {
  const m = /^(\d{1,12})(ms|s|min|m|h|d|w)?$/.exec(String(value).trim());
  const ms = m === null ? Number.NaN : Number(m[1]) * UNIT_MS[m[2] ?? 'ms'];
  if (!(ms >= 1 && ms <= 10 * 366 * DAY_MS)) {
    throw new TwinmeshError('bad_request', 'step: 500ms, 15s, 1m, 1h, 1d, 1w or milliseconds, up to ten years.');
  }
  return ms;
}

export function floorTo(ms: number, stepMs: number): number {
  return Math.floor(ms / stepMs) * stepMs;
}

export function ceilTo(ms: number, stepMs: number): number {
  return Math.ceil(ms / stepMs) * stepMs;
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}
