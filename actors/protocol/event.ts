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
