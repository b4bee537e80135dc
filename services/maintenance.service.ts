import type { Context } from 'moleculer';
import { listMaintenance, type MaintenanceQuery } from '../actors/store/queries/maintenance-list.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { listOf, MAYBE_TIME, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { TWIN_ID } from './history/span-params.ts';

/** Maintenance that models predict, for reading. Work that was done is recorded by a command to its twin. */
const ITEM = {
  type: 'object',
  required: ['twin', 'kind', 'timestamp', 'predicted_rul_hours', 'recommended_action', 'priority', 'model_version'],
  properties: {
    event_id: TEXT,
    twin: TEXT,
    kind: TEXT,
    timestamp: { ...TIME, description: 'Of the newest reading that it is based on.' },
    prediction: TEXT,
    predicted_rul_hours: { type: 'number' },
    confidence_interval: {
      type: ['array', 'null'],
      items: { type: 'number' },
      description: 'Hours; as wide as the coverage that the model card states.',
    },
    recommended_action: { type: 'string', enum: ['none', 'inspect', 'schedule_maintenance', 'stop'] },
    priority: { type: 'string', enum: ['low', 'medium', 'high', 'critical'] },
    due_at: { ...MAYBE_TIME, description: 'When the remaining life is over, were it as predicted.' },
    model_version: TEXT,
    revision: { type: 'integer' },
  },
};

const maintenance: PartsSchema = {
  name: 'maintenance',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/maintenance',
      role: 'viewer',
      params: {
        kind: {
          type: 'string',
          max: 31,
          optional: true,
          description: 'Only of twins of this kind.',
          example: 'machine',
        },
        twinId: { ...TWIN_ID, optional: true },
        action: {
          type: 'string',
          max: 60,
          optional: true,
          description: 'inspect, schedule_maintenance, stop, none, separated by commas. Default: all but none.',
          example: 'schedule_maintenance,stop',
        },
        priority: {
          type: 'string',
          max: 60,
          optional: true,
          description: 'low, medium, high, critical, separated by commas.',
        },
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Maintenance that is predicted, worst first',
        description: 'The newest prediction of each twin whose recommended action stands.',
        tags: ['maintenance'],
        response: listOf(ITEM),
      },
      handler(ctx: Context<MaintenanceQuery>) {
        return listMaintenance(this.parts.sql, ctx.params);
      },
    },
  },
};

export default maintenance;
