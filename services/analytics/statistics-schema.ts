import { TEXT, TIME } from '../gateway/list-schema.ts';

/** JSON Schema of the answers of services/statistics.service.ts. */
const NUMBER = { type: 'number' };
const MAYBE_NUMBER = { type: ['number', 'null'] };
const NOTES = { type: 'array', items: TEXT, description: 'What the archive could not give.' };
const BUCKET = {
  count: { type: 'integer' },
  avg: NUMBER,
  min: NUMBER,
  max: NUMBER,
  std: { ...MAYBE_NUMBER, description: 'Sample standard deviation; null for a single reading.' },
};

export const STATS = {
  type: 'object',
  required: ['twinId', 'from', 'to', 'metrics'],
  properties: {
    twinId: TEXT,
    from: TIME,
    to: TIME,
    metrics: {
      type: 'object',
      additionalProperties: { type: 'object', required: Object.keys(BUCKET), properties: BUCKET },
    },
    notes: NOTES,
  },
};

export const CORRELATION = {
  type: 'object',
  required: ['from', 'to', 'stepMs', 'labels', 'matrix', 'n'],
  properties: {
    from: TIME,
    to: TIME,
    stepMs: { type: 'integer' },
    labels: { type: 'array', items: TEXT, description: 'Metrics, or twins, in the order of rows and columns.' },
    matrix: {
      type: 'array',
      items: { type: 'array', items: MAYBE_NUMBER },
      description: 'r; null where fewer than 3 buckets are shared, or one of the two does not vary over them.',
    },
    n: {
      type: 'array',
      items: { type: 'array', items: { type: 'integer' } },
      description: 'Buckets that both have.',
    },
    notes: NOTES,
  },
};

const HOUR = {
  hour: { type: 'integer', minimum: 0, maximum: 23 },
  ...BUCKET,
  buckets: { type: 'integer', description: 'Buckets that the quantiles are over.' },
  p05: NUMBER,
  p25: NUMBER,
  p50: NUMBER,
  p75: NUMBER,
  p95: NUMBER,
};

export const PROFILE = {
  type: 'object',
  required: ['twinId', 'tz', 'from', 'to', 'stepMs', 'metrics'],
  properties: {
    twinId: TEXT,
    tz: TEXT,
    from: TIME,
    to: TIME,
    stepMs: { type: 'integer', description: 'Width of the buckets that the quantiles are over.' },
    metrics: {
      type: 'object',
      additionalProperties: {
        type: 'array',
        items: { type: 'object', required: Object.keys(HOUR), properties: HOUR },
        description: 'Hours of the day that have readings.',
      },
    },
    notes: NOTES,
  },
};
