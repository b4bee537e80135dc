import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { parseTwinId } from '../actors/protocol/twin-id.ts';
import { type Aggregate, aggregates } from '../actors/store/queries/aggregates.ts';
import { listAnomalies } from '../actors/store/queries/anomaly-list.ts';
import type { Page } from '../actors/store/queries/page.ts';
import type { Rollup } from '../actors/store/queries/rolled.ts';
import { DAY_MS, instantOf } from '../actors/store/queries/span.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { Answers } from './analytics/answer-cache.ts';
import { openAnswers } from './analytics/answers.ts';
import { daysOf } from './analytics/mote-day.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import {
  KIND,
  METRIC,
  SPAN_PARAMS,
  type SpanParams,
  START_END_PARAMS,
  type StartEndParams,
  spanOfParams,
  spanOfStartEnd,
  TWIN_ID,
} from './history/span-params.ts';
import { MOTE, moteIdOf, moteTwinId } from './sensors/mote.ts';
import { ANOMALY_SCHEMA, DAY_SCHEMA, MOTE_ID } from './sensors/mote-schema.ts';

/** Hourly and daily aggregates of any kind, and the analytics that environmental-sensor clients ask for. Kept 5 minutes. */
const MAYBE_NUMBER = { type: ['number', 'null'] };
const AGGREGATE = {
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

interface AggregateParams extends SpanParams {
  kind?: string;
  twinId?: string;
  metric?: string;
  limit: number;
  cursor?: string;
}

interface DayParams extends StartEndParams {
  mote_id?: string;
  date?: string;
  limit: number;
  cursor?: string;
}

interface Analytics {
  cache: Answers;
  aggregate(ctx: Context<AggregateParams, CallMeta>, rollup: Rollup): Promise<Page<Aggregate>>;
}

const TWINS_A_PAGE = {
  ...PAGE_PARAMS.limit,
  default: 50,
  description: 'Twins of a page; fewer where their buckets are many.',
};
const PARAMS = {
  kind: { ...KIND, optional: true, description: 'Kind of asset; needed without twinId.' },
  twinId: { ...TWIN_ID, optional: true },
  metric: METRIC,
  ...SPAN_PARAMS,
  limit: TWINS_A_PAGE,
  cursor: PAGE_PARAMS.cursor,
};

const analytics: PartsSchema<Analytics> = {
  name: 'analytics',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    hourly: {
      rest: 'GET /api/v1/analytics/hourly',
      role: 'viewer',
      params: PARAMS,
      openapi: {
        summary: 'Aggregates by the hour',
        description: 'Of the last 24 hours unless asked otherwise; at most 1,000 hours.',
        tags: ['analytics'],
        response: listOf(AGGREGATE),
      },
      handler(ctx: Context<AggregateParams, CallMeta>) {
        return this.aggregate(ctx, 'hourly');
      },
    },

    daily: {
      rest: 'GET /api/v1/analytics/daily',
      role: 'viewer',
      params: PARAMS,
      openapi: {
        summary: 'Aggregates by the day',
        description: 'Of the last 30 days unless asked otherwise; at most 1,000 days.',
        tags: ['analytics'],
        response: listOf(AGGREGATE),
      },
      handler(ctx: Context<AggregateParams, CallMeta>) {
        return this.aggregate(ctx, 'daily');
      },
    },

    dailySummary: {
      rest: 'GET /api/v1/analytics/daily-summary',
      role: 'viewer',
      params: {
        mote_id: { ...MOTE_ID, optional: true },
        date: {
          type: 'string',
          pattern: /^\d{4}-\d{2}-\d{2}$/,
          optional: true,
          description: 'One day, UTC.',
          example: '2026-01-01',
        },
        ...START_END_PARAMS,
        limit: TWINS_A_PAGE,
        cursor: PAGE_PARAMS.cursor,
      },
      openapi: {
        summary: 'Each day of each mote in numbers',
        description: 'Of the last 30 days unless asked otherwise.',
        tags: ['sensors'],
        response: listOf(DAY_SCHEMA),
      },
      async handler(ctx: Context<DayParams, CallMeta>) {
        const { mote_id: id, date, limit, cursor } = ctx.params;
        const { sql, clock, kinds } = this.parts;
        let span = spanOfStartEnd(ctx.params);
        if (date !== undefined) {
          if (span.from !== undefined || span.to !== undefined)
            throw new TwinmeshError('bad_request', 'date: either this or start and end.');
          const from = instantOf(date, 'date');
          span = { from, to: from + DAY_MS };
        }
        const twinId = id === undefined ? undefined : moteTwinId(id);
        const { answer, etag } = await this.cache.get(
          ['days', twinId, span, limit, cursor],
          async () => {
            const kind = kinds.get(MOTE);
            const page = await aggregates(sql, clock, kind, 'daily', { twinId, span, limit, cursor });
            return { items: daysOf(kind, page.items), nextCursor: page.nextCursor };
          },
          ({ items }) => items.length * 4,
        );
        ctx.meta.$responseHeaders = { ETag: etag };
        return answer;
      },
    },

    anomalies: {
      rest: 'GET /api/v1/analytics/anomalies',
      role: 'viewer',
      params: {
        mote_id: { ...MOTE_ID, optional: true },
        field: { type: 'string', max: 64, optional: true, description: 'Metric.', example: 'temperature' },
        severity: { type: 'string', max: 60, optional: true, description: 'low, medium, high, separated by commas.' },
        ...START_END_PARAMS,
        ...PAGE_PARAMS,
      },
      openapi: { summary: 'Anomalies of motes, newest first', tags: ['sensors'], response: listOf(ANOMALY_SCHEMA) },
      async handler(
        ctx: Context<
          { mote_id?: string; field?: string; severity?: string; limit: number; cursor?: string } & StartEndParams
        >,
      ) {
        const { mote_id: id, field, severity, limit, cursor } = ctx.params;
        const page = await listAnomalies(this.parts.sql, {
          kind: MOTE,
          twinId: id === undefined ? undefined : moteTwinId(id),
          field,
          severity,
          span: spanOfStartEnd(ctx.params),
          limit,
          cursor,
        });
        const items = page.items.map((item) => ({
          mote_id: moteIdOf(parseTwinId(item.twin_id).id),
          timestamp: item.timestamp,
          field: item.field,
          value: item.value,
          expected_range: item.expected_range,
          severity: item.severity,
          reason: item.reason,
        }));
        return { items, nextCursor: page.nextCursor };
      },
    },
  },

  methods: {
    async aggregate(ctx: Context<AggregateParams, CallMeta>, rollup: Rollup) {
      const { twinId, metric, limit, cursor } = ctx.params;
      const { sql, clock, kinds } = this.parts;
      const name = ctx.params.kind ?? (twinId === undefined ? undefined : parseTwinId(twinId).kind);
      if (name === undefined) throw new TwinmeshError('bad_request', 'kind: needed where there is no twinId.');
      const kind = kinds.get(name);
      const span = spanOfParams(ctx.params);
      const { answer, etag } = await this.cache.get(
        [rollup, name, twinId, metric, span, limit, cursor],
        () => aggregates(sql, clock, kind, rollup, { twinId, metric, span, limit, cursor }),
        ({ items }) => items.length,
      );
      ctx.meta.$responseHeaders = { ETag: etag };
      return answer;
    },
  },

  async started() {
    this.cache = openAnswers(this.parts, 'analytics');
  },
};

export default analytics;
