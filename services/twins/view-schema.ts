import { SEVERITIES } from '../../actors/protocol/entry.ts';
import { PREDICTION_STALE_REASONS, STALE_REASONS } from '../../actors/protocol/view.ts';
import { MAYBE_TIME, TEXT, TIME } from '../gateway/list-schema.ts';

/** JSON Schemas of a twin, its journal entries and its events, as people see them. */
const NUMBERS = { type: 'object', additionalProperties: { type: 'number' } };
const MAYBE_NUMBER = { type: ['number', 'null'] };
const COUNT = { type: 'integer' };

const WINDOW = {
  type: 'object',
  properties: {
    count: COUNT,
    ...Object.fromEntries(['mean', 'std', 'min', 'max', 'last', 'slope', 'ewma', 'z'].map((n) => [n, MAYBE_NUMBER])),
  },
};

const PREDICTION = {
  type: 'object',
  required: ['model', 'version', 'at', 'basedOn', 'stale'],
  properties: {
    model: TEXT,
    version: TEXT,
    at: { ...TIME, description: 'Event time of the newest reading it is based on.' },
    basedOn: { ...COUNT, description: 'Revision of the twin that the model was asked about.' },
    value: { type: 'number' },
    unit: TEXT,
    interval: {
      type: 'array',
      items: { type: 'number' },
      minItems: 2,
      maxItems: 2,
      description: 'Where the truth lies with the coverage that the model card states.',
    },
    score: { type: 'number', description: 'Of an anomaly; above the threshold it is one.' },
    threshold: { type: 'number' },
    contributions: { ...NUMBERS, description: 'Share of each metric in the answer; sum 1.' },
    class: TEXT,
    probabilities: NUMBERS,
    horizonMs: { type: 'number', description: 'How long after `at` the forecast speaks of.' },
    forecast: NUMBERS,
    forecastLo: NUMBERS,
    forecastHi: NUMBERS,
    stale: {
      type: ['object', 'null'],
      description: 'Why the answer is older than it should be.',
      properties: { reason: { type: 'string', enum: [...PREDICTION_STALE_REASONS] }, since: TIME, remedy: TEXT },
    },
  },
};

export const VIEW_SCHEMA = {
  type: 'object',
  required: [
    'twinId',
    'kind',
    'revision',
    'at',
    'receivedAt',
    'attributes',
    'reported',
    'rolling',
    'desired',
    'delta',
    'predictions',
    'health',
    'alerts',
    'online',
    'retired',
    'maintenance',
    'ingest',
    'stale',
  ],
  properties: {
    twinId: TEXT,
    kind: TEXT,
    revision: { type: 'integer', description: 'Number of its newest journal entry; also its ETag.' },
    at: { ...MAYBE_TIME, description: 'Event time of the newest reading.' },
    receivedAt: MAYBE_TIME,
    attributes: { type: 'object' },
    reported: { ...NUMBERS, description: 'Last value of each metric.' },
    units: { type: 'object', additionalProperties: TEXT },
    rolling: {
      type: 'object',
      description: 'Statistics by metric and window.',
      additionalProperties: { type: 'object', additionalProperties: WINDOW },
    },
    desired: { type: 'object' },
    delta: { type: 'object', description: 'What is desired and not reported yet.' },
    predictions: {
      type: 'object',
      description: 'What models said of the twin last, by the name of the prediction.',
      additionalProperties: PREDICTION,
    },
    health: {
      type: 'object',
      required: ['status', 'reasons'],
      properties: {
        status: { type: 'string', enum: ['ok', 'warning', 'critical', 'unknown'] },
        reasons: { type: 'array', items: TEXT },
      },
    },
    alerts: {
      type: 'array',
      items: {
        type: 'object',
        required: ['alertId', 'rule', 'severity', 'message', 'state', 'raisedAt'],
        properties: {
          alertId: TEXT,
          rule: TEXT,
          severity: { type: 'string', enum: [...SEVERITIES] },
          message: TEXT,
          state: { type: 'string', enum: ['raised', 'acknowledged'] },
          raisedAt: TIME,
          acknowledgedBy: TEXT,
          silencedUntil: TIME,
        },
      },
    },
    online: { type: 'boolean' },
    retired: { type: 'boolean' },
    maintenance: {
      type: ['object', 'null'],
      properties: { at: TIME, work: TEXT, by: TEXT },
    },
    ingest: {
      type: 'object',
      properties: { accepted: COUNT, late: COUNT, duplicate: COUNT, backfill: COUNT, lagMs: MAYBE_NUMBER },
    },
    stale: {
      type: ['object', 'null'],
      description: 'Why what you see may be old.',
      properties: { reason: { type: 'string', enum: [...STALE_REASONS] }, since: TIME, remedy: TEXT },
    },
  },
};

/** Name of the component that is a twin of any kind (kind-schemas.ts). */
export const TWIN = 'Twin';
export const TWIN_REF = { $ref: `#/components/schemas/${TWIN}` };

export const RESULT_SCHEMA = {
  type: 'object',
  required: ['revision', 'repeated', 'twin'],
  properties: {
    revision: { type: 'integer', description: 'Journal entry of the command.' },
    repeated: { type: 'boolean', description: 'The same Idempotency-Key had been seen before.' },
    twin: TWIN_REF,
  },
};

export const ENTRY_SCHEMA = {
  type: 'object',
  required: ['revision', 'type', 'receivedAt'],
  properties: {
    revision: { type: 'integer' },
    type: { type: 'string', enum: ['reading', 'command', 'tick', 'tuning', 'prediction'] },
    receivedAt: TIME,
    at: TIME,
    values: NUMBERS,
    name: { ...TEXT, description: 'Of a prediction.' },
    basedOn: { ...COUNT, description: 'Of a prediction: the revision that the model was asked about.' },
    prediction: { type: 'object', description: 'The answer, as it was journaled; times in ISO 8601.' },
  },
};

export const EVENT_SCHEMA = {
  type: 'object',
  required: ['event_id', 'type', 'twinId', 'revision', 'at', 'receivedAt', 'body'],
  properties: {
    event_id: { type: 'string', description: 'The same however often it is delivered.' },
    type: TEXT,
    twinId: TEXT,
    revision: { type: 'integer' },
    at: TIME,
    receivedAt: TIME,
    body: { type: 'object' },
  },
};
