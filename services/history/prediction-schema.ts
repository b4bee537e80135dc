import type { JsonSchema } from '../gateway/json-schema.ts';
import { MAYBE_TIME, TEXT, TIME } from '../gateway/list-schema.ts';

const NUMBER = { type: 'number' };
const NUMBERS = { type: 'object', additionalProperties: NUMBER };

/** What a model said of a twin at one time; which of the values are there follows from the type of the model. */
export const PREDICTION_ITEM: JsonSchema = {
  type: 'object',
  required: ['revision', 'name', 'model', 'version', 'at', 'predictedAt', 'basedOn'],
  properties: {
    revision: { type: 'integer', description: 'Of the entry in the journal of the twin.' },
    name: { ...TEXT, description: 'As the kind calls it.', examples: ['rul'] },
    model: TEXT,
    version: TEXT,
    at: { ...MAYBE_TIME, description: 'Event time of the newest reading it is based on.' },
    predictedAt: { ...TIME, description: 'When it came into the journal.' },
    basedOn: { type: 'integer', description: 'Revision of the twin that the model was asked about.' },
    value: NUMBER,
    unit: TEXT,
    interval: {
      type: 'array',
      items: NUMBER,
      minItems: 2,
      maxItems: 2,
      description: 'Lowest and highest, in the unit.',
    },
    score: NUMBER,
    threshold: NUMBER,
    contributions: { ...NUMBERS, description: 'Shares of the metrics, sum 1.' },
    class: TEXT,
    probabilities: NUMBERS,
    horizonMs: NUMBER,
    forecast: NUMBERS,
    forecastLo: NUMBERS,
    forecastHi: NUMBERS,
  },
};
