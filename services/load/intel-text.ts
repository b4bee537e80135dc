import { eventTime } from '../../actors/ingress/event-time.ts';
import type { RawReading } from '../../actors/protocol/kind.ts';

/**
 * The text layouts of the Intel Berkeley lab trace, a line each, parts separated by blanks:
 *
 *     8 parts   date time epoch mote_id temperature humidity light voltage       at = date and time, epoch is the seq
 *     9 parts   date time mote_id temperature humidity light voltage updated     updated is one part or two, and is the time
 *     4 parts   date time mote_id updated                                       no sensor data: skipped
 *
 * With an `updated` of one part the second has 8 parts too, so that content decides: a last part that is a time makes it
 * one. Lines are read from the bytes as they lie in the chunk; nothing is allocated but the reading. What the numbers
 * mean, and whether they are possible, is decided at the door.
 */
export type IntelSkip = 'no_sensor_data' | 'part_count' | 'bad_time' | 'bad_mote_id' | 'not_a_number';

const SPACE = 32;
const DOT = 46;
const DASH = 45;
const COLON = 58;
/** An updated timestamp of one part is a number of seconds or milliseconds; no sensor of the lab measures as much. */
const LEAST_STAMP = 1e8;
const MOST_PARTS = 9;
const NAMES_KEPT = 65_536;
const POWERS = Array.from({ length: 23 }, (_, i) => 10 ** i);

// Where the parts of the line at hand begin and end. Everything below is synchronous.
const from = new Int32Array(MOST_PARTS + 1);
const to = new Int32Array(MOST_PARTS + 1);
const moteNames: string[] = [];
let dayKey = -1;
let dayMs = Number.NaN;

/** One line: a reading, or why it is none; undefined where it is blank. */
export function intelReading(bytes: Uint8Array, start: number, end: number): RawReading | IntelSkip | undefined {
  const parts = split(bytes, start, end);
  if (parts === 0) return undefined;
  if (parts === 4 || parts === 5) return withoutData(bytes, parts);
  if (parts !== 8 && parts !== 9) return 'part_count';
  const arrived = dateTime(bytes, 0);
  if (Number.isNaN(arrived)) return 'bad_time';
  if (parts === 9) {
    const updated = dateTime(bytes, 7);
    if (Number.isNaN(updated)) return looksLikeDate(bytes, 7) ? 'bad_time' : 'part_count';
    return reading(bytes, 2, 3, updated, undefined);
  }
  if (isStamp(bytes, 7)) {
    const updated = stamp(bytes, 7);
    return Number.isNaN(updated) ? 'bad_time' : reading(bytes, 2, 3, updated, undefined);
  }
  const epoch = whole(bytes, 2);
  if (epoch < 0) return 'not_a_number';
  return reading(bytes, 3, 4, arrived, epoch);
}

/** Whether a text begins like one of the layouts. */
export function looksLikeIntelText(head: string): boolean {
  return /^\s*\d{4}-\d{2}-\d{2}[ \t]+\d{2}:\d{2}:\d{2}(?:\.\d+)?[ \t]+\d+[ \t]+[-\d.]/.test(head);
}

function withoutData(bytes: Uint8Array, parts: number): IntelSkip {
  if (Number.isNaN(dateTime(bytes, 0))) return 'bad_time';
  if (whole(bytes, 2) < 0) return 'bad_mote_id';
  const dated = parts === 4 ? isStamp(bytes, 3) : looksLikeDate(bytes, 3);
  return dated ? 'no_sensor_data' : 'part_count';
}

function reading(
  bytes: Uint8Array,
  idPart: number,
  firstValue: number,
  ms: number,
  seq: number | undefined,
): RawReading | IntelSkip {
  const id = whole(bytes, idPart);
  if (id < 0) return 'bad_mote_id';
  const temperature = decimal(bytes, firstValue);
  const humidity = decimal(bytes, firstValue + 1);
  const light = decimal(bytes, firstValue + 2);
  const voltage = decimal(bytes, firstValue + 3);
  if (temperature === null || humidity === null || light === null || voltage === null) return 'not_a_number';
  return {
    id: nameOf(id),
    at: wireTime(ms),
    values: { temperature, humidity, light, voltage },
    seq,
  };
}

function nameOf(id: number): string {
  if (id >= NAMES_KEPT) return String(id);
  moteNames[id] ??= String(id);
  return moteNames[id];
}

/** A time as the door takes it without doubt: numbers below 10^11 would be read as seconds. */
export function wireTime(ms: number): number | string {
  return ms >= 1e11 || !(ms >= 0) ? ms : new Date(ms).toISOString();
}

function split(bytes: Uint8Array, start: number, end: number): number {
  let parts = 0;
  let i = start;
  for (;;) {
    while (i < end && bytes[i] <= SPACE) i++;
    if (i >= end) return parts;
    if (parts > MOST_PARTS) return parts;
    from[parts] = i;
    while (i < end && bytes[i] > SPACE) i++;
    to[parts++] = i;
  }
}

/** Milliseconds of a date part and the time part behind it, NaN where they are none. */
function dateTime(bytes: Uint8Array, part: number): number {
  const d = from[part];
  const t = from[part + 1];
  const timeLength = to[part + 1] - t;
  if (to[part] - d !== 10 || timeLength < 8) return slowDateTime(bytes, part);
  if (bytes[d + 4] !== DASH || bytes[d + 7] !== DASH || bytes[t + 2] !== COLON || bytes[t + 5] !== COLON)
    return slowDateTime(bytes, part);
  const key = two(bytes, d) * 1_000_000 + two(bytes, d + 2) * 10_000 + two(bytes, d + 5) * 100 + two(bytes, d + 8);
  if (key !== dayKey) {
    dayMs = eventTimeOf(text(bytes, part));
    dayKey = key;
  }
  const hour = two(bytes, t);
  const minute = two(bytes, t + 3);
  const second = two(bytes, t + 6);
  if (!(hour < 24 && minute < 60 && second < 60)) return Number.NaN;
  let ms = 0;
  if (timeLength > 8) {
    // Finer than a millisecond is cut off, as the door does.
    if (bytes[t + 8] !== DOT || timeLength === 9) return slowDateTime(bytes, part);
    for (let i = 9, scale = 100; i < timeLength; i++) {
      const digit = bytes[t + i] - 48;
      if (!(digit >= 0 && digit <= 9)) return slowDateTime(bytes, part);
      if (i < 12) ms += digit * scale;
      scale = i === 9 ? 10 : 1;
    }
  }
  return dayMs + hour * 3_600_000 + minute * 60_000 + second * 1000 + ms;
}

function slowDateTime(bytes: Uint8Array, part: number): number {
  return eventTimeOf(`${text(bytes, part)}T${text(bytes, part + 1)}`);
}

/** Whether a single part is a time: `2004-02-28T…`, `2004-02-28`, or an epoch number. */
function isStamp(bytes: Uint8Array, part: number): boolean {
  return looksLikeDate(bytes, part) || (to[part] - from[part] >= 9 && (decimal(bytes, part) ?? 0) >= LEAST_STAMP);
}

function stamp(bytes: Uint8Array, part: number): number {
  const value = decimal(bytes, part);
  return eventTimeOf(value ?? text(bytes, part));
}

function looksLikeDate(bytes: Uint8Array, part: number): boolean {
  const s = from[part];
  return to[part] - s >= 10 && bytes[s + 4] === DASH && bytes[s + 7] === DASH && two(bytes, s) >= 0;
}

function eventTimeOf(at: string | number): number {
  try {
    return eventTime(at, Number.POSITIVE_INFINITY, 0);
  } catch {
    return Number.NaN;
  }
}

function two(bytes: Uint8Array, at: number): number {
  const a = bytes[at] - 48;
  const b = bytes[at + 1] - 48;
  return a >= 0 && a <= 9 && b >= 0 && b <= 9 ? a * 10 + b : Number.NaN;
}

/** A whole number without sign, -1 where the part is none. */
function whole(bytes: Uint8Array, part: number): number {
  const e = to[part];
  if (e - from[part] > 15) return -1;
  let value = 0;
  for (let i = from[part]; i < e; i++) {
    const digit = bytes[i] - 48;
    if (!(digit >= 0 && digit <= 9)) return -1;
    value = value * 10 + digit;
  }
  return value;
}

/**
 * A decimal, the same double that `Number` makes of it: up to 15 digits are an exact integer, and one division by an
 * exact power of ten rounds once. NaN and infinities are numbers here (the door refuses them by name); null is none.
 */
function decimal(bytes: Uint8Array, part: number): number | null {
  const e = to[part];
  let i = from[part];
  const negative = bytes[i] === DASH;
  if (negative) i++;
  let mantissa = 0;
  let digits = 0;
  let fraction = -1;
  for (; i < e; i++) {
    const c = bytes[i];
    if (c === DOT && fraction < 0) fraction = 0;
    else {
      const digit = c - 48;
      if (!(digit >= 0 && digit <= 9)) return slowDecimal(bytes, part);
      mantissa = mantissa * 10 + digit;
      digits++;
      if (fraction >= 0) fraction++;
    }
  }
  if (digits === 0 || digits > 15) return slowDecimal(bytes, part);
  const value = fraction > 0 ? mantissa / POWERS[fraction] : mantissa;
  return negative ? -value : value;
}

function slowDecimal(bytes: Uint8Array, part: number): number | null {
  return numberOf(text(bytes, part));
}

const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
const NOT_FINITE = /^([+-]?)(?:(nan)|inf(?:inity)?)$/i;

/** The number a text stands for, also when it is not finite; null where it stands for none. */
export function numberOf(written: string): number | null {
  if (DECIMAL.test(written)) return Number(written);
  const special = NOT_FINITE.exec(written);
  if (special === null) return null;
  if (special[2] !== undefined) return Number.NaN;
  return special[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

function text(bytes: Uint8Array, part: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from[part], Math.min(to[part] - from[part], 64)).toString(
    'latin1',
  );
}
