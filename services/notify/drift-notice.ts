import { DATA_DRIFT, type DriftTold, driftContent } from '../drift/message.ts';
import type { Tidings } from './dispatcher.ts';

/**
 * What drift of an input of a model means to somebody who is told of it. It stands until the index has fallen again, also where
 * another version has gone live meanwhile: the thread is of the model. Cooldowns go by the model, as those of events by the twin.
 */
export function driftTidings(told: DriftTold): Tidings {
  const { model, version, kind, input, psi, drifting, at } = told;
  const content = driftContent(told);
  const id = `${model}@${version}`;
  return {
    heardAtMs: at,
    message: () => content,
    notice: {
      type: DATA_DRIFT,
      eventId: String(content.event_id),
      twinId: null,
      // no twin has this id: a slash is in none
      subject: `models/${model}`,
      kind,
      at,
      action: drifting ? 'trigger' : 'resolve',
      thread: `models/${model}~drift~${input}`,
      dedupKey: String(content.event_id),
      severity: 'warning',
      alertId: null,
      health: null,
      title: drifting ? `${model}: ${input} drifts` : `${model}: ${input} drifts no more`,
      text: `Population stability index ${psi.toFixed(2)} of what ${id} is asked against its training.`,
    },
  };
}
