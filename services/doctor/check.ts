import type { Clock } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { Settings } from '../../config/settings.ts';

/**
 * What `npm run doctor` is made of: checks that look and change nothing, one a file, each with findings in words. What can
 * only be seen by trying is tried with something of its own that is taken away again.
 *
 *  1  A finding that is not ok says what to do.
 *  2  A check never throws and never hangs: what it meets is a finding, and it has a bounded time.
 *  3  No finding repeats a password, a token or the user part of a URL.
 */
export type Level = 'ok' | 'warning' | 'fault';

export interface Finding {
  /** The part that was looked at: `database`, `nats`, … */
  part: string;
  level: Level;
  says: string;
  /** What to do about it; absent where nothing is to be done. */
  remedy?: string;
}

export interface Patient {
  readonly settings: Settings;
  readonly clock: Clock;
  /** The configured PostgreSQL; null without one, or where it cannot be reached (the check of the database says why). */
  sql(): Promise<Sql | null>;
  /** Whether a node answers on the data folder. */
  running(): Promise<boolean>;
}

export interface Check {
  part: string;
  /** Whether the part is configured. */
  applies?(settings: Settings): boolean;
  /** Findings, at least one. */
  look(patient: Patient, tell: Tell): Promise<void> | void;
}

export interface Tell {
  ok(says: string): void;
  warning(says: string, remedy: string): void;
  fault(says: string, remedy: string): void;
}

/** A check has so long, ms. */
export const CHECK_WITHIN_MS = 30_000;

export async function findingsOf(check: Check, patient: Patient): Promise<Finding[]> {
  const { part } = check;
  if (check.applies?.(patient.settings) === false) return [];
  const found: Finding[] = [];
  let over = false;
  const add = (finding: Finding) => {
    if (!over) found.push({ ...finding, says: masked(finding.says) });
  };
  const tell: Tell = {
    ok: (says) => add({ part, level: 'ok', says }),
    warning: (says, remedy) => add({ part, level: 'warning', says, remedy }),
    fault: (says, remedy) => add({ part, level: 'fault', says, remedy }),
  };
  const late = new Promise<'late'>((resolve) => {
    patient.clock.after(CHECK_WITHIN_MS, () => resolve('late'));
  });
  try {
    const ended = await Promise.race([(async () => check.look(patient, tell))(), late]);
    if (ended === 'late')
      tell.fault(`no answer within ${CHECK_WITHIN_MS / 1000} s`, 'Look whether the part hangs, or the network to it.');
  } catch (error) {
    tell.fault(`the check itself failed: ${messageOf(error)}`, 'Report this with the output of --json.');
  }
  over = true;
  return found;
}

/** User and password of any URL in a text of somebody else's. */
export function masked(text: string): string {
  return text.replace(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi, '$1***@');
}

/** `host:port` of a URL, for people. */
export function placeOf(url: string, defaultPort: number): string {
  if (!URL.canParse(url)) return 'an address that cannot be read';
  const { hostname, port } = new URL(url);
  return `${hostname || 'localhost'}:${port || defaultPort}`;
}

export function isLoopback(url: string): boolean {
  return URL.canParse(url) && /^(localhost|127\.[0-9.]+|\[?::1\]?|)$/.test(new URL(url).hostname);
}
