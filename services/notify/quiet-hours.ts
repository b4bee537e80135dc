import type { Severity } from '../../actors/protocol/entry.ts';

/** Hours in which a rule keeps silent, by the clock on a wall somewhere. `from` after `to` goes over midnight; equal is a whole day. */
export interface QuietHours {
  timeZone: string;
  /** Minutes since midnight. */
  from: number;
  to: number;
  /** Days on which they begin, 0 Sunday to 6 Saturday. */
  days: ReadonlySet<number>;
  /** What is told all the same. */
  pass: ReadonlySet<Severity>;
  /** True: the rest is told when they end; false: never. */
  hold: boolean;
}

const MINUTE_MS = 60_000;
const DAY_MIN = 1_440;
const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const formats = new Map<string, Intl.DateTimeFormat>();

/** When the quiet ends, ms; null where `nowMs` is not in it. */
export function quietUntil(quiet: QuietHours, nowMs: number): number | null {
  let end: number | null = null;
  // Whole days may follow one another.
  for (let day = 0; day < 8; day++) {
    const next = endOf(quiet, end ?? nowMs);
    if (next === null) break;
    end = next;
  }
  return end;
}

function endOf({ timeZone, from, to, days }: QuietHours, nowMs: number): number | null {
  const { minute, day } = wallClock(timeZone, nowMs);
  const yesterday = (day + 6) % 7;
  const inside =
    from < to
      ? minute >= from && minute < to && days.has(day)
      : (minute >= from && days.has(day)) || (minute < to && days.has(yesterday));
  if (!inside) return null;
  const left = (to - minute + DAY_MIN) % DAY_MIN || DAY_MIN;
  const end = nowMs - (nowMs % MINUTE_MS) + left * MINUTE_MS;
  // Where the clock on the wall is moved in between, the end moves with it.
  const off = ((wallClock(timeZone, end).minute - to + DAY_MIN / 2 + DAY_MIN) % DAY_MIN) - DAY_MIN / 2;
  return end - off * MINUTE_MS;
}

function wallClock(timeZone: string, atMs: number): { minute: number; day: number } {
  let format = formats.get(timeZone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      weekday: 'short',
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23',
    });
    formats.set(timeZone, format);
  }
  const parts = Object.fromEntries(format.formatToParts(atMs).map(({ type, value }) => [type, value]));
  return { minute: Number(parts.hour) * 60 + Number(parts.minute), day: WEEKDAYS.indexOf(parts.weekday) };
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
