import type { Reading } from '../../actors/protocol/reading.ts';
import { type FeatureReader, featuresOf } from '../../actors/runtime/features.ts';
import { isDueSince } from '../../actors/runtime/foretelling.ts';
import { H, type PredictionPlan } from '../../actors/runtime/layout.ts';
import type { TwinState } from '../../actors/runtime/state.ts';
import { fold } from '../../actors/runtime/turn.ts';
import type { Rows } from './rows.ts';
import type { ExportSpec, SampleSpec } from './spec.ts';

/** A horizon is met by the first reading at or after it, where that comes no later than this share of it. */
const HORIZON_SLACK = 0.1;

/**
 * Folds the readings of one twin through the turn that live readings go through, and makes rows of the states that are
 * sampled. Truth that lies ahead is filled in when its time comes.
 */
export class Sampler {
  readonly state: TwinState;
  readonly #reader: FeatureReader;
  readonly #rows: Rows;
  readonly #sample: SampleSpec;
  readonly #ahead: ExportSpec['ahead'];
  readonly #aheadColumns: number[];
  /** Writes the truth of a row that has just been made. */
  readonly #tell: (row: number, reading: Reading) => void;
  #waiting: { row: number; dueAt: number }[] = [];
  #firstAt = Number.NaN;
  #nextAt = Number.NEGATIVE_INFINITY;
  #readings = 0;
  #before = Number.NaN;
  #newest: Reading | null = null;
  readonly #plan: PredictionPlan | null;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(
    state: TwinState,
    reader: FeatureReader,
    rows: Rows,
    spec: ExportSpec,
    tell: (row: number, reading: Reading) => void,
  ) {
    this.state = state;
    this.#reader = reader;
    this.#rows = rows;
    this.#sample = spec.sample;
    this.#plan = spec.sample.due === undefined ? null : planOf(state, spec.sample.due);
    this.#ahead = spec.ahead;
    this.#aheadColumns = (spec.ahead?.metrics ?? []).map((metric) => rows.truthNames.indexOf(`ahead.${metric}`));
    this.#tell = tell;
  }

  /** Folds a reading. `hidden`: it is there as truth of what lies ahead only. */
  take(reading: Reading, truthValues: Record<string, number> = reading.values): void {
    const { state } = this;
    fold(state, { type: 'reading', revision: state.n[H.REVISION] + 1, receivedAt: reading.at, reading }, []);
    if (Number.isNaN(this.#firstAt)) this.#firstAt = reading.at;
    this.#settle(reading.at, truthValues);
    this.#readings++;
    this.#newest = reading;
    if (this.#isSampled(reading)) this.#row(reading);
  }

  /** The end of the twin's readings. */
  end(): void {
    const { last, fromMs = 0 } = this.#sample;
    if (last && this.#newest !== null && this.#newest.at - this.#firstAt >= fromMs) this.#row(this.#newest);
    this.#waiting = [];
  }

  #isSampled(reading: Reading): boolean {
    const { everyMs, everyReadings, crossing, fromMs = 0 } = this.#sample;
    let due = false;
    if (this.#plan !== null) {
      due = isDueSince(this.state, this.#plan, this.#askedAt);
      if (due) this.#askedAt = this.state.n[H.AT];
    } else if (crossing !== undefined) {
      const value = reading.values[crossing.metric];
      if (value !== undefined) {
        due = value <= crossing.below && this.#before > crossing.below && reading.at >= this.#nextAt;
        if (due) this.#nextAt = reading.at + (crossing.quietMs ?? 0);
        this.#before = value;
      }
    } else if (everyMs !== undefined) {
      due = reading.at >= this.#nextAt && reading.at - this.#firstAt >= fromMs;
      if (due) this.#nextAt = reading.at + everyMs;
    } else if (everyReadings !== undefined) {
      due = this.#readings % everyReadings === 0;
    }
    return due && reading.at - this.#firstAt >= fromMs;
  }

  #row(reading: Reading): void {
    const row = this.#rows.add((into, offset) => featuresOf(this.state, this.#reader, into, offset));
    this.#tell(row, reading);
    if (this.#ahead !== undefined) this.#waiting.push({ row, dueAt: reading.at + this.#ahead.horizonMs });
  }

  #settle(at: number, values: Record<string, number>): void {
    if (this.#ahead === undefined) return;
    const { horizonMs, metrics } = this.#ahead;
    while (this.#waiting.length > 0 && this.#waiting[0].dueAt <= at) {
      const { row, dueAt } = this.#waiting.shift()!;
      if (at - dueAt > horizonMs * HORIZON_SLACK) continue;
      metrics.forEach((metric, i) => {
        this.#rows.tell(row, this.#aheadColumns[i], values[metric] ?? Number.NaN);
      });
    }
  }
}

function planOf({ kind, layout }: TwinState, name: string): PredictionPlan {
  const plan = layout.predictions.find((prediction) => prediction.name === name);
  if (plan === undefined) throw new RangeError(`Kind "${kind.kind}" has no prediction "${name}".`);
  return plan;
}
