/**
 * A reading: what one asset measured at one instant, already validated. Everything behind ingest trusts it.
 * Invariants: `id` and metric names passed the allow-lists; every value is finite, in range, and never -0 (PostgreSQL
 * and JSON would lose the sign, and replay must equal live bit for bit); `at` is an integer.
 */
export interface Reading {
  kind: string;
  /** Asset id, without the kind. */
  id: string;
  /** Event time, milliseconds since the epoch. */
  at: number;
  /** Metric name → value in the unit of the kind. At least one. */
  values: Record<string, number>;
  /** The reading's own id where it carries one: its identity. */
  key?: string;
  /** Running number of the device, part of the identity where it carries one. */
  seq?: number;
  /** Sensor that spoke, where the asset has several. */
  sensor?: string;
  /** Facts that come with the reading and become attributes of the twin. */
  attributes?: Record<string, string | number | boolean>;
  /** Unit of the value, only for kinds with open metrics. */
  unit?: string;
  /** The payload had no time: `at` is the time of arrival, so a redelivery cannot be recognised. */
  untimed?: true;
}

/** What became of a reading, in the order of its batch. */
export type Outcome =
  | 'accepted'
  | 'backfill'
  | 'duplicate'
  | 'conflicting_duplicate'
  | 'retired'
  | 'too_many_metrics'
  | 'poison';

/** The part of the identity that is not the time: own id, else sensor, metric set and seq. */
export function identityOf(reading: Reading): string {
  if (reading.key !== undefined) return `k${reading.key}`;
  let metrics = '';
  for (const name of Object.keys(reading.values).sort()) metrics += `${name},`;
  return `t${reading.seq ?? ''}|${reading.sensor ?? ''}|${metrics}`;
}
