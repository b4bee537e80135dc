import { ERRORS } from '../../actors/protocol/errors.ts';
import { type JsonSchema, objectOf } from './json-schema.ts';
import type { Route } from './routes.ts';

/**
 * The OpenAPI 3.1 document of the routes: whatever an action says of itself and nothing beside it, so that a route
 * cannot be served and left out of the document.
 */
export interface ApiInfo {
  title: string;
  version: string;
  description: string;
}

/** `schemas`: components that the routes refer to, beside those of every answer. */
export function openApiOf(
  routes: readonly Route[],
  info: ApiInfo,
  schemas: Record<string, JsonSchema>,
): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  const tags = new Set<string>();
  const operationIds = new Map<string, number>();
  const sorted = [...routes].sort((a, b) => (a.path === b.path ? 0 : a.path < b.path ? -1 : 1));
  for (const route of sorted) {
    const path = templateOf(route);
    paths[path] ??= {};
    const operation = operationOf(route);
    // One action on two paths is two operations, and their ids have to differ.
    const times = (operationIds.get(route.action) ?? 0) + 1;
    operationIds.set(route.action, times);
    operation.operationId = times === 1 ? route.action : `${route.action}.${times}`;
    for (const tag of operation.tags as string[]) tags.add(tag);
    paths[path][route.method.toLowerCase()] = operation;
  }
  return {
    openapi: '3.1.0',
    info: { ...info, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    jsonSchemaDialect: 'https://json-schema.org/draft/2020-12/schema',
    servers: [{ url: '/' }],
    tags: [...tags].sort().map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'Authorization: Bearer tm_…' },
        apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key' },
      },
      schemas: { Problem: problemSchema(), Meta: metaSchema(), ...schemas },
      responses: {
        Problem: {
          description: 'What went wrong and what to do about it.',
          content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      },
    },
  };
}

function templateOf(route: Route): string {
  return route.path.replace(/\/[:*]([A-Za-z0-9_]+)/g, '/{$1}');
}

function operationOf(route: Route): Record<string, unknown> {
  const { docs } = route;
  const inPath = new Set(route.segments.filter((s) => /^[:*]/.test(s)).map((s) => s.slice(1)));
  const object = objectOf(route.params);
  const parameters: JsonSchema[] = [];
  const body: Record<string, JsonSchema> = {};
  const inBody = takesBody(route);
  for (const name of inPath)
    parameters.push(parameter(name, 'path', object.properties[name] ?? { type: 'string' }, true));
  for (const [name, schema] of Object.entries(object.properties)) {
    if (inPath.has(name)) continue;
    if (inBody && docs.body !== 'raw') body[name] = schema;
    else if (name !== 'body') parameters.push(parameter(name, 'query', schema, object.required.includes(name)));
  }
  parameters.push(...headersOf(route));
  const requestBody = inBody
    ? bodyOf(
        route,
        body,
        object.required.filter((name) => name in body),
      )
    : undefined;
  return {
    summary: docs.summary ?? route.action,
    ...(docs.description ? { description: docs.description } : {}),
    tags: docs.tags ?? [route.action.split('.')[0]],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(requestBody ? { requestBody } : {}),
    responses: responsesOf(route),
    security: route.access === 'public' ? [] : [{ bearer: [] }, { apiKey: [] }],
    'x-role': route.access,
  };
}

function takesBody(route: Route): boolean {
  return route.method !== 'GET' && route.method !== 'DELETE';
}

function parameter(
  name: string,
  place: 'path' | 'query' | 'header',
  schema: JsonSchema,
  required: boolean,
): JsonSchema {
  const { description, examples, ...rest } = schema;
  const [example] = Array.isArray(examples) ? examples : [];
  return {
    name,
    in: place,
    required,
    ...(typeof description === 'string' ? { description } : {}),
    schema: rest,
    ...(example === undefined ? {} : { example }),
  };
}

function headersOf(route: Route): JsonSchema[] {
  const text = (name: string, description: string) => parameter(name, 'header', { type: 'string', description }, false);
  const own: JsonSchema[] = [];
  if (route.docs.stream === 'sse')
    own.push(text('Last-Event-ID', 'Id of the last event received: the stream goes on behind it.'));
  if (!route.path.startsWith('/api/v1/twins/:twinId')) return own;
  if (route.path === '/api/v1/twins/:twinId' && route.method === 'GET')
    own.push(text('If-None-Match', 'ETag of what you have: 304 while it is the newest.'));
  if (!route.audited) return own;
  return [
    text('Idempotency-Key', 'Makes a retry harmless: the same key again answers the first result.'),
    text('If-Match', 'ETag the twin must still have; otherwise 412.'),
  ];
}

function bodyOf(route: Route, properties: Record<string, JsonSchema>, required: string[]): JsonSchema | undefined {
  const { docs } = route;
  if (docs.body === 'raw') {
    const types = docs.bodyTypes ?? { 'application/octet-stream': {} };
    const content = Object.fromEntries(
      Object.entries(types).map(([type, { schema, example }]) => [
        type,
        { schema: schema ?? {}, ...(example === undefined ? {} : { example }) },
      ]),
    );
    return { required: true, content };
  }
  if (Object.keys(properties).length === 0) return undefined;
  const schema: JsonSchema =
    docs.bodyParam !== undefined
      ? (properties[docs.bodyParam] ?? {})
      : { type: 'object', properties, ...(required.length > 0 ? { required } : {}) };
  const example = docs.bodyExample === undefined ? {} : { example: docs.bodyExample };
  return {
    required: docs.bodyParam !== undefined || required.length > 0,
    content: { 'application/json': { schema, ...example } },
  };
}

function responsesOf(route: Route): Record<string, unknown> {
  const { docs } = route;
  const data = docs.response ?? {};
  const schema =
    docs.envelope === false
      ? data
      : {
          type: 'object',
          required: ['status', 'data', 'meta'],
          properties: {
            status: { const: 'success' },
            data,
            meta: { $ref: '#/components/schemas/Meta' },
          },
        };
  const content: Record<string, unknown> = {};
  // An action that only streams has no JSON answer; one that also does says so with a response schema.
  if (docs.stream === undefined || docs.response) content['application/json'] = { schema };
  if (docs.stream === 'sse') content['text/event-stream'] = { schema: { type: 'string' } };
  if (docs.stream === 'csv') content['text/csv'] = { schema: { type: 'string' } };
  if (docs.stream === 'parquet')
    content['application/vnd.apache.parquet'] = { schema: { type: 'string', format: 'binary' } };
  return { '200': { description: 'Done.', content }, default: { $ref: '#/components/responses/Problem' } };
}

function problemSchema(): JsonSchema {
  const text = { type: 'string' };
  return {
    type: 'object',
    required: [
      'type',
      'title',
      'status',
      'http_status',
      'detail',
      'code',
      'instance',
      'request_id',
      'remedy',
      'retryable',
    ],
    properties: {
      type: text,
      title: text,
      status: { const: 'error' },
      http_status: { type: 'integer', description: 'The HTTP status.' },
      detail: text,
      code: { type: 'string', enum: Object.keys(ERRORS) },
      instance: text,
      request_id: text,
      remedy: { type: 'string', description: 'What to do about it.' },
      retryable: { type: 'boolean', description: 'Whether the same request may succeed later, unchanged.' },
      errors: {
        type: 'array',
        items: { type: 'object', properties: { field: text, message: text } },
      },
    },
  };
}

function metaSchema(): JsonSchema {
  return {
    type: 'object',
    required: ['timestamp', 'request_id', 'elapsed_ms'],
    properties: {
      timestamp: { type: 'string', format: 'date-time' },
      request_id: { type: 'string' },
      elapsed_ms: { type: 'number' },
    },
  };
}
