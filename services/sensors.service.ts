import type { Context } from 'moleculer';
import type { TwinView } from '../actors/protocol/view.ts';
import { summarise } from '../actors/store/queries/downsample.ts';
import { type NewestQuery, newestReadings } from '../actors/store/queries/newest.ts';
import { DAY_MS, iso } from '../actors/store/queries/span.ts';
import { findTwin } from '../actors/store/queries/twin-key.ts';
import { listTwins, type TwinListQuery } from '../actors/store/queries/twin-list.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { Answers } from './analytics/answer-cache.ts';
import { openAnswers } from './analytics/answers.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, PAGE_PARAMS } from './gateway/list-schema.ts';
import { START_END_PARAMS, type StartEndParams, spanOfStartEnd } from './history/span-params.ts';
import { columnsOf, latestOf, MOTE, moteIdOf, moteOf, moteTwinId } from './sensors/mote.ts';
import { MOTE_ID, MOTE_SCHEMA, READING_SCHEMA, STATS_SCHEMA } from './sensors/mote-schema.ts';

/** Motes under the names that environmental-sensor clients use; the same twins and history underneath. */
interface Sensors {
  cache: Answers;
}

type PageParams = Pick<TwinListQuery, 'limit' | 'cursor'>;

const sensors: PartsSchema<Sensors> = {
  name: 'sensors',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    latest: {
      rest: 'GET /api/v1/sensors/latest',
      role: 'viewer',
      params: PAGE_PARAMS,
      openapi: {
        summary: 'The newest values of every mote',
        description: 'One item a mote that has sent something; a metric that it has never sent is null.',
        tags: ['sensors'],
        response: listOf(READING_SCHEMA),
      },
      async handler(ctx: Context<PageParams>) {
        const kind = this.parts.kinds.get(MOTE);
        const page = await listTwins(this.parts.sql, { ...ctx.params, kind: MOTE, filter: 'exists(at)' });
        return { ...page, items: page.items.map((item) => latestOf(kind, item)) };
      },
    },

    latestOf: {
      rest: 'GET /api/v1/sensors/:mote_id/latest',
      role: 'viewer',
      params: { mote_id: MOTE_ID },
      openapi: {
        summary: 'The newest values of a mote',
        description: 'A metric that it has never sent is null.',
        tags: ['sensors'],
        response: READING_SCHEMA,
      },
      async handler(ctx: Context<{ mote_id: string }>) {
        const kind = this.parts.kinds.get(MOTE);
        const twinId = moteTwinId(ctx.params.mote_id);
        const { at, reported } = await ctx.call<TwinView, object>('twins.get', { twinId });
        return latestOf(kind, { id: ctx.params.mote_id, at, reported });
      },
    },

    readings: {
      rest: 'GET /api/v1/sensors/readings',
      role: 'viewer',
      params: { mote_id: { ...MOTE_ID, optional: true }, ...START_END_PARAMS, ...PAGE_PARAMS },
      openapi: {
        summary: 'Readings of motes, newest first',
        description: 'A reading has the metrics it came with; the others are null.',
        tags: ['sensors'],
        response: listOf(READING_SCHEMA),
      },
      async handler(ctx: Context<{ mote_id?: string } & StartEndParams & PageParams>) {
        const kind = this.parts.kinds.get(MOTE);
        const { mote_id: id, limit, cursor } = ctx.params;
        if (id !== undefined) await findTwin(this.parts.sql, moteTwinId(id));
        const query: NewestQuery = { id, span: spanOfStartEnd(ctx.params), limit, cursor };
        return await newestReadings(this.parts.sql, kind, query, (row) => ({
          mote_id: moteIdOf(row.id),
          timestamp: iso(row.at.getTime()),
          ...columnsOf(kind, row as unknown as Record<string, number>),
        }));
      },
    },

    stats: {
      rest: 'GET /api/v1/sensors/:mote_id/stats',
      role: 'viewer',
      params: { mote_id: MOTE_ID, ...START_END_PARAMS },
      openapi: {
        summary: 'Average, extremes and spread of a mote over a period',
        description:
          'Without `end` up to the newest reading, without `start` the 24 hours before the end. Kept for 5 minutes.',
        tags: ['sensors'],
        response: STATS_SCHEMA,
      },
      async handler(ctx: Context<{ mote_id: string } & StartEndParams, CallMeta>) {
        const { sql, clock, kinds } = this.parts;
        const asked = spanOfStartEnd(ctx.params);
        const twinId = moteTwinId(ctx.params.mote_id);
        const { answer, etag } = await this.cache.get(['stats', twinId, asked], async () => {
          const kind = kinds.get(MOTE);
          const twin = await findTwin(sql, twinId);
          const to = asked.to ?? Math.max((twin.at ?? clock.now()) + 1, (asked.from ?? 0) + 1);
          const from = asked.from ?? Math.max(0, to - DAY_MS);
          const found = await summarise(sql, clock, kind, twin, { from, to });
          const stats = kind.metricNames.map((name) => {
            const { avg = null, min = null, max = null, std = null, count = 0 } = found[name] ?? {};
            return [name, { avg, min, max, stddev: std, count }];
          });
          return {
            mote_id: moteIdOf(twin.id),
            period: { start: iso(from), end: iso(to) },
            ...Object.fromEntries(stats),
          };
        });
        ctx.meta.$responseHeaders = { ETag: etag };
        return answer;
      },
    },

    motes: {
      rest: 'GET /api/v1/motes',
      role: 'viewer',
      params: PAGE_PARAMS,
      openapi: {
        summary: 'The motes there are',
        description:
          'By id, with health and when each was last heard; a page is as fresh as the summaries, about a second.',
        tags: ['sensors'],
        response: listOf(MOTE_SCHEMA),
      },
      async handler(ctx: Context<PageParams>) {
        this.parts.kinds.get(MOTE);
        const page = await listTwins(this.parts.sql, { ...ctx.params, kind: MOTE });
        return { ...page, items: page.items.map(moteOf) };
      },
    },

    mote: {
      rest: 'GET /api/v1/motes/:mote_id',
      role: 'viewer',
      params: { mote_id: MOTE_ID },
      openapi: {
        summary: 'One mote, with its newest values',
        description: 'Its committed state. `not_found` for a mote that nothing was ever heard of.',
        tags: ['sensors'],
        response: MOTE_SCHEMA,
      },
      async handler(ctx: Context<{ mote_id: string }>) {
        const kind = this.parts.kinds.get(MOTE);
        const id = ctx.params.mote_id;
        const view = await ctx.call<TwinView, object>('twins.get', { twinId: moteTwinId(id) });
        const { twinId, revision, at, online, retired, attributes } = view;
        const mote = moteOf({
          twinId,
          kind: MOTE,
          id,
          revision,
          at,
          // A twin that has been made by a command alone has heard nothing yet.
          receivedAt: view.receivedAt as string,
          health: view.health.status,
          online,
          retired,
          alerts: view.alerts.length,
          attributes,
        });
        return { ...mote, latest: columnsOf(kind, view.reported) };
      },
    },
  },

  async started() {
    this.cache = openAnswers(this.parts, 'sensors');
  },
};

export default sensors;
