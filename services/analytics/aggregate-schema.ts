import { TEXT, TIME } from '../gateway/list-schema.ts';

/** JSON Schema of one hour or day of one metric. */
const MAYBE_NUMBER = { type: ['number', 'null'] };
export const AGGREGATE = {
  type: 'object',
  required: [
    'twinId',
    'bucket',
    'metric',
    'avg',
    'min',
    'max',
    'std',
    'median',
    'record_count',
    'null_count',
    'complete',
  ],
  properties: {
    twinId: TEXT,
    bucket: { ...TIME, description: 'Start of the hour or day, UTC.' },
    metric: TEXT,
    avg: MAYBE_NUMBER,
    min: MAYBE_NUMBER,
    max: MAYBE_NUMBER,
    std: { ...MAYBE_NUMBER, description: 'Sample standard deviation.' },
    median: { ...MAYBE_NUMBER, description: 'Of a day null until it is complete.' },
    record_count: { type: 'integer' },
    null_count: { type: 'integer', description: 'Readings without this metric.' },
    complete: { type: 'boolean', description: 'Whether every reading that is to come for it has come.' },
  },
};
