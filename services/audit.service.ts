import type { Context } from 'moleculer';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { readTrail } from './audit/trail.ts';
import { listOf, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';

/** The audit trail, for reading. The gateway writes it, before each action that changes something. */
const audit: PartsSchema = {
  name: 'audit',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/audit',
      role: 'admin',
      params: {
        actor: { type: 'string', max: 200, optional: true, description: 'Part of the name or the id of the key.' },
        action: {
          type: 'string',
          max: 100,
          optional: true,
          description: 'Name of the action.',
          example: 'twins.desired',
        },
        target: {
          type: 'string',
          max: 300,
          optional: true,
          description: 'What it was done to.',
          example: 'machine:MACHINE_001',
        },
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Who commanded, acknowledged, edited what, when',
        description:
          'Newest first. `details.outcome` is `done` or the code of the error; without one the process ended meanwhile.',
        tags: ['audit'],
        response: listOf({
          type: 'object',
          required: ['id', 'at', 'actor', 'role', 'action', 'target', 'details', 'requestId'],
          properties: {
            id: { type: 'integer' },
            at: TIME,
            actor: TEXT,
            role: TEXT,
            action: TEXT,
            target: { type: ['string', 'null'] },
            details: { type: 'object' },
            requestId: { type: ['string', 'null'] },
          },
        }),
      },
      handler(ctx: Context<{ actor?: string; action?: string; target?: string; limit: number; cursor?: string }>) {
        return readTrail(this.parts.sql, ctx.params);
      },
    },
  },
};

export default audit;
