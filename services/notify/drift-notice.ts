import { DATA_DRIFT, type DriftTold, driftContent } from '../drift/message.ts';
import { UNJUDGED_DAYS } from '../drift/report.ts';
import type { Tidings } from './dispatcher.ts';

/**
 * What drift of an input of a model means to somebody who is told of it. It stands until the index has fallen again, or it is not judged
 * any more, also where another version has gone live meanwhile: the thread is of the model. Cooldowns go by the model, as those of
 * events by the twin.
 */
export function driftTidings(told: DriftTold): Tidings {
  const { model, kind, input, drifting, reason, at } = told;
  const content = driftContent(told);
  return {
    // an end is never too old to be told: whoever heard of the beginning waits for it
    heardAtMs: drifting ? at : Number.POSITIVE_INFINITY,
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
      title: `${model}: ${input} ${drifting ? 'drifts' : reason === 'settled' ? 'drifts no more' : 'is not judged any more'}`,
      text: textOf(told),
    },
  };
}

function textOf({ model, version, input, psi, reason }: DriftTold): string {
  const id = `${model}@${version}`;
  switch (reason) {
    case 'input_gone':
      return `${id} is live now and has no input ${input}.`;
    case 'no_reference':
      return `${id} is live now and has no reference of it.`;
    case 'model_gone':
      return `No version of ${model} is live any more.`;
    case 'not_judged':
      return `For ${UNJUDGED_DAYS} days ${id} was asked too little to judge it by.`;
    default:
      return `Population stability index ${psi?.toFixed(2) ?? 'unknown'} of what ${id} is asked against its training.`;
  }
}
