import type { Context } from 'moleculer';
import { SEVERITIES } from '../actors/protocol/entry.ts';
import { type AlertQuery, listAlerts } from '../actors/store/queries/alert-list.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { listOf, MAYBE_TIME, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { SPAN_PARAMS, type SpanParams, spanOfParams, TWIN_ID } from './history/span-params.ts';

/** Alerts, for reading. What is done about them are commands to their twins. */
const MAYBE_TEXT = { type: ['string', 'null'] };

const alerts: PartsSchema = {
  name: 'alerts',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/alerts',
      role: 'viewer',
      params: {
        state: {
          type: 'string',
          max: 100,
          optional: true,
          description: 'raised, acknowledged, cleared, resolved, separated by commas; `standing` for the first two.',
          example: 'standing',
        },
        severity: {
          type: 'string',
          max: 100,
          optional: true,
          description: 'info, warning, high, critical, separated by commas.',
          example: 'high,critical',
        },
        kind: {
          type: 'string',
          max: 31,
          optional: true,
          description: 'Only of twins of this kind.',
          example: 'machine',
        },
        twinId: { ...TWIN_ID, optional: true },
        ...SPAN_PARAMS,
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Alerts, newest first',
        description:
          'By when they were raised. What has cleared stays in the list; `state=standing` asks for those that somebody should look at.',
        tags: ['alerts'],
        response: listOf({
          type: 'object',
          required: [
            'alert_id',
            'timestamp',
            'twin',
            'kind',
            'alert_type',
            'severity',
            'message',
            'state',
            'acknowledged',
          ],
          properties: {
            alert_id: TEXT,
            timestamp: { ...TIME, description: 'When it was raised.' },
            twin: TEXT,
            kind: TEXT,
            alert_type: { ...TEXT, description: 'The rule.' },
            severity: { type: 'string', enum: [...SEVERITIES] },
            message: TEXT,
            state: { type: 'string', enum: ['raised', 'acknowledged', 'cleared', 'resolved'] },
            acknowledged: { type: 'boolean' },
            acknowledged_by: MAYBE_TEXT,
            acknowledged_at: MAYBE_TIME,
            resolved_at: MAYBE_TIME,
            silenced_until: MAYBE_TIME,
            note: MAYBE_TEXT,
            revision: { type: 'integer' },
          },
        }),
      },
      handler(ctx: Context<Omit<AlertQuery, 'span'> & SpanParams>) {
        return listAlerts(this.parts.sql, { ...ctx.params, span: spanOfParams(ctx.params) });
      },
    },
  },
};

export default alerts;
