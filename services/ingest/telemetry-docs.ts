import type { JsonSchema } from '../gateway/json-schema.ts';

/** What telemetry looks like, for the OpenAPI description. */
export const SUBMIT_SCHEMA: JsonSchema = {
  type: 'object',
  required: ['accepted', 'duplicates', 'rejected'],
  properties: {
    accepted: { type: 'integer', description: 'Readings stored: folded, or as backfill.' },
    duplicates: { type: 'integer', description: 'Readings that were there already.' },
    rejected: {
      type: 'array',
      items: {
        type: 'object',
        required: ['index', 'code', 'message'],
        properties: {
          index: { type: 'integer', description: 'Which message of the payload, from 0.' },
          code: { type: 'string' },
          message: { type: 'string' },
        },
      },
    },
  },
};

/** One reading in the generic format; each kind has its own with its metrics (kind-schemas.ts). */
export const READING_SCHEMA = {
  type: 'object',
  required: ['twinId', 'values'],
  properties: {
    twinId: { type: 'string', description: 'kind:id' },
    at: { type: ['string', 'number'], description: 'ISO 8601, or epoch seconds or milliseconds; default: now.' },
    values: { type: 'object', additionalProperties: { type: 'number' } },
    id: {
      type: ['string', 'number'],
      description: 'Identity of the reading; default: its time, sensor, metrics and seq.',
    },
    seq: { type: 'integer', minimum: 0 },
    sensor: { type: 'string' },
    unit: { type: 'string', description: 'For kinds that learn their metrics.' },
    attributes: { type: 'object' },
  },
} satisfies JsonSchema;

/** Name of the component that is a message of any kind. */
export const TELEMETRY = 'Telemetry';

const EXAMPLE = { twinId: 'machine:MACHINE_001', at: '2026-01-01T12:00:00Z', values: { temperature: 65.5 } };

/** Content types of a telemetry body, with one message as the example. */
export function telemetryBodies(example: Record<string, unknown>, schema?: JsonSchema) {
  return {
    'application/json': { schema: schema && { oneOf: [schema, { type: 'array', items: schema }] }, example: [example] },
    'application/x-ndjson': { example: `${JSON.stringify(example)}\n` },
  };
}

export const TELEMETRY_BODIES = telemetryBodies(EXAMPLE, { $ref: `#/components/schemas/${TELEMETRY}` });
