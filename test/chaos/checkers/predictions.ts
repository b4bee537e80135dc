import type { Entry } from '../../../actors/protocol/entry.ts';
import { levelOf } from '../counter-model.ts';
import type { Checker } from './checker.ts';

/**
 * Inference may be away for its breaker's minute and a little; then it has to have caught up. In event time, which runs as fast as
 * the harness sends: so much, or that share of what was sent.
 */
const CAUGHT_UP_MS = 120_000;
const CAUGHT_UP_SHARE = 0.25;

/**
 * Every prediction is what the model makes of the state that it says it is based on, none is there twice, and none is missing for
 * long: who was away has caught up.
 */
export const predictions: Checker = {
  name: 'wrong predictions',
  twin({ asset, journal }) {
    const faults: string[] = [];
    const states = new Map<number, { load?: number; temperature?: number; at: number }>();
    const seen = new Set<number>();
    let state: { load?: number; temperature?: number; at: number } = { at: 0 };
    let newest = 0;
    let oldest = Number.POSITIVE_INFINITY;
    let answered: number | null = null;
    for (const entry of journal) {
      if (entry.type === 'reading') {
        const { at, values } = entry.reading;
        // a late reading changes nothing that is reported
        if (at >= state.at)
          state = { load: values.load ?? state.load, temperature: values.temperature ?? state.temperature, at };
        newest = Math.max(newest, at);
        oldest = Math.min(oldest, at);
      } else if (entry.type === 'prediction') {
        const based = states.get(entry.basedOn);
        const fault = faultOf(entry, based);
        if (fault !== null) faults.push(`${asset.twinId} at ${entry.revision}: ${fault}`);
        if (seen.has(entry.basedOn)) faults.push(`${asset.twinId} has two predictions about ${entry.basedOn}`);
        seen.add(entry.basedOn);
        if (based !== undefined) answered = based.at;
      }
      states.set(entry.revision, state);
    }
    const limitMs = Math.max(CAUGHT_UP_MS, CAUGHT_UP_SHARE * (newest - oldest));
    if (newest - oldest > limitMs && (answered === null || newest - answered > limitMs)) {
      const since =
        answered === null ? 'at all' : `for the last ${Math.round((newest - answered) / 1_000)} s of its readings`;
      faults.push(`${asset.twinId} has no prediction ${since}`);
    }
    return faults;
  },
};

function faultOf(
  { basedOn, revision, prediction }: Extract<Entry, { type: 'prediction' }>,
  state: { load?: number; temperature?: number } | undefined,
): string | null {
  if (state === undefined || basedOn >= revision) return `it is based on ${basedOn}, which is not before it`;
  if (state.load === undefined || state.temperature === undefined)
    return `it is based on ${basedOn}, where values are missing`;
  const wanted = levelOf(state.load, state.temperature);
  const value = Number(prediction.value);
  if (Math.abs(value - wanted) > 1e-3 * Math.max(1, Math.abs(wanted)))
    return `it says ${value} about ${basedOn}, where the model says ${wanted}`;
  return null;
}
