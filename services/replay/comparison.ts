import type { Emitted } from '../../actors/protocol/event.ts';

/**
 * What two courses of one twin have to say, side by side: alerts, anomalies that models found, actions that were recommended.
 *
 * Two happenings of the same name belong together where no more than the window lies between them; the nearer one goes first.
 * What is no further apart than the tolerance happened at the same time: models are asked every so often, and a moment sooner or
 * later says nothing about them.
 */
export type What = 'alert' | 'anomaly' | 'maintenance';
export type Change = 'same' | 'gained' | 'lost' | 'earlier' | 'later';

export interface Happening {
  what: What;
  /** Rule, prediction, or prediction and action. */
  name: string;
  /** Event time, ms. */
  at: number;
  severity: string | null;
  body: Record<string, unknown>;
}

export interface Difference {
  change: Exclude<Change, 'same'>;
  what: What;
  name: string;
  was: Happening | null;
  now: Happening | null;
}

export type Counts = Record<Change, number> & { was: number; now: number };
export type Tally = Record<What, Counts>;

export interface Margins {
  windowMs: number;
  toleranceMs: number;
}

/** The happening that an event is, null where it is none that is compared. */
export function happeningOf({ type, at, body }: Emitted): Happening | null {
  const severity = typeof body.severity === 'string' ? body.severity : null;
  switch (type) {
    case 'alert.raised':
      return { what: 'alert', name: String(body.rule), at, severity, body };
    case 'anomaly.detected':
      return body.detector === 'model' ? { what: 'anomaly', name: String(body.prediction), at, severity, body } : null;
    case 'maintenance.predicted':
      return { what: 'maintenance', name: `${body.prediction}: ${body.action}`, at, severity: null, body };
    default:
      return null;
  }
}

export function newTally(): Tally {
  const counts = (): Counts => ({ was: 0, now: 0, same: 0, gained: 0, lost: 0, earlier: 0, later: 0 });
  return { alert: counts(), anomaly: counts(), maintenance: counts() };
}

/** Both in any order. What differs, in order of time; `tally` gets what it comes to. */
export function compare(
  was: readonly Happening[],
  now: readonly Happening[],
  margins: Margins,
  tally: Tally,
): Difference[] {
  const differences: Difference[] = [];
  const before = grouped(was);
  const after = grouped(now);
  for (const key of new Set([...before.keys(), ...after.keys()]))
    for (const [old, other] of pairs(before.get(key) ?? [], after.get(key) ?? [], margins.windowMs)) {
      const { what, name } = (old ?? other)!;
      const change = changeOf(old, other, margins.toleranceMs);
      tally[what][change]++;
      if (old !== null) tally[what].was++;
      if (other !== null) tally[what].now++;
      if (change !== 'same') differences.push({ change, what, name, was: old, now: other });
    }
  return differences.sort((a, b) => timeOf(a) - timeOf(b));
}

function changeOf(was: Happening | null, now: Happening | null, toleranceMs: number): Change {
  if (was === null) return 'gained';
  if (now === null) return 'lost';
  if (Math.abs(now.at - was.at) <= toleranceMs) return 'same';
  return now.at < was.at ? 'earlier' : 'later';
}

function timeOf({ was, now }: Difference): number {
  return Math.min(was?.at ?? Number.POSITIVE_INFINITY, now?.at ?? Number.POSITIVE_INFINITY);
}

function grouped(happenings: readonly Happening[]): Map<string, Happening[]> {
  const groups = new Map<string, Happening[]>();
  for (const happening of happenings) {
    const key = `${happening.what} ${happening.name}`;
    const group = groups.get(key);
    if (group) group.push(happening);
    else groups.set(key, [happening]);
  }
  for (const group of groups.values()) group.sort((a, b) => a.at - b.at);
  return groups;
}

type Pair = [was: Happening | null, now: Happening | null];

/** Both in order of time: each with the one that is nearest, in order, no further than the window. */
function pairs(was: readonly Happening[], now: readonly Happening[], windowMs: number): Pair[] {
  const found: Pair[] = [];
  let i = 0;
  let j = 0;
  while (i < was.length && j < now.length) {
    const apart = Math.abs(now[j].at - was[i].at);
    const nextWas = i + 1 < was.length ? Math.abs(now[j].at - was[i + 1].at) : Number.POSITIVE_INFINITY;
    const nextNow = j + 1 < now.length ? Math.abs(now[j + 1].at - was[i].at) : Number.POSITIVE_INFINITY;
    if (apart <= windowMs && apart <= nextWas && apart <= nextNow) found.push([was[i++], now[j++]]);
    else if (was[i].at <= now[j].at) found.push([was[i++], null]);
    else found.push([null, now[j++]]);
  }
  for (; i < was.length; i++) found.push([was[i], null]);
  for (; j < now.length; j++) found.push([null, now[j]]);
  return found;
}
