import type { DriftChange } from './report.ts';

/** What is said outside when an input of a model begins or ceases to drift: Kafka topic and MQTT event `data-drift`. */
export const DRIFT_TOPIC = 'data-drift';
/** The same as a type of event: of rules of notifiers, and of the live stream. */
export const DATA_DRIFT = 'data.drift';

export interface DriftTold extends DriftChange {
  /** When it was judged, ms. */
  at: number;
}

/** The same at every repetition. */
const eventIdOf = ({ model, version, input, at }: DriftTold) => `${model}@${version}~${input}~${at}`;

/** As programs are told of it, over MQTT, Kafka and webhooks. */
export function driftContent(told: DriftTold): Record<string, unknown> {
  const { model, version, kind, input, psi, drifting, reason, at } = told;
  return {
    event_id: eventIdOf(told),
    timestamp: new Date(at).toISOString(),
    model,
    model_version: `${model}@${version}`,
    kind,
    input,
    data_drift_score: psi,
    drifting,
    reason,
  };
}

export function driftMessage(told: DriftTold): { topic: string; key: string; payload: string } {
  const { model } = told;
  const payload = JSON.stringify(driftContent(told));
  return { topic: `twins/models/${model}/events/${DRIFT_TOPIC}`, key: model, payload };
}

/** As the live stream shows it: shaped like an event, without a twin and a revision. */
export function driftView(told: DriftTold): Record<string, unknown> {
  const { model, version, kind, input, psi, drifting, reason, at } = told;
  return {
    event_id: eventIdOf(told),
    type: DATA_DRIFT,
    kind,
    at: new Date(at).toISOString(),
    body: { model, version, input, psi, drifting, reason },
  };
}
