import { MAYBE_TIME, TEXT, TIME } from '../gateway/list-schema.ts';

/** JSON Schema of a twin in a list: its summary. */
export const TWIN_ITEM_SCHEMA = {
  type: 'object',
  required: [
    'twinId',
    'kind',
    'id',
    'revision',
    'at',
    'receivedAt',
    'health',
    'online',
    'retired',
    'alerts',
    'reported',
    'attributes',
  ],
  properties: {
    twinId: TEXT,
    kind: TEXT,
    id: TEXT,
    revision: { type: 'integer' },
    at: MAYBE_TIME,
    receivedAt: TIME,
    health: { type: 'string', enum: ['ok', 'warning', 'critical', 'unknown'] },
    online: { type: 'boolean' },
    retired: { type: 'boolean' },
    alerts: { type: 'integer', description: 'How many alerts stand.' },
    reported: { type: 'object', additionalProperties: { type: 'number' } },
    attributes: { type: 'object' },
  },
};
