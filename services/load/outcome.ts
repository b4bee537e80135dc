import type { Entry, PredictionEntry } from '../../actors/protocol/entry.ts';
import type { Emitted } from '../../actors/protocol/event.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Prediction } from '../../actors/protocol/prediction.ts';
import { twinIdOf } from '../../actors/protocol/twin-id.ts';
import { isDueSince } from '../../actors/runtime/foretelling.ts';
import { Fork } from '../../actors/runtime/fork.ts';
import { H, layoutOf, M } from '../../actors/runtime/layout.ts';
import { metricOffset } from '../../actors/runtime/state.ts';
import { type Counts, count, nothingFound } from './found.ts';
import type { Labels } from './labels.ts';

/** What one model said of the readings of a file. */
export interface Told {
  /** `name@version` of whoever answered, in the order in which they first did. */
  models: string[];
  answers: number;
  /** Moments at which it was due, had every answer come at once. */
  due: number;
  /** Answers that were a score, and those above their threshold. */
  scored: number;
  flagged: number;
  /** Against the labels, of the readings that it was asked about. */
  found: Counts;
  labelled: number;
  /** Mean absolute errors by metric are error / count; `stays` is what "it stays as it is" would have been off. */
  forecast: Record<string, { count: number; error: number; stays: number }>;
  /** Forecasts of times that no reading lies near. */
  open: number;
}

/** A reading that was played, as it was folded. */
interface Folded {
  revision: number;
  at: number;
  /** By detectors. */
  isFlagged: boolean;
  /** A model found something in the state that it brought. */
  isFound: boolean;
  /** Reported values behind it, in order of the kind's metrics; NaN: none yet. Null where the reading came late: it was not the newest. */
  reported: Float64Array | null;
}

/** The reading a forecast is held against comes at most so much of the horizon after its time. */
const SLACK = 0.1;

/**
 * What twins made of the readings of a file: their journals, folded once more by the turn that live used, so that what the detectors
 * flagged and which events followed is what it was, beside what models said then.
 *
 *  1  Counts what lies in the event times that were played; what lies before is folded only.
 *  2  An answer is about the state it was based on, however many readings came before it reached the journal.
 */
export class Outcome {
  twins = 0;
  readings = 0;
  labelled = 0;
  /** By type; anomalies by who found them. */
  readonly events: Record<string, number> = {};
  readonly told = new Map<string, Told>();
  readonly detectors = nothingFound();
  /** By detectors or by any model. */
  readonly either = nothingFound();
  /** Readings that had been received before the replay began. */
  known = 0;
  /** Twins of which the beginning of the journal has expired: what detectors said cannot be folded again. */
  readonly incomplete: string[] = [];
  readonly #kind: Kind;
  readonly #labels: Labels;

  constructor(kind: Kind, labels: Labels) {
    this.#kind = kind;
    this.#labels = labels;
  }

  /** `span`: event times that were played. `since`: when the replay began. */
  async follow(
    id: string,
    pages: AsyncIterable<readonly Entry[]>,
    span: { from: number; to: number },
    since: number,
  ): Promise<void> {
    const twinId = twinIdOf(this.#kind.kind, id);
    const { predictions } = layoutOf(this.#kind);
    const due = predictions.map(() => ({ at: Number.NEGATIVE_INFINITY, count: 0 }));
    let known = 0;
    const fork = Fork.fresh(this.#kind, twinId);
    const isPlayed = (at: number): boolean => at >= span.from && at <= span.to;
    const folded: Folded[] = [];
    const answers: PredictionEntry[] = [];
    const events: Emitted[] = [];
    for await (const entries of pages) {
      for (const entry of entries) {
        if (entry.revision !== fork.revision + 1) {
          this.incomplete.push(twinId);
          return;
        }
        const newest = fork.at;
        for (const event of fork.follow(entry)) if (isPlayed(event.at)) events.push(event);
        if (entry.type === 'prediction' && isPlayed(entry.prediction.at as number)) answers.push(entry);
        if (entry.type !== 'reading') continue;
        const { at } = entry.reading;
        predictions.forEach((plan, p) => {
          if (!isDueSince(fork.state, plan, due[p].at)) return;
          due[p].at = fork.at;
          if (isPlayed(fork.at)) due[p].count++;
        });
        if (!isPlayed(at)) continue;
        if (entry.receivedAt < since) known++;
        folded.push({
          revision: entry.revision,
          at,
          isFlagged: fork.state.n[H.FLAGGED] > 0,
          isFound: false,
          reported: at < newest ? null : this.#reported(fork),
        });
      }
    }
    this.twins++;
    this.known += known;
    predictions.forEach(({ name }, p) => {
      if (due[p].count > 0) this.#toldOf(name).due += due[p].count;
    });
    const inOrder = folded.filter(({ reported }) => reported !== null);
    for (const answer of answers) this.#tell(id, answer, inOrder);
    for (const { at, isFlagged, isFound } of folded) {
      const labelled = this.#labels.has(id, at);
      this.readings++;
      if (labelled) this.labelled++;
      count(this.detectors, isFlagged, labelled);
      count(this.either, isFlagged || isFound, labelled);
    }
    for (const { type, body } of events) {
      const what = type === 'anomaly.detected' ? `${type} (${body.detector})` : type;
      this.events[what] = (this.events[what] ?? 0) + 1;
    }
  }

  /** `inOrder`: readings that were the newest when they came, so in order of revision and of event time. */
  #tell(id: string, { name, basedOn, prediction }: PredictionEntry, inOrder: readonly Folded[]): void {
    const told = this.#toldOf(name);
    const { at, model, score, threshold, forecast, horizonMs } = prediction as unknown as Prediction;
    told.answers++;
    if (!told.models.includes(model)) told.models.push(model);
    const asked = inOrder[firstWhere(inOrder, ({ revision }) => revision > basedOn) - 1];
    if (score !== undefined && threshold !== undefined) {
      told.scored++;
      const isFlagged = score > threshold;
      const labelled = this.#labels.has(id, at);
      if (isFlagged) told.flagged++;
      if (labelled) told.labelled++;
      count(told.found, isFlagged, labelled);
      if (isFlagged && asked !== undefined) asked.isFound = true;
    }
    if (forecast === undefined || horizonMs === undefined) return;
    const came = inOrder[firstWhere(inOrder, (reading) => reading.at >= at + horizonMs)];
    if (asked === undefined || came === undefined || came.at > at + horizonMs * (1 + SLACK)) {
      told.open++;
      return;
    }
    for (const [metric, said] of Object.entries(forecast)) {
      const m = this.#kind.metricNames.indexOf(metric);
      const [then, now] = [asked.reported?.[m] ?? Number.NaN, came.reported?.[m] ?? Number.NaN];
      if (Number.isNaN(then) || Number.isNaN(now)) continue;
      told.forecast[metric] ??= { count: 0, error: 0, stays: 0 };
      const sum = told.forecast[metric];
      sum.count++;
      sum.error += Math.abs(said - now);
      sum.stays += Math.abs(then - now);
    }
  }

  #toldOf(name: string): Told {
    let told = this.told.get(name);
    if (told === undefined) {
      const counts = { answers: 0, due: 0, scored: 0, flagged: 0, labelled: 0, open: 0 };
      told = { ...counts, models: [], found: nothingFound(), forecast: {} };
      this.told.set(name, told);
    }
    return told;
  }

  #reported({ state }: Fork): Float64Array {
    return Float64Array.from(this.#kind.metricNames, (metric) => {
      const m = metricOffset(state, metric);
      return m >= 0 && state.n[m + M.COUNT] > 0 ? state.n[m + M.LAST] : Number.NaN;
    });
  }
}

/** Place of the first for which it holds, where it goes on to hold from there; the length where there is none. */
function firstWhere<T>(items: readonly T[], holds: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(items[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
