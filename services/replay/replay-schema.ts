import { MAYBE_TIME, TEXT, TIME } from '../gateway/list-schema.ts';
import { TWIN_REF } from '../twins/view-schema.ts';
import { WHAT_IF_LIMITS } from './what-if.ts';

/** Parameters and answers of what-if and rescorings, as people see them. */
const OBJECT = { type: 'object' };
const COUNT = { type: 'integer' };
const EVENT = { type: 'object', properties: { type: TEXT, at: TIME, body: OBJECT } };
const MAYBE_TEXT = { type: ['string', 'null'] };

export const WHAT_IF_PARAMS = {
  twinId: { type: 'string', max: 160, description: 'kind:id', example: 'machine:MACHINE_001' },
  readings: {
    type: 'array',
    max: WHAT_IF_LIMITS.readings,
    optional: true,
    description:
      'Readings in the order in which they would arrive: values by metric; `at` left out, a step after the one before.',
    items: {
      type: 'object',
      strict: 'remove',
      props: {
        at: { type: 'multi', rules: [{ type: 'string', max: 40 }, { type: 'number' }], optional: true },
        values: { type: 'object' },
        attributes: { type: 'object', optional: true },
      },
    },
  },
  scenario: {
    type: 'object',
    optional: true,
    strict: 'remove',
    description:
      'A failure scenario of the simulator of the kind, moved to the present values of the twin. Needs `durationMs`.',
    props: {
      name: { type: 'string', min: 1, max: 60 },
      severity: { type: 'number', min: 0.01, max: 1, default: 1 },
    },
  },
  maintenance: {
    type: 'object',
    optional: true,
    strict: 'remove',
    description: 'Work that would be recorded first.',
    props: {
      work: { type: 'string', min: 1, max: 1000 },
      details: { type: 'object', optional: true },
    },
  },
  durationMs: {
    type: 'number',
    min: 1,
    max: WHAT_IF_LIMITS.durationMs,
    optional: true,
    description: 'Time that passes; ticks come as the host would write them.',
  },
  stepMs: {
    type: 'number',
    min: 1,
    max: WHAT_IF_LIMITS.durationMs,
    optional: true,
    description: `Between two readings; durationMs ÷ stepMs is at most ${WHAT_IF_LIMITS.steps}. Default: as the demo of the kind speaks.`,
  },
} as const;

export const WHAT_IF_ANSWER = {
  type: 'object',
  required: ['twinId', 'revision', 'present', 'end', 'timeline', 'events', 'models'],
  properties: {
    twinId: TEXT,
    revision: { ...COUNT, description: 'Where the fork leaves the twin.' },
    present: TWIN_REF,
    end: TWIN_REF,
    durationMs: { type: 'number' },
    readings: { ...OBJECT, description: 'What became of the readings: accepted, duplicate, backfill …' },
    timeline: {
      type: 'array',
      items: {
        type: 'object',
        properties: {
          at: TIME,
          reported: OBJECT,
          health: TEXT,
          alerts: { type: 'array', items: TEXT },
          predictions: OBJECT,
        },
      },
    },
    events: {
      type: 'array',
      items: EVENT,
      description: 'What would have been said, oldest first; a thousand at most.',
    },
    eventsLeftOut: COUNT,
    models: { ...OBJECT, description: 'By prediction: who answered, how often it was asked, and why no more.' },
  },
};

export const RESCORE_ITEM = {
  type: 'object',
  required: ['id', 'model', 'version', 'state', 'progress', 'summary'],
  properties: {
    id: TEXT,
    model: TEXT,
    version: TEXT,
    kind: MAYBE_TEXT,
    twins: { type: ['array', 'null'], items: TEXT },
    from: TIME,
    to: TIME,
    windowMs: { type: 'number' },
    state: { type: 'string', enum: ['running', 'done', 'failed', 'cancelled'] },
    startedAt: TIME,
    startedBy: MAYBE_TEXT,
    finishedAt: MAYBE_TIME,
    progress: OBJECT,
    summary: {
      type: ['object', 'null'],
      description:
        'Twins, readings, answers, the tally of each kind of happening, and, where no reading lay in the span, when the first and the last one of these twins were received.',
    },
    error: MAYBE_TEXT,
  },
};

export const DIFFERENCE_ITEM = {
  type: 'object',
  properties: {
    n: COUNT,
    twinId: TEXT,
    change: { type: 'string', enum: ['gained', 'lost', 'earlier', 'later'] },
    what: { type: 'string', enum: ['alert', 'anomaly', 'maintenance'] },
    name: TEXT,
    severity: MAYBE_TEXT,
    wasAt: MAYBE_TIME,
    nowAt: MAYBE_TIME,
    was: { type: ['object', 'null'] },
    now: { type: ['object', 'null'] },
  },
};

export const RESCORE_PARAMS = {
  model: {
    type: 'string',
    pattern: /^[a-z][a-z0-9-]{0,47}$/,
    description: 'Name of the model.',
    example: 'machine-anomaly',
  },
  version: {
    type: 'string',
    pattern: /^\d{1,6}\.\d{1,6}\.\d{1,6}$/,
    description: 'The other version.',
    example: '1.1.0',
  },
  from: {
    type: 'multi',
    rules: [{ type: 'string', max: 40 }, { type: 'number' }],
    description: 'First moment, received time.',
  },
  to: {
    type: 'multi',
    rules: [{ type: 'string', max: 40 }, { type: 'number' }],
    optional: true,
    description: 'Last moment; default now.',
  },
  kind: { type: 'string', max: 31, optional: true, description: 'Only twins of this kind.', example: 'machine' },
  twins: {
    type: 'array',
    max: 1_000,
    optional: true,
    items: { type: 'string', max: 160 },
    description: 'Only these twins.',
  },
  windowMs: {
    type: 'number',
    integer: true,
    min: 0,
    max: 30 * 86_400_000,
    default: 3_600_000,
    description: 'Happenings of one name that lie further apart are two: one lost, one gained.',
  },
} as const;
