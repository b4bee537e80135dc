import type { TwinmeshError } from '../protocol/errors.ts';
import type { Outcome, Reading } from '../protocol/reading.ts';
import type { Span } from '../protocol/trace.ts';
import type { Protocol } from './route.ts';
import type { Speaker } from './speaker.ts';

/** Where a payload came from. */
export interface Source {
  protocol: Protocol;
  /** Topic, subject, path or file. */
  address: string;
  /** Who sent it; null where another broker has decided that. */
  speaker: Speaker | null;
}

/** One payload on its way: what was read from it and what became of each message. */
export interface Intake {
  source: Source;
  /** When it arrived, ms. */
  receivedAt: number;
  bytes: number;
  /** In the order of the payload. */
  items: Item[];
  /** It comes out of the dead letters. */
  replay: boolean;
  /** `twins/<kind>/<id>/status`: what it said. */
  status?: { twinId: string; online: boolean };
  /** From its arrival until it is done, where it is traced. */
  span?: Span;
}

export interface Item {
  reading: Reading | null;
  /** Set when the reading could not be taken, at the door or by the twin. */
  refusal: TwinmeshError | null;
  outcome: Outcome | null;
  /** The message as it was sent. */
  text(): string;
}

/** What a source is told: `index` counts the messages of its payload from 0. */
export interface SubmitResult {
  /** Stored: folded or as backfill. */
  accepted: number;
  duplicates: number;
  rejected: { index: number; code: string; message: string }[];
}

export function resultOf(intake: Intake): SubmitResult {
  const result: SubmitResult = { accepted: 0, duplicates: 0, rejected: [] };
  intake.items.forEach(({ refusal, outcome }, index) => {
    if (refusal !== null) result.rejected.push({ index, code: refusal.code, message: refusal.message });
    else if (outcome === 'duplicate') result.duplicates++;
    else result.accepted++;
  });
  return result;
}
