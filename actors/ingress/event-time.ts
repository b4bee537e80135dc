import { TwinmeshError } from '../protocol/errors.ts';

/** Epoch numbers below this are seconds, from it on milliseconds. */
const SECONDS_BELOW = 1e11;
/** 2200-01-01: nothing measured today is dated later, and every store can hold it. */
const LATEST_MS = Date.UTC(2200, 0, 1);
const ISO =
  /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(?:Z|([+-])(\d{2}):?(\d{2}))?)?$/;
const DAYS_OF_MONTH = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/** Days from 1970-01-01 to the first of each month, by month since the epoch: filled as it is asked for. */
const monthStartDay = new Map<number, number>();

/**
 * Event time in whole milliseconds: ISO 8601 (without an offset it is UTC) or an epoch number in seconds or milliseconds.
 * Throws `bad_time` (not a time, or outside 1970 to 2200) and `future_time` (more than `maxSkewMs` ahead of `nowMs`).
 */
export function eventTime(at: unknown, nowMs: number, maxSkewMs: number): number {
  let ms: number;
  if (typeof at === 'string') ms = isoToMs(at);
  else if (typeof at === 'number') ms = Math.round(Math.abs(at) < SECONDS_BELOW ? at * 1000 : at) + 0;
  else throw new TwinmeshError('bad_time', 'A time is ISO 8601 text or an epoch number.');
  if (!(ms >= 0 && ms < LATEST_MS)) {
    throw new TwinmeshError('bad_time', `${shown(at)} is not a time between 1970 and 2200.`);
  }
  if (ms > nowMs + maxSkewMs) {
    const aheadMs = ms - nowMs;
    throw new TwinmeshError(
      'future_time',
      `${shown(at)} lies ${aheadMs} ms ahead of the server; ${maxSkewMs} are allowed.`,
    );
  }
  return ms;
}

/** Milliseconds since the epoch, or NaN. `Date.parse` would take much that is no ISO 8601, and 30 February. */
function isoToMs(text: string): number {
  // The form that nearly every device sends, without the regular expression: 2026-01-01T00:00:00[.000]Z
  const length = text.length;
  if ((length === 24 || length === 20) && text.charCodeAt(10) === 84 && text.charCodeAt(length - 1) === 90) {
    const plain =
      text.charCodeAt(4) === 45 &&
      text.charCodeAt(7) === 45 &&
      text.charCodeAt(13) === 58 &&
      text.charCodeAt(16) === 58 &&
      (length === 20 || text.charCodeAt(19) === 46);
    if (plain) {
      const fraction = length === 24 ? two(text, 20) * 10 + digit(text, 22) : 0;
      return assemble(
        two(text, 0) * 100 + two(text, 2),
        two(text, 5),
        two(text, 8),
        two(text, 11),
        two(text, 14),
        two(text, 17),
        fraction,
      );
    }
  }
  if (length > 40) return Number.NaN;
  const m = ISO.exec(text);
  if (m === null) return Number.NaN;
  const fraction = m[7] === undefined ? 0 : Number(m[7].padEnd(3, '0').slice(0, 3));
  const utc = assemble(+m[1], +m[2], +m[3], +(m[4] ?? 0), +(m[5] ?? 0), +(m[6] ?? 0), fraction);
  if (m[8] === undefined) return utc;
  if (+m[9] > 23 || +m[10] > 59) return Number.NaN;
  const offsetMs = (+m[9] * 60 + +m[10]) * 60_000;
  return m[8] === '-' ? utc + offsetMs : utc - offsetMs;
}

function assemble(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number,
  ms: number,
): number {
  if (!(month >= 1 && month <= 12 && day >= 1 && hour <= 23 && minute <= 59 && second <= 59)) return Number.NaN;
  const leap = month === 2 && year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  if (day > DAYS_OF_MONTH[month - 1] + (leap ? 1 : 0)) return Number.NaN;
  if (year < 1969 || year > 2201) return Number.NaN;
  const key = year * 12 + month;
  let start = monthStartDay.get(key);
  if (start === undefined) {
    start = Date.UTC(year, month - 1, 1) / 86_400_000;
    monthStartDay.set(key, start);
  }
  return (start + day - 1) * 86_400_000 + hour * 3_600_000 + minute * 60_000 + second * 1000 + ms;
}

function digit(text: string, at: number): number {
  const c = text.charCodeAt(at) - 48;
  return c >= 0 && c <= 9 ? c : Number.NaN;
}

function two(text: string, at: number): number {
  return digit(text, at) * 10 + digit(text, at + 1);
}

function shown(at: unknown): string {
  return JSON.stringify(typeof at === 'string' ? at.slice(0, 40) : at)?.replace(/[\ud800-\udfff]/g, '\ufffd') ?? 'This';
}
