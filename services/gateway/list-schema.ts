import type { JsonSchema } from './json-schema.ts';

/** JSON Schema of a page of a list. */
export function listOf(items: JsonSchema): JsonSchema {
  return {
    type: 'object',
    required: ['items', 'nextCursor'],
    properties: {
      items: { type: 'array', items },
      nextCursor: { type: ['string', 'null'], description: 'Cursor of the next page; null after the last.' },
    },
  };
}

export const TEXT: JsonSchema = { type: 'string' };
export const TIME: JsonSchema = { type: 'string', format: 'date-time' };
export const MAYBE_TIME: JsonSchema = { type: ['string', 'null'], format: 'date-time' };

/** Params that every list takes. */
export const PAGE_PARAMS = {
  limit: {
    type: 'number',
    integer: true,
    min: 1,
    max: 500,
    convert: true,
    default: 100,
    description: 'Items of a page.',
  },
  cursor: { type: 'string', max: 2048, optional: true, description: '`nextCursor` of the page before.' },
} as const;
