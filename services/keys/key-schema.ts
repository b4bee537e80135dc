import { MAYBE_TIME, TEXT, TIME } from '../gateway/list-schema.ts';

/** JSON Schemas of what the key actions answer. */
export const KEY_SCHEMA = {
  type: 'object',
  required: ['id', 'name', 'role', 'twinId', 'gateway', 'createdAt', 'createdBy', 'lastUsedAt', 'revokedAt'],
  properties: {
    id: TEXT,
    name: TEXT,
    role: TEXT,
    twinId: { type: ['string', 'null'], description: 'The twin a device speaks as.' },
    gateway: { type: 'boolean', description: 'A device that may speak for all.' },
    createdAt: TIME,
    createdBy: { type: ['string', 'null'] },
    lastUsedAt: MAYBE_TIME,
    revokedAt: MAYBE_TIME,
  },
};

export const NEW_KEY_SCHEMA = {
  type: 'object',
  required: ['id', 'name', 'role', 'key'],
  properties: { id: TEXT, name: TEXT, role: TEXT, key: { type: 'string', description: 'Shown this once.' } },
};

export const ENROLMENT_SCHEMA = {
  type: 'object',
  required: ['id', 'name', 'kind', 'twinId', 'gateway', 'key', 'topic', 'address', 'sketches'],
  properties: {
    id: TEXT,
    name: TEXT,
    kind: TEXT,
    twinId: TEXT,
    gateway: { type: 'boolean' },
    key: { type: 'string', description: 'Shown this once.' },
    topic: { type: 'string', description: 'MQTT topic to publish on.' },
    address: { type: 'object', properties: { mqtt: TEXT, http: TEXT } },
    sketches: {
      type: 'object',
      properties: { mosquittoPub: TEXT, curl: TEXT, arduino: TEXT, micropython: TEXT },
    },
  },
};

export const REVOKED_SCHEMA = {
  type: 'object',
  required: ['revoked'],
  properties: { revoked: { type: 'array', items: TEXT } },
};
