import { DOOR_LIMITS, Door } from '../../actors/ingress/door.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { twinIdOf } from '../../actors/protocol/twin-id.ts';
import { H } from '../../actors/runtime/layout.ts';
import { newState, type TwinState } from '../../actors/runtime/state.ts';
import { fold } from '../../actors/runtime/turn.ts';
import { BEGINNING } from './block.ts';
import { type Counts, count, nothingFound, ratiosOf } from './found.ts';
import { takeLabel, withLabels } from './labels.ts';
import { openBlocks } from './layout.ts';
import type { DataMap } from './map.ts';

/**
 * How well the detectors of a kind find what people have labelled: a file is folded through the very turn that live
 * readings go through, and what the newest reading was flagged as is compared with its label. A reading counts as flagged
 * when any of its metrics is; the cooldown, which only thins out events, plays no part.
 */
export interface LabelledEvent {
  twinId: string;
  fromMs: number;
  toMs: number;
  readings: number;
  flagged: number;
  /** From its first labelled reading to the first flagged one, ms; null where it was missed. */
  foundAfterMs: number | null;
}

export interface Score extends Counts {
  readings: number;
  labelled: number;
  precision: number;
  recall: number;
  f1: number;
  twins: Record<string, Counts & { readings: number }>;
  events: LabelledEvent[];
}

/** Labelled readings of a twin that lie no further apart are one event. */
const GAP_MS = 60_000;

/** Throws bad_request where the file does not fit the map or has no column of this name. */
export async function scoreDetectors(kind: Kind, map: DataMap, labelColumn: string, path: string): Promise<Score> {
  const plan = {
    kind,
    map: withLabels(map, labelColumn),
    startMs: Date.UTC(2020, 0, 1),
    messageBytes: 1_048_576,
    decode: null,
  };
  const [blocks] = await openBlocks([path], plan);
  const door = new Door({ ...DOOR_LIMITS, maxSkewMs: 0 });
  const states = new Map<string, TwinState>();
  const counts: Record<string, Counts & { readings: number }> = {};
  const events: LabelledEvent[] = [];
  const open = new Map<string, LabelledEvent>();
  for await (const block of blocks.from(BEGINNING)) {
    for (const labelled of block.readings) {
      const { raw, isLabelled } = takeLabel(labelled);
      const reading = door.admit(kind, raw, Number.POSITIVE_INFINITY);
      const twinId = twinIdOf(kind.kind, reading.id);
      const state = states.get(twinId) ?? newState(kind, twinId);
      states.set(twinId, state);
      fold(state, { type: 'reading', revision: state.n[H.REVISION] + 1, receivedAt: reading.at, reading }, []);
      const flagged = state.n[H.FLAGGED] > 0;
      counts[twinId] ??= { readings: 0, ...nothingFound() };
      counts[twinId].readings++;
      count(counts[twinId], flagged, isLabelled);
      if (!isLabelled) continue;
      let event = open.get(twinId);
      if (event === undefined || reading.at - event.toMs > GAP_MS) {
        event = { twinId, fromMs: reading.at, toMs: reading.at, readings: 0, flagged: 0, foundAfterMs: null };
        open.set(twinId, event);
        events.push(event);
      }
      event.toMs = reading.at;
      event.readings++;
      if (flagged) {
        event.flagged++;
        event.foundAfterMs ??= reading.at - event.fromMs;
      }
    }
  }
  return { ...summed(counts), twins: counts, events };
}

function summed(twins: Record<string, Counts & { readings: number }>): Omit<Score, 'twins' | 'events'> {
  const sum = { readings: 0, ...nothingFound() };
  for (const each of Object.values(twins)) {
    sum.readings += each.readings;
    sum.truePositives += each.truePositives;
    sum.falsePositives += each.falsePositives;
    sum.falseNegatives += each.falseNegatives;
  }
  return { ...sum, labelled: sum.truePositives + sum.falseNegatives, ...ratiosOf(sum) };
}

/** The score for people. */
export function scoreText(title: string, score: Score): string {
  const lines = [
    `${title}: ${score.readings} readings, ${score.labelled} labelled in ${score.events.length} events`,
    `  reading by reading  F1 ${score.f1.toFixed(3)}  precision ${score.precision.toFixed(3)}  recall ${score.recall.toFixed(3)}`,
  ];
  for (const [twinId, c] of Object.entries(score.twins)) {
    const found = `found ${c.truePositives}  missed ${c.falseNegatives}  false ${c.falsePositives}`;
    lines.push(`  ${twinId.padEnd(18)}  ${String(c.readings).padStart(6)} readings  ${found}`);
  }
  score.events.forEach((event, i) => {
    const when = event.foundAfterMs === null ? 'missed' : `found after ${event.foundAfterMs / 1000} s`;
    lines.push(`  event ${i + 1}: ${event.twinId}, ${event.flagged} of ${event.readings} readings flagged, ${when}`);
  });
  return lines.join('\n');
}
