import type { SubmitResult } from '../../actors/ingress/intake.ts';
import { type Protocol, TELEMETRY_PATH } from '../../actors/ingress/route.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { asTwinmeshError } from '../gateway/problem.ts';
import type { Letter } from './letters.ts';

/** Sends dead letters through the door again, each on the address it came in on. */
export interface ReplayResult {
  /** Letters that were sent again. */
  replayed: number;
  accepted: number;
  duplicates: number;
  /** Letters whose messages were refused again; they stay as they are. */
  rejected: { id: number; code: string; message: string }[];
  /** The last letter looked at: `after` for the next call; null when there was none. */
  lastId: number | null;
}

export interface Resubmission {
  protocol: Protocol;
  address: string;
  payload: string;
  replay: true;
  arrivedAt: number;
}

const PROTOCOLS: readonly Protocol[] = ['mqtt', 'http', 'kafka', 'nats', 'file'];

/**
 * Answers what became of them and the ids that are done with. Throws what keeps all of them out (store_down, overloaded);
 * `done` then holds those before.
 */
export async function replayLetters(
  letters: readonly Letter[],
  submit: (again: Resubmission) => Promise<SubmitResult>,
  onDone: (id: number) => void,
): Promise<ReplayResult> {
  const result: ReplayResult = {
    replayed: 0,
    accepted: 0,
    duplicates: 0,
    rejected: [],
    lastId: letters.at(-1)?.id ?? null,
  };
  for (const letter of letters) {
    const { id } = letter;
    try {
      const answer = await submit(resubmission(letter));
      result.replayed++;
      result.accepted += answer.accepted;
      result.duplicates += answer.duplicates;
      for (const { code, message } of answer.rejected) result.rejected.push({ id, code, message });
      if (answer.rejected.length === 0) onDone(id);
    } catch (thrown) {
      const error = asTwinmeshError(thrown);
      if (error.spec.retryable || error.code === 'internal') throw error;
      result.rejected.push({ id, code: error.code, message: error.message });
    }
  }
  return result;
}

/** Throws `bad_request` for a letter that cannot be sent again. */
function resubmission(letter: Letter): Resubmission {
  if (letter.truncated) throw new TwinmeshError('too_large', 'Only the beginning of its payload was kept.');
  const again = { replay: true, arrivedAt: letter.receivedAt.getTime() } as const;
  const colon = letter.source.indexOf(':');
  const protocol = letter.source.slice(0, colon) as Protocol;
  if (PROTOCOLS.includes(protocol)) {
    return { protocol, address: letter.source.slice(colon + 1), payload: letter.payload, ...again };
  }
  // What a twin could not fold: a reading that had passed the door.
  return { protocol: 'http', address: TELEMETRY_PATH, payload: asMessage(letter.payload), ...again };
}

/** A decoded reading in the generic format. */
function asMessage(payload: string): string {
  let reading: Record<string, unknown>;
  try {
    reading = JSON.parse(payload);
  } catch {
    throw new TwinmeshError('bad_request', 'The letter holds no message that could be sent.');
  }
  const { kind, id, twinId, key, at, values, seq, sensor, unit, attributes } = reading;
  return JSON.stringify({ twinId: twinId ?? `${kind}:${id}`, at, values, id: key, seq, sensor, unit, attributes });
}
