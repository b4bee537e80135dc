import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { parseTwinId } from '../actors/protocol/twin-id.ts';
import { type Aggregate, aggregates } from '../actors/store/queries/aggregates.ts';
import { listAnomalies } from '../actors/store/queries/anomaly-list.ts';
import type { Page } from '../actors/store/queries/page.ts';
import type { Rollup } from '../actors/store/queries/rolled.ts';
import { DAY_MS, instantOf } from '../actors/store/queries/span.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { AGGREGATE } from './analytics/aggregate-schema.ts';
import type { Answers } from './analytics/answer-cache.ts';
import { openAnswers } from './analytics/answers.ts';
import { daysOf } from './analytics/mote-day.ts';
import { TOLD_ANOMALY, toldAnomaly } from './analytics/told-anomaly.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, PAGE_PARAMS } from './gateway/list-schema.ts';
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
import { MOTE, moteTwinId } from './sensors/mote.ts';
import { DAY_SCHEMA, MOTE_ID } from './sensors/mote-schema.ts';

/** Hourly and daily aggregates of any kind, and the analytics that environmental-sensor clients ask for. Kept 5 minutes. */
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

interface AnomalyParams extends StartEndParams {
  mote_id?: string;
  twin?: string;
  kind?: string;
  field?: string;
  severity?: string;
  limit: number;
  cursor?: string;
}

interface Analytics {
  cache: Answers;
  aggregate(params: AggregateParams, meta: CallMeta, rollup: Rollup): Promise<Page<Aggregate>>;
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
        return this.aggregate(ctx.params, ctx.meta, 'hourly');
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
        return this.aggregate(ctx.params, ctx.meta, 'daily');
      },
    },

    aggregates: {
      rest: 'GET /api/v1/analytics/aggregates',
      role: 'viewer',
      params: {
        kind: PARAMS.kind,
        twin: { ...TWIN_ID, optional: true },
        metric: METRIC,
        step: { type: 'enum', values: ['hour', 'day'], default: 'hour', description: 'hour or day, UTC.' },
        ...SPAN_PARAMS,
        limit: TWINS_A_PAGE,
        cursor: PAGE_PARAMS.cursor,
      },
      openapi: {
        summary: 'Aggregates by the hour or the day',
        description: 'Of the last 24 hours, or 30 days, unless asked otherwise; at most 1,000 buckets.',
        tags: ['analytics'],
        response: listOf(AGGREGATE),
      },
      handler(ctx: Context<Omit<AggregateParams, 'twinId'> & { twin?: string; step: 'hour' | 'day' }, CallMeta>) {
        const { twin: twinId, step, ...params } = ctx.params;
        return this.aggregate({ ...params, twinId }, ctx.meta, step === 'hour' ? 'hourly' : 'daily');
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
        tags: ['analytics'],
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
        twin: { ...TWIN_ID, optional: true, description: 'One twin of any kind.' },
        kind: { ...KIND, optional: true, description: 'Kind of asset; motes where neither this nor twin is given.' },
        field: { type: 'string', max: 64, optional: true, description: 'Metric.', example: 'temperature' },
        severity: { type: 'string', max: 60, optional: true, description: 'low, medium, high, separated by commas.' },
        ...START_END_PARAMS,
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Anomalies, newest first, each with what was expected and why',
        description: 'Of motes unless `twin` or `kind` says otherwise; motes also carry their `mote_id`.',
        tags: ['analytics'],
        response: listOf(TOLD_ANOMALY),
      },
      async handler(ctx: Context<AnomalyParams>) {
        const { mote_id: id, twin, kind, field, severity, limit, cursor } = ctx.params;
        if (id !== undefined && (twin !== undefined || kind !== undefined))
          throw new TwinmeshError('bad_request', 'mote_id: either this, or twin or kind.');
        const twinId = id === undefined ? twin : moteTwinId(id);
        const page = await listAnomalies(this.parts.sql, {
          kind: kind ?? (twinId === undefined ? MOTE : undefined),
          twinId,
          field,
          severity,
          span: spanOfStartEnd(ctx.params),
          limit,
          cursor,
        });
        return { items: page.items.map(toldAnomaly), nextCursor: page.nextCursor };
      },
    },
  },

  methods: {
    async aggregate(params: AggregateParams, meta: CallMeta, rollup: Rollup) {
      const { twinId, metric, limit, cursor } = params;
      const { sql, clock, kinds } = this.parts;
      const name = params.kind ?? (twinId === undefined ? undefined : parseTwinId(twinId).kind);
      if (name === undefined) throw new TwinmeshError('bad_request', 'kind: needed where there is no twinId.');
      const kind = kinds.get(name);
      const span = spanOfParams(params);
      const { answer, etag } = await this.cache.get(
        [rollup, name, twinId, metric, span, limit, cursor],
        () => aggregates(sql, clock, kind, rollup, { twinId, metric, span, limit, cursor }),
        ({ items }) => items.length,
      );
      meta.$responseHeaders = { ETag: etag };
      return answer;
    },
  },

  async started() {
    this.cache = openAnswers(this.parts, 'analytics');
  },
};

export default analytics;
