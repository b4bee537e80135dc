import type { Entry, PredictionEntry } from '../../actors/protocol/entry.ts';
import type { Emitted } from '../../actors/protocol/event.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Prediction } from '../../actors/protocol/prediction.ts';
import { twinIdOf } from '../../actors/protocol/twin-id.ts';
import { Fork } from '../../actors/runtime/fork.ts';
import { H, M } from '../../actors/runtime/layout.ts';
import { metricOffset } from '../../actors/runtime/state.ts';
import { type Counts, count, nothingFound } from './found.ts';
import type { Labels } from './labels.ts';

/** What one model said of the readings of a file. */
export interface Told {
  /** `name@version` of whoever answered, in the order in which they first did. */
  models: string[];
  answers: number;
  /** Answers that were a score, and those above their threshold. */
  scored: number;
  flagged: number;
  /** Against the labels, of the readings that it was asked about. */
  found: Counts;
  labelled: number;
  /** Mean absolute errors by metric, and what "it stays as it is" would have been off. */
  forecast: Record<string, { count: number; error: number; stays: number }>;
}

/** A forecast, until the reading comes that it was about. */
interface Waiting {
  told: Told;
  dueAt: number;
  latestAt: number;
  forecast: Record<string, number>;
  /** Values when it was made. */
  before: Record<string, number>;
}

/** The reading a forecast is held against comes at most so much of the horizon after its time. */
const SLACK = 0.1;

/**
 * What twins made of the readings of a file: their journals, folded once more by the turn that live used, so that what the detectors
 * flagged and which events followed is what it was, beside what models said then.
 *
 * Counts what lies in the event times that were played; what lies before is folded only.
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
  /** Twins of which the beginning of the journal has expired. */
  readonly incomplete: string[] = [];
  readonly #kind: Kind;
  readonly #labels: Labels;

  constructor(kind: Kind, labels: Labels) {
    this.#kind = kind;
    this.#labels = labels;
  }

  /** Answers how many entries were folded. */
  async follow(
    id: string,
    pages: AsyncIterable<readonly Entry[]>,
    span: { from: number; to: number },
  ): Promise<number> {
    const twinId = twinIdOf(this.#kind.kind, id);
    const fork = Fork.fresh(this.#kind, twinId);
    const flags = new Map<number, { detectors: boolean; models: boolean }>();
    let waiting: Waiting[] = [];
    this.twins++;
    for await (const entries of pages) {
      for (const entry of entries) {
        if (entry.revision !== fork.revision + 1) {
          this.incomplete.push(twinId);
          return fork.revision;
        }
        const emitted = fork.follow(entry);
        if (entry.type === 'reading') {
          const { at } = entry.reading;
          waiting = waiting.filter((forecast) => !this.#came(forecast, fork, at));
          if (at < span.from || at > span.to) continue;
          flags.set(at, { detectors: fork.state.n[H.FLAGGED] > 0, models: false });
        } else if (entry.type === 'prediction') {
          const prediction = entry.prediction as unknown as Prediction;
          if (!(prediction.at >= span.from && prediction.at <= span.to)) continue;
          const told = this.#tell(id, entry, prediction, flags);
          const { forecast, horizonMs } = prediction;
          if (forecast !== undefined && horizonMs !== undefined)
            waiting.push({
              told,
              dueAt: prediction.at + horizonMs,
              latestAt: prediction.at + horizonMs * (1 + SLACK),
              forecast,
              before: reportedOf(fork, Object.keys(forecast)),
            });
        }
        for (const event of emitted) if (event.at >= span.from && event.at <= span.to) this.#happened(event);
      }
    }
    for (const [at, { detectors, models }] of flags) {
      const labelled = this.#labels.has(id, at);
      this.readings++;
      if (labelled) this.labelled++;
      count(this.detectors, detectors, labelled);
      count(this.either, detectors || models, labelled);
    }
    return fork.revision;
  }

  #tell(id: string, { name }: PredictionEntry, prediction: Prediction, flags: Map<number, { models: boolean }>): Told {
    let told = this.told.get(name);
    if (told === undefined) {
      told = { models: [], answers: 0, scored: 0, flagged: 0, found: nothingFound(), labelled: 0, forecast: {} };
      this.told.set(name, told);
    }
    const { at, model, score, threshold } = prediction;
    told.answers++;
    if (!told.models.includes(model)) told.models.push(model);
    if (score === undefined || threshold === undefined) return told;
    told.scored++;
    const isFlagged = score > threshold;
    const labelled = this.#labels.has(id, at);
    if (isFlagged) told.flagged++;
    if (labelled) told.labelled++;
    count(told.found, isFlagged, labelled);
    const flag = flags.get(at);
    if (flag !== undefined && isFlagged) flag.models = true;
    return told;
  }

  /** Whether nothing more is to be waited for. */
  #came({ told, dueAt, latestAt, forecast, before }: Waiting, fork: Fork, at: number): boolean {
    if (at < dueAt) return false;
    if (at > latestAt) return true;
    const now = reportedOf(fork, Object.keys(forecast));
    for (const [metric, said] of Object.entries(forecast)) {
      if (now[metric] === undefined || before[metric] === undefined) continue;
      told.forecast[metric] ??= { count: 0, error: 0, stays: 0 };
      const sum = told.forecast[metric];
      sum.count++;
      sum.error += Math.abs(said - now[metric]);
      sum.stays += Math.abs(before[metric] - now[metric]);
    }
    return true;
  }

  #happened({ type, body }: Emitted): void {
    const what = type === 'anomaly.detected' ? `${type} (${body.detector})` : type;
    this.events[what] = (this.events[what] ?? 0) + 1;
  }
}

function reportedOf({ state }: Fork, metrics: readonly string[]): Record<string, number> {
  const values: Record<string, number> = {};
  for (const metric of metrics) {
    const m = metricOffset(state, metric);
    if (m >= 0 && state.n[m + M.COUNT] > 0) values[metric] = state.n[m + M.LAST];
  }
  return values;
}
