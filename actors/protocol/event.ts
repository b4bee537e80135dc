import type { Severity } from './entry.ts';
import type { TwinId } from './twin-id.ts';

/** What a fold has to say to the world. Rows of the checkpoint, ordered by `seq` within a shard. */
export type EventType =
  | 'twin.created'
  | 'twin.online'
  | 'twin.offline'
  | 'twin.retired'
  | 'twin.restored'
  | 'anomaly.detected'
  | 'maintenance.predicted'
  | 'alert.raised'
  | 'alert.cleared'
  | 'alert.acknowledged'
  | 'alert.resolved'
  | 'alert.silenced'
  | 'health.changed'
  | 'desired.changed'
  | 'maintenance.recorded';

/** An event as the fold emits it. */
export interface Emitted {
  type: EventType;
  /** Event time, milliseconds since the epoch. */
  at: number;
  body: Record<string, unknown>;
}

export interface TwinEvent extends Emitted {
  /** `<twinId>~<revision>~<n>`: stable under redelivery. */
  eventId: string;
  shard: number;
  seq: number;
  /** Twin key in the store. */
  twin: number;
  twinId: TwinId;
  revision: number;
  receivedAt: number;
}

/** Body of `anomaly.detected`, statistical detectors. */
export interface AnomalyBody {
  field: string;
  value: number;
  /** `[lo, hi]` in the metric's unit, where the detector has one. */
  expected: [number, number] | null;
  /** |z| where the detector is the z-score, else the ratio to the limit. */
  score: number;
  threshold: number;
  detector: 'zscore' | 'rate' | 'stuck';
  severity: 'low' | 'medium' | 'high';
  reason: string;
}

/** Body of the `alert.*` events. */
export interface AlertBody {
  alertId: string;
  rule: string;
  severity: Severity;
  message: string;
  value?: number;
  by?: string;
  note?: string;
}

/** Body of `anomaly.detected` where a model found it. */
export interface ModelAnomalyBody {
  /** Name of the prediction, e.g. `anomaly`. */
  prediction: string;
  model: string;
  score: number;
  threshold: number;
  /** The metric with the largest share, and its value. */
  field: string;
  value: number | null;
  contributions: Record<string, number>;
  detector: 'model';
  severity: 'low' | 'medium' | 'high';
  reason: string;
  expected: [number, number] | null;
}

/** Body of `maintenance.predicted`. */
export interface MaintenanceBody {
  prediction: string;
  model: string;
  /** Remaining useful life as the model says it, with its unit, and in hours. */
  value: number;
  unit: string;
  hours: number;
  interval: [number, number] | null;
  /** The interval in hours. */
  hoursInterval: [number, number] | null;
  action: 'none' | 'inspect' | 'schedule_maintenance' | 'stop';
  priority: 'low' | 'medium' | 'high' | 'critical';
}
