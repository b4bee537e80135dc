import type { Context } from 'moleculer';
import type { SubmitResult } from '../actors/ingress/intake.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { FILTER_PARAMS } from './dead-letters/filter-params.ts';
import { type LetterFilter, lettersToReplay, listLetters, markReplayed } from './dead-letters/letters.ts';
import { type ReplayResult, replayLetters } from './dead-letters/replay.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, MAYBE_TIME, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';

/** What was refused, and why: to look through, and to send again once the reason is mended. `streams` shows it as it comes. */
type LetterContext<Params> = Context<Params, CallMeta>;

const LETTER_SCHEMA = {
  type: 'object',
  required: ['id', 'receivedAt', 'source', 'code', 'message', 'twinId', 'payload', 'truncated', 'replayedAt'],
  properties: {
    id: { type: 'integer' },
    receivedAt: TIME,
    source: TEXT,
    code: TEXT,
    message: TEXT,
    twinId: { type: ['string', 'null'] },
    payload: { type: 'string', description: 'The message as it was sent.' },
    truncated: { type: 'boolean', description: 'The payload was longer than what is kept: it cannot be replayed.' },
    replayedAt: MAYBE_TIME,
  },
};

/** Letters of one replay: it answers within a request. */
const MAX_REPLAY = 500;

const deadLetters: PartsSchema = {
  name: 'dead-letters',
  metadata: { role: 'ingest' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/dead-letters',
      role: 'viewer',
      params: { ...FILTER_PARAMS, ...PAGE_PARAMS },
      openapi: {
        summary: 'Dead letters, newest first',
        description:
          'Messages that were refused, with the code, the reason, and the message as it came, cut where it was long.',
        tags: ['dead letters'],
        response: listOf(LETTER_SCHEMA),
      },
      handler(ctx: LetterContext<LetterFilter & { limit: number; cursor?: string }>) {
        const { limit, cursor, ...filter } = ctx.params;
        return listLetters(this.parts.sql, filter, { limit, cursor });
      },
    },

    replay: {
      rest: 'POST /api/v1/dead-letters/replay',
      role: 'admin',
      params: {
        ...FILTER_PARAMS,
        ids: {
          type: 'array',
          items: { type: 'number', integer: true, min: 1, max: Number.MAX_SAFE_INTEGER },
          min: 1,
          max: MAX_REPLAY,
          optional: true,
          description:
            'These letters; default: those of the filter that have not been replayed, without those refused for their sender (not_yourself …), which need to be named by id or code.',
        },
        after: {
          type: 'number',
          integer: true,
          min: 0,
          max: Number.MAX_SAFE_INTEGER,
          optional: true,
          description: 'Only letters behind this id: `lastId` of the answer before.',
        },
        limit: {
          type: 'number',
          integer: true,
          min: 1,
          max: MAX_REPLAY,
          default: MAX_REPLAY,
          description: 'At most so many.',
        },
      },
      openapi: {
        summary: 'Send dead letters through the door again',
        description:
          'Oldest first. A letter whose message is taken is marked as replayed; one that is refused again stays as it is. A message without a time keeps the time it first arrived, so that a second replay is a duplicate.',
        tags: ['dead letters'],
        bodyExample: { code: 'future_time' },
        response: {
          type: 'object',
          required: ['replayed', 'accepted', 'duplicates', 'rejected', 'lastId'],
          properties: {
            replayed: { type: 'integer' },
            accepted: { type: 'integer' },
            duplicates: { type: 'integer' },
            lastId: { type: ['integer', 'null'] },
            rejected: {
              type: 'array',
              items: {
                type: 'object',
                required: ['id', 'code', 'message'],
                properties: { id: { type: 'integer' }, code: TEXT, message: TEXT },
              },
            },
          },
        },
      },
      async handler(
        ctx: LetterContext<LetterFilter & { ids?: number[]; after?: number; limit: number }>,
      ): Promise<ReplayResult> {
        const { ids, limit, ...filter } = ctx.params;
        const { sql } = this.parts;
        const letters = await lettersToReplay(sql, ids, filter, limit);
        const done: number[] = [];
        try {
          return await replayLetters(
            letters,
            (again) => ctx.call<SubmitResult, object>('ingest.submit', again),
            (id) => done.push(id),
          );
        } finally {
          await markReplayed(sql, done);
        }
      },
    },
  },
};

export default deadLetters;
