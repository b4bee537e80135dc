import { MAYBE_TIME, TEXT, TIME } from '../gateway/list-schema.ts';

/** JSON Schemas of what environmental-sensor clients read. */
export const MOTE_ID = {
  type: 'string',
  max: 128,
  description: 'Id of the mote, as it sends it.',
  example: '1',
} as const;

const MAYBE_NUMBER = { type: ['number', 'null'] };
const ID = { type: ['integer', 'string'], description: 'A number where the id is one.' };
const METRICS = { temperature: MAYBE_NUMBER, humidity: MAYBE_NUMBER, light: MAYBE_NUMBER, voltage: MAYBE_NUMBER };

export const READING_SCHEMA = {
  type: 'object',
  required: ['mote_id', 'timestamp', ...Object.keys(METRICS)],
  properties: { mote_id: ID, timestamp: TIME, ...METRICS },
};

export const MOTE_SCHEMA = {
  type: 'object',
  required: ['mote_id', 'twinId', 'online', 'retired', 'health', 'alerts', 'last_seen', 'timestamp', 'attributes'],
  properties: {
    mote_id: ID,
    twinId: TEXT,
    online: { type: 'boolean' },
    retired: { type: 'boolean' },
    health: TEXT,
    alerts: { type: 'integer' },
    last_seen: { ...MAYBE_TIME, description: 'When something was last received.' },
    timestamp: { ...MAYBE_TIME, description: 'Event time of the newest reading.' },
    attributes: { type: 'object' },
    latest: { type: 'object', properties: METRICS },
  },
};

const STATS = {
  type: 'object',
  required: ['avg', 'min', 'max', 'stddev'],
  properties: {
    avg: MAYBE_NUMBER,
    min: MAYBE_NUMBER,
    max: MAYBE_NUMBER,
    stddev: MAYBE_NUMBER,
    count: { type: 'integer' },
  },
};
const METRIC_STATS = Object.fromEntries(Object.keys(METRICS).map((name) => [name, STATS]));

export const STATS_SCHEMA = {
  type: 'object',
  required: ['mote_id', 'period', ...Object.keys(METRICS)],
  properties: {
    mote_id: ID,
    period: { type: 'object', required: ['start', 'end'], properties: { start: TIME, end: TIME } },
    ...METRIC_STATS,
  },
};

export const DAY_SCHEMA = {
  type: 'object',
  required: ['mote_id', 'date', 'complete', ...Object.keys(METRICS)],
  properties: {
    mote_id: ID,
    date: { type: 'string', format: 'date', description: 'UTC.' },
    complete: { type: 'boolean', description: 'Whether every reading that is to come for the day has come.' },
    ...Object.fromEntries(
      Object.keys(METRICS).map((name) => [
        name,
        {
          ...STATS,
          properties: {
            ...STATS.properties,
            median: { ...MAYBE_NUMBER, description: 'Null until the day is complete.' },
            record_count: { type: 'integer' },
            null_count: { type: 'integer' },
          },
        },
      ]),
    ),
  },
};

export const ANOMALY_SCHEMA = {
  type: 'object',
  required: ['mote_id', 'timestamp', 'field', 'value', 'expected_range', 'severity', 'reason'],
  properties: {
    mote_id: ID,
    timestamp: TIME,
    field: TEXT,
    value: { type: ['number', 'null'] },
    expected_range: { type: ['string', 'null'], examples: ['18-28'] },
    severity: { type: 'string', enum: ['low', 'medium', 'high'] },
    reason: TEXT,
  },
};
