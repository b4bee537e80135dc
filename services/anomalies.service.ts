import type { Context } from 'moleculer';
import {
  type AnomalyItem,
  type AnomalyQuery,
  listAnomalies,
  reviewAnomaly,
} from '../actors/store/queries/anomaly-list.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, MAYBE_TIME, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { SPAN_PARAMS, type SpanParams, spanOfParams, TWIN_ID } from './history/span-params.ts';

/** Anomalies that detectors and models found, and what people say about them: confirmed or rejected, why, and what was done. */
const MAYBE_TEXT = { type: ['string', 'null'] };
const ITEM = {
  type: 'object',
  required: ['anomaly_id', 'twin_id', 'kind', 'timestamp', 'field', 'value', 'severity', 'reason', 'is_confirmed'],
  properties: {
    anomaly_id: TEXT,
    twin_id: TEXT,
    kind: TEXT,
    timestamp: TIME,
    field: TEXT,
    value: { type: ['number', 'null'] },
    expected_range: { ...MAYBE_TEXT, examples: ['18-28'] },
    expected: { type: ['array', 'null'], items: { type: 'number' } },
    score: { type: 'number' },
    threshold: { type: 'number' },
    detector: { ...TEXT, description: 'zscore, rate, stuck, or model.' },
    model: { ...MAYBE_TEXT, description: 'name@version of the model that found it.' },
    contributions: {
      type: ['object', 'null'],
      additionalProperties: { type: 'number' },
      description: 'Share of each metric in what a model found, sum 1.',
    },
    severity: { type: 'string', enum: ['low', 'medium', 'high'] },
    reason: TEXT,
    is_confirmed: { type: ['boolean', 'null'], description: 'Null until somebody has said.' },
    root_cause: MAYBE_TEXT,
    resolution: MAYBE_TEXT,
    resolved_at: MAYBE_TIME,
    resolved_by: MAYBE_TEXT,
    revision: { type: 'integer' },
  },
};
const ID = { type: 'string', max: 250, description: 'Id of the anomaly, as GET /api/v1/anomalies lists it.' } as const;
const SENTENCE = (description: string) =>
  ({ type: 'string', trim: true, min: 1, max: 1000, optional: true, description }) as const;
const REVIEW = {
  id: ID,
  root_cause: SENTENCE('What caused it.'),
  resolution: SENTENCE('What was done about it.'),
};

interface ReviewParams {
  id: string;
  root_cause?: string;
  resolution?: string;
}

interface Anomalies {
  review(ctx: Context<ReviewParams, CallMeta>, confirmed: boolean): Promise<AnomalyItem>;
}

const anomalies: PartsSchema<Anomalies> = {
  name: 'anomalies',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/anomalies',
      role: 'viewer',
      params: {
        twinId: { ...TWIN_ID, optional: true },
        kind: {
          type: 'string',
          max: 31,
          optional: true,
          description: 'Only of twins of this kind.',
          example: 'machine',
        },
        field: { type: 'string', max: 64, optional: true, description: 'Metric.', example: 'temperature' },
        severity: { type: 'string', max: 60, optional: true, description: 'low, medium, high, separated by commas.' },
        detector: {
          type: 'string',
          max: 200,
          optional: true,
          description: 'Detectors, separated by commas.',
          example: 'zscore',
        },
        model: {
          type: 'string',
          max: 200,
          optional: true,
          description: 'Only what this model found; `name` or `name@version`.',
          example: 'machine-anomaly',
        },
        review: {
          type: 'string',
          max: 60,
          optional: true,
          description: 'open, confirmed, rejected, separated by commas.',
          example: 'open',
        },
        ...SPAN_PARAMS,
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Anomalies, newest first',
        description:
          'Of detectors and of models, by event time, each with what was expected, the reason, and what people said of it.',
        tags: ['anomalies'],
        response: listOf(ITEM),
      },
      handler(ctx: Context<Omit<AnomalyQuery, 'span'> & SpanParams>) {
        return listAnomalies(this.parts.sql, { ...ctx.params, span: spanOfParams(ctx.params) });
      },
    },

    confirm: {
      rest: 'POST /api/v1/anomalies/:id/confirm',
      role: 'technician',
      params: REVIEW,
      openapi: {
        summary: 'Confirm an anomaly: it was one',
        description: 'The newest word counts; what it leaves out of cause and resolution stays.',
        tags: ['anomalies'],
        bodyExample: { root_cause: 'bearing worn', resolution: 'bearing replaced' },
        response: ITEM,
      },
      handler(ctx: Context<ReviewParams, CallMeta>) {
        return this.review(ctx, true);
      },
    },

    reject: {
      rest: 'POST /api/v1/anomalies/:id/reject',
      role: 'technician',
      params: REVIEW,
      openapi: {
        summary: 'Reject an anomaly: it was none',
        description: 'Feeds the false_positive_rate. The newest word counts.',
        tags: ['anomalies'],
        bodyExample: { root_cause: 'door stood open' },
        response: ITEM,
      },
      handler(ctx: Context<ReviewParams, CallMeta>) {
        return this.review(ctx, false);
      },
    },
  },

  methods: {
    review(ctx: Context<ReviewParams, CallMeta>, confirmed: boolean) {
      const { id, root_cause: rootCause, resolution } = ctx.params;
      const by = ctx.meta.user?.name ?? 'inside';
      return reviewAnomaly(this.parts.sql, id, { confirmed, rootCause, resolution, by, nowMs: this.parts.clock.now() });
    },
  },
};

export default anomalies;
