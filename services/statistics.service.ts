import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import type { Kind } from '../actors/protocol/kind.ts';
import { downsample, summarise } from '../actors/store/queries/downsample.ts';
import type { OlderReadings } from '../actors/store/queries/older.ts';
import { ceilTo, DAY_MS, floorTo, HOUR_MS, iso, type Span, stepOf } from '../actors/store/queries/span.ts';
import { findTwin, type TwinKey } from '../actors/store/queries/twin-key.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { Answers } from './analytics/answer-cache.ts';
import { openAnswers } from './analytics/answers.ts';
import { correlationOf, type Series } from './analytics/correlation.ts';
import { profileOf, Zone } from './analytics/day-profile.ts';
import { CORRELATION, PROFILE, STATS } from './analytics/statistics-schema.ts';
import type { Archive } from './archive/archived-readings.ts';
import { openArchive } from './archive/open-archive.ts';
import type { CallMeta } from './gateway/caller.ts';
import { METRIC, SPAN_PARAMS, type SpanParams, spanOfParams, TWIN_ID } from './history/span-params.ts';

/**
 * Statistics of twins of any kind over a span: in one, against each other, by the hour of the day. Rollups stand in where
 * they cover, readings are read where not, and the archive below what the database has. Kept 5 minutes.
 */
const DEFAULT_SPAN_MS = 7 * DAY_MS;
const MOST_BUCKETS = 1_000;
const MOST_SERIES = 20;

const TWIN = { ...TWIN_ID, description: 'kind:id' };

interface StatisticsParams extends SpanParams {
  twin: string;
  metric?: string;
}

interface CorrelationParams extends SpanParams {
  twin?: string;
  twins?: string;
  metric?: string;
  metrics?: string;
  step: string | number;
}

interface Statistics {
  cache: Answers;
  archive: Archive;
  seriesOf(
    twin: TwinKey,
    metric: string | undefined,
    span: Span,
    stepMs: number,
    older: OlderReadings,
  ): Promise<Map<string, Map<string, number>>>;
  twinsOf(text: string): Promise<TwinKey[]>;
  answer<Answer extends object>(
    ctx: Context<unknown, CallMeta>,
    question: unknown[],
    compute: (older: OlderReadings) => Promise<Answer>,
  ): Promise<Answer & { notes?: readonly string[] }>;
}

const statistics: PartsSchema<Statistics> = {
  name: 'statistics',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    stats: {
      rest: 'GET /api/v1/analytics/stats',
      role: 'viewer',
      params: { twin: TWIN, metric: METRIC, ...SPAN_PARAMS },
      openapi: {
        summary: 'Count, average, extremes and spread of a twin over a span',
        description: 'Without `to` up to the newest reading, without `from` the 7 days before. Kept for 5 minutes.',
        tags: ['analytics'],
        response: STATS,
      },
      async handler(ctx: Context<StatisticsParams, CallMeta>) {
        const { twin: twinId, metric } = ctx.params;
        const asked = spanOfParams(ctx.params);
        return this.answer(ctx, ['stats', twinId, metric, asked], async (older) => {
          const { sql, clock, kinds } = this.parts;
          const twin = await findTwin(sql, twinId);
          const span = closed(asked, [twin], clock.now());
          const metrics = await summarise(sql, clock, kinds.get(twin.kind), twin, span, metric, older);
          return { twinId, from: iso(span.from), to: iso(span.to), metrics };
        });
      },
    },

    correlation: {
      rest: 'GET /api/v1/analytics/correlation',
      role: 'viewer',
      params: {
        twin: { ...TWIN, optional: true, description: 'The metrics of this twin against each other.' },
        twins: {
          type: 'string',
          max: 4_000,
          optional: true,
          description: `One metric of these twins against each other: 2 to ${MOST_SERIES}, separated by commas.`,
          example: 'mote:1,mote:2',
        },
        metric: { ...METRIC, description: 'With `twins`: the metric.' },
        metrics: { ...METRIC, description: 'With `twin`: names of metrics, separated by commas; default all.' },
        step: {
          type: 'multi',
          rules: [{ type: 'string', max: 20 }, { type: 'number' }],
          default: '1h',
          description: 'Width of the buckets whose averages are compared.',
          example: '1h',
        },
        ...SPAN_PARAMS,
      },
      openapi: {
        summary: 'Pearson correlation of metrics of a twin, or of a metric over twins',
        description: `Of averages by \`step\`, at most ${MOST_BUCKETS} buckets; each pair over the buckets that both have, \`n\` says how many. Default: the 7 days before the newest reading. Kept for 5 minutes.`,
        tags: ['analytics'],
        response: CORRELATION,
      },
      async handler(ctx: Context<CorrelationParams, CallMeta>) {
        const { twin: twinId, twins: twinIds, metric, metrics } = ctx.params;
        const stepMs = stepOf(ctx.params.step);
        const asked = spanOfParams(ctx.params);
        if ((twinId === undefined) === (twinIds === undefined))
          throw new TwinmeshError('bad_request', 'twin: either twin (and metrics), or twins and metric.');
        if (twinId !== undefined && metric !== undefined)
          throw new TwinmeshError('bad_request', 'metric: goes with twins; with twin it is metrics.');
        if (twinIds !== undefined && (metric === undefined || metric.includes(',') || metrics !== undefined))
          throw new TwinmeshError('bad_request', 'metric: twins are compared in one metric.');
        return this.answer(ctx, ['correlation', twinId, twinIds, metric, metrics, stepMs, asked], async (older) => {
          const twins = twinId === undefined ? await this.twinsOf(twinIds!) : [await findTwin(this.parts.sql, twinId)];
          const span = closed(asked, twins, this.parts.clock.now());
          const buckets = (ceilTo(span.to, stepMs) - floorTo(span.from, stepMs)) / stepMs;
          if (buckets > MOST_BUCKETS)
            throw new TwinmeshError(
              'bad_request',
              `step: ${buckets} buckets are more than ${MOST_BUCKETS}; take a longer step or a shorter span.`,
            );
          const series: Series[] = [];
          for (const twin of twins) {
            const found = await this.seriesOf(twin, twinId === undefined ? metric : metrics, span, stepMs, older);
            if (twinId === undefined) series.push({ label: twin.twinId, values: found.get(metric!) ?? new Map() });
            else for (const [label, values] of found) series.push({ label, values });
          }
          if (series.length > MOST_SERIES)
            throw new TwinmeshError(
              'bad_request',
              `metrics: ${series.length} are more than ${MOST_SERIES}; name some.`,
            );
          return { from: iso(span.from), to: iso(span.to), stepMs, ...correlationOf(series) };
        });
      },
    },

    profile: {
      rest: 'GET /api/v1/analytics/profile',
      role: 'viewer',
      params: {
        twin: TWIN,
        metric: METRIC,
        tz: {
          type: 'string',
          max: 60,
          default: 'UTC',
          description: 'Time zone that tells the hour of the day.',
          example: 'Europe/Berlin',
        },
        ...SPAN_PARAMS,
      },
      openapi: {
        summary: 'What a twin does over the hours of the day',
        description:
          'Count, average, extremes and spread of the readings of each hour of the day, and quantiles of the averages by the hour (where the zone is not whole hours off UTC, by the half or quarter hour). Default: the 7 days before the newest reading; at most 200 days. Kept for 5 minutes.',
        tags: ['analytics'],
        response: PROFILE,
      },
      async handler(ctx: Context<StatisticsParams & { tz: string }, CallMeta>) {
        const { twin: twinId, metric, tz } = ctx.params;
        const zone = new Zone(tz);
        const asked = spanOfParams(ctx.params);
        return this.answer(ctx, ['profile', twinId, metric, zone.name, asked], async (older) => {
          const { sql, clock, kinds } = this.parts;
          const twin = await findTwin(sql, twinId);
          const span = closed(asked, [twin], clock.now());
          if (span.to - span.from > 200 * DAY_MS)
            throw new TwinmeshError('bad_request', 'from: at most 200 days before to.');
          const stepMs = zone.stepMs(span.from, span.to);
          const kind = kinds.get(twin.kind);
          const { items } = await downsample(sql, clock, kind, twin, { metric, span, stepMs }, older);
          return {
            twinId,
            tz: zone.name,
            from: iso(span.from),
            to: iso(span.to),
            stepMs,
            metrics: profileOf(items, zone),
          };
        });
      },
    },
  },

  methods: {
    async answer(ctx, question, compute) {
      const { answer, etag } = await this.cache.get(question, async () => {
        const older = this.archive.reader();
        const found = await compute(older);
        return older.notes.length > 0 ? { ...found, notes: older.notes } : found;
      });
      ctx.meta.$responseHeaders = { ETag: etag };
      return answer;
    },

    async twinsOf(text: string) {
      const ids = [...new Set(text.split(',').map((id) => id.trim()))].filter((id) => id !== '');
      if (ids.length < 2 || ids.length > MOST_SERIES)
        throw new TwinmeshError('bad_request', `twins: 2 to ${MOST_SERIES} twins, separated by commas.`);
      const found: TwinKey[] = [];
      for (const id of ids) found.push(await findTwin(this.parts.sql, id));
      return found;
    },

    /** Averages by metric and start of the bucket. */
    async seriesOf(twin: TwinKey, metric: string | undefined, span: Span, stepMs: number, older: OlderReadings) {
      const { sql, clock, kinds } = this.parts;
      const kind: Kind = kinds.get(twin.kind);
      const { items } = await downsample(sql, clock, kind, twin, { metric, span, stepMs }, older);
      const out = new Map<string, Map<string, number>>(
        (kind.openMetrics ? [] : kind.metricNames)
          .filter((name) => metric === undefined || metric.split(',').some((asked) => asked.trim() === name))
          .map((name) => [name, new Map()]),
      );
      for (const { at, metrics } of items) {
        for (const [name, { avg }] of Object.entries(metrics)) {
          const values = out.get(name) ?? new Map<string, number>();
          out.set(name, values.set(at, avg));
        }
      }
      return out;
    },
  },

  async started() {
    this.cache = openAnswers(this.parts, 'statistics');
    this.archive = openArchive(this.parts);
  },

  async stopped() {
    this.archive?.close();
  },
};

/** An end that is left open is the newest reading, a beginning 7 days before the end. The end is in it for whole hours after it. */
function closed(asked: Partial<Span>, twins: readonly TwinKey[], now: number): Span {
  const newest = twins.reduce<number | null>((at, twin) => (twin.at === null ? at : Math.max(at ?? 0, twin.at)), null);
  const to = asked.to ?? Math.max(ceilTo((newest ?? now) + 1, HOUR_MS), (asked.from ?? 0) + 1);
  return { from: asked.from ?? Math.max(0, to - DEFAULT_SPAN_MS), to };
}

export default statistics;
