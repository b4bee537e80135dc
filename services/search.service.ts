import type { Context } from 'moleculer';
import { listTwins, type TwinListQuery } from '../actors/store/queries/twin-list.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { AnswerCache } from './analytics/answer-cache.ts';
import { listOf, PAGE_PARAMS } from './gateway/list-schema.ts';
import { TWIN_ITEM_SCHEMA } from './search/twin-item-schema.ts';

/**
 * Summaries are up to a second old by design; dashboards that ask for the same page many times a second share one query
 * instead of taking the database from the checkpoints.
 */
const PAGE_KEPT_MS = 100;

interface Search {
  pages: AnswerCache;
}

/** Finding twins: filter, sort, page, over their summaries. */
const search: PartsSchema<Search> = {
  name: 'search',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/twins',
      role: 'viewer',
      params: {
        kind: { type: 'string', max: 31, optional: true, description: 'Only twins of this kind.', example: 'machine' },
        filter: {
          type: 'string',
          max: 4096,
          optional: true,
          description:
            'RQL: and(…), or(…), not(…), eq, ne, gt, ge, lt, le (field,value), like(field,"a*"), in(field,…), exists(field). Fields: twinId, kind, id, health, online, retired, alerts, revision, at, receivedAt, reported.<metric>, attributes.<name>.',
          example: 'and(eq(health,"warning"),gt(reported.temperature,80))',
        },
        sort: {
          type: 'string',
          max: 400,
          optional: true,
          description: 'Fields, separated by commas, a minus for descending; what is missing comes last.',
          example: '-alerts,+twinId',
        },
        ...PAGE_PARAMS,
        limit: { ...PAGE_PARAMS.limit, default: 50 },
      },
      openapi: {
        summary: 'Find twins',
        description:
          'From summaries that are at most a second behind the twins. Retired twins are left out unless the filter names `retired`.',
        tags: ['twins'],
        response: listOf(TWIN_ITEM_SCHEMA),
      },
      async handler(ctx: Context<TwinListQuery>) {
        const { answer } = await this.pages.get(ctx.params, () => listTwins(this.parts.sql, ctx.params));
        return answer;
      },
    },
  },

  started() {
    this.pages = new AnswerCache(this.parts.clock, { keepMs: PAGE_KEPT_MS });
  },
};

export default search;
