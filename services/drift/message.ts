import type { DriftChange } from './report.ts';

/** What is said outside when an input of a model begins or ceases to drift: Kafka topic and MQTT event `data-drift`. */
export const DRIFT_TOPIC = 'data-drift';

export interface DriftTold extends DriftChange {
  /** When it was judged, ms. */
  at: number;
}

export function driftMessage(told: DriftTold): { topic: string; key: string; payload: string } {
  const { model, version, kind, input, psi, drifting, at } = told;
  const payload = JSON.stringify({
    event_id: `${model}@${version}~${input}~${at}`,
    timestamp: new Date(at).toISOString(),
    model,
    model_version: `${model}@${version}`,
    kind,
    input,
    data_drift_score: psi,
    drifting,
  });
  return { topic: `twins/models/${model}/events/${DRIFT_TOPIC}`, key: model, payload };
}
