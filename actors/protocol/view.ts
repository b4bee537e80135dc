import type { Severity } from './entry.ts';
import type { Prediction } from './prediction.ts';
import type { TwinId } from './twin-id.ts';

/** The twin as an operator sees it: plain JSON. */
export interface TwinView {
  twinId: TwinId;
  kind: string;
  revision: number;
  /** Event time of the newest reading folded, ISO 8601; null before the first. */
  at: string | null;
  receivedAt: string | null;
  attributes: Record<string, string | number | boolean>;
  reported: Record<string, number>;
  units?: Record<string, string>;
  rolling: Record<string, Record<string, WindowView>>;
  desired: Record<string, unknown>;
  delta: Record<string, unknown>;
  /** Newest answer of each model, by the name of the prediction. */
  predictions: Record<string, PredictionView>;
  health: { status: Health; reasons: string[] };
  alerts: AlertView[];
  online: boolean;
  retired: boolean;
  maintenance: { at: string; work: string; by: string } | null;
  ingest: { accepted: number; late: number; duplicate: number; backfill: number; lagMs: number | null };
  stale: Stale | null;
}

/** Statistics of one metric over one event-time window; null where too few readings have been seen. */
export interface WindowView {
  count: number;
  mean: number | null;
  /** Sample standard deviation. */
  std: number | null;
  min: number | null;
  max: number | null;
  last: number | null;
  /** Least-squares slope, unit of the metric per second. */
  slope: number | null;
  /** Exponentially weighted mean, time constant = the window. */
  ewma: number | null;
  /** (newest − mean) / std of the window before the newest. */
  z: number | null;
}

/** What a model said of the twin last; members as in `Prediction`. */
export interface PredictionView extends Omit<Prediction, 'model' | 'at'> {
  /** Name of the model and its version. */
  model: string;
  version: string;
  /** Event time of the newest reading it is based on, ISO 8601. */
  at: string;
  /** Revision of the twin it was asked about. */
  basedOn: number;
  stale: PredictionStale | null;
}

/**
 * `refused`: the model was asked since, and had no answer that stands. `overdue`: the twin has told more since than the answer
 * may be old, and no newer answer has come.
 */
export const PREDICTION_STALE_REASONS = ['inference down', 'refused', 'overdue'] as const;

export interface PredictionStale {
  reason: (typeof PREDICTION_STALE_REASONS)[number];
  /** ISO 8601. */
  since: string;
  remedy: string;
}

export type Health = 'ok' | 'warning' | 'critical' | 'unknown';

export interface AlertView {
  alertId: string;
  rule: string;
  severity: Severity;
  message: string;
  state: 'raised' | 'acknowledged';
  raisedAt: string;
  acknowledgedBy?: string;
  silencedUntil?: string;
}

export const STALE_REASONS = [
  'store down',
  'not owner',
  'poison',
  'ingest paused',
  'inference down',
  'device silent',
] as const;
export type StaleReason = (typeof STALE_REASONS)[number];

/** Why what you see may be old, since when, and what to do. */
export interface Stale {
  reason: StaleReason;
  /** ISO 8601. */
  since: string;
  remedy: string;
}
