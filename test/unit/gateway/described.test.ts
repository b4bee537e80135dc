import { describe, expect, it } from 'vitest';
import { openApiOf } from '../../../services/gateway/openapi.ts';
import { type ExposedAction, routesOf } from '../../../services/gateway/routes.ts';
import { serviceSchemas } from '../../../services/schemas.ts';

/** The document of all services there are, whatever role a node has. */
interface Operation {
  operationId: string;
  summary?: string;
  description?: string;
  parameters?: { in: string; name: string; description?: string }[];
  requestBody?: { content: Record<string, { schema?: { properties?: Record<string, { description?: string }> } }> };
}

const actions: ExposedAction[] = [];
for (const { name, actions: own = {} } of await serviceSchemas())
  for (const [key, action] of Object.entries(own)) {
    const exposed = { ...(action as object), name: `${name}.${key}` } as ExposedAction;
    if (exposed.visibility === undefined || exposed.visibility === 'published') actions.push(exposed);
  }
const { routes } = routesOf(actions);
const { paths } = openApiOf(routes, { title: '', version: '', description: '' }, {}) as {
  paths: Record<string, Record<string, Operation>>;
};
const operations = Object.values(paths).flatMap((methods) => Object.values(methods));
const SENTENCE = /^[`A-Z0-9].*[.…]$/s;

describe('the OpenAPI document', () => {
  it('says of every operation what it does, in a line and in a sentence', () => {
    expect(operations.length).toBeGreaterThan(80);
    const bare = operations.filter(
      ({ operationId, summary, description }) =>
        !summary || summary === operationId || !SENTENCE.test(description ?? '') || description === summary,
    );
    expect(bare.map(({ operationId }) => operationId)).toEqual([]);
  });

  it('says of every parameter and every member of a body what it is', () => {
    let members = 0;
    const bare: string[] = [];
    for (const { operationId, parameters = [], requestBody } of operations) {
      const named = parameters.map(({ in: place, name, description }) => ({ at: `${place} ${name}`, description }));
      for (const { schema } of Object.values(requestBody?.content ?? {}))
        for (const [name, { description }] of Object.entries(schema?.properties ?? {}))
          named.push({ at: `body ${name}`, description });
      for (const { at, description } of named) {
        members++;
        if ((description ?? '').trim() === '') bare.push(`${operationId}: ${at}`);
      }
    }
    expect(members).toBeGreaterThan(200);
    expect(bare).toEqual([]);
  });
});
