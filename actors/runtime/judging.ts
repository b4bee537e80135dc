import type { Outcome, Reading } from '../protocol/reading.ts';
import type { Activation } from './activation.ts';
import { identityHash, valuesHash } from './identity.ts';
import { H } from './layout.ts';
import { MAX_OPEN_METRICS, type TwinState } from './state.ts';

/** What a reading is to its twin. `old`: history has to be asked. */
export function judgeReading(
  activation: Pick<Activation, 'state'>,
  reading: Reading,
): Exclude<Outcome, 'poison' | 'backfill'> | 'old' {
  const { state } = activation;
  const { n } = state;
  if (n[H.RETIRED] === 1) return 'retired';
  if (state.kind.openMetrics && learnsTooMuch(state, reading)) return 'too_many_metrics';
  if (n[H.ACCEPTED] > 0 && reading.at <= n[H.FLOOR]) return 'old';
  // newer than everything folded and without an id of its own: cannot have been seen
  if (reading.at > n[H.AT] && reading.key === undefined) return 'accepted';
  const recognised = state.recent.recognise(
    reading.at,
    identityHash(state.kind, reading),
    valuesHash(state.kind, reading),
    reading.key !== undefined,
  );
  return recognised === 'new' ? 'accepted' : recognised === 'duplicate' ? 'duplicate' : 'conflicting_duplicate';
}

/** Judged before the fold: what is refused must not be in the journal. */
function learnsTooMuch(state: TwinState, reading: Reading): boolean {
  const known = state.aside.metrics ?? [];
  let learned = known.length;
  for (const name of Object.keys(reading.values)) if (!known.includes(name)) learned++;
  return learned > known.length && learned > MAX_OPEN_METRICS;
}
