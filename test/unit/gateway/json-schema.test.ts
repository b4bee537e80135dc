import { describe, expect, it } from 'vitest';
import { objectOf, schemaOf } from '../../../services/gateway/json-schema.ts';

describe('schemaOf', () => {
  it.each<[unknown, unknown]>([
    ['string', { type: 'string' }],
    ['string|optional|min:3|max:5', { type: 'string', minLength: 3, maxLength: 5 }],
    ['number|integer|positive', { type: 'integer', exclusiveMinimum: 0 }],
    ['string[]', { type: 'array', items: { type: 'string' } }],
    [
      { type: 'string', pattern: /^a$/, example: 'a', description: 'd' },
      { type: 'string', pattern: '^a$', description: 'd', examples: ['a'] },
    ],
    [
      { type: 'string', length: 3 },
      { type: 'string', minLength: 3, maxLength: 3 },
    ],
    [
      { type: 'number', min: 0, max: 1, default: 0.5 },
      { type: 'number', minimum: 0, maximum: 1, default: 0.5 },
    ],
    [{ type: 'boolean', convert: true }, { type: 'boolean' }],
    [{ type: 'enum', values: ['a', 'b'] }, { enum: ['a', 'b'] }],
    [
      { type: 'array', items: 'number', min: 1, unique: true },
      { type: 'array', items: { type: 'number' }, minItems: 1, uniqueItems: true },
    ],
    [
      { type: 'record', value: 'number' },
      { type: 'object', additionalProperties: { type: 'number' } },
    ],
    [['string', 'number'], { anyOf: [{ type: 'string' }, { type: 'number' }] }],
    [{ type: 'string', nullable: true }, { type: ['string', 'null'] }],
    [
      { $$type: 'object|optional', $$strict: true, a: 'string', b: 'number|optional' },
      {
        type: 'object',
        properties: { a: { type: 'string' }, b: { type: 'number' } },
        required: ['a'],
        additionalProperties: false,
      },
    ],
    [{ type: 'something new' }, {}],
    [null, {}],
  ])('%j', (rule, schema) => expect(schemaOf(rule)).toEqual(schema));
});

describe('objectOf', () => {
  it('tells what is required', () => {
    const object = objectOf({
      $$strict: true,
      a: 'string',
      b: 'string|optional',
      c: { type: 'number', default: 1 },
      d: ['string|optional', 'number'],
      e: { type: 'multi', rules: ['string', 'number'], optional: true },
    });
    expect(object.required).toEqual(['a']);
    expect(object.additional).toBe(false);
    expect(Object.keys(object.properties)).toEqual(['a', 'b', 'c', 'd', 'e']);
  });
});
