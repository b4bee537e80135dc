import type { Kind, MetricDefinition, WireFormat } from '../../actors/protocol/kind.ts';
import type { JsonSchema } from '../gateway/json-schema.ts';
import { READING_SCHEMA, TELEMETRY } from '../ingest/telemetry-docs.ts';
import { TWIN, VIEW_SCHEMA } from '../twins/view-schema.ts';

/** What every twin has, whatever its kind. */
const TWIN_BASE = 'TwinBase';

/**
 * Components of the OpenAPI document that follow from the kinds: what a twin, a reading and a message in a kind's own
 * format look like, of every kind and of all together. Names are `<kind>.<part>`; a kind's name holds no dot.
 */
export function kindSchemas(kinds: readonly Kind[]): Record<string, JsonSchema> {
  const schemas: Record<string, JsonSchema> = {};
  const twins: Record<string, string> = {};
  const messages: JsonSchema[] = [];
  for (const kind of kinds) {
    const name = (part: string) => `${kind.kind}.${part}`;
    schemas[name('values')] = valuesSchema(kind);
    schemas[name('twin')] = twinSchema(kind, refTo(name('values')));
    schemas[name('reading')] = readingSchema(kind, refTo(name('values')));
    twins[kind.kind] = refTo(name('twin')).$ref;
    messages.push(refTo(name('reading')));
    for (const format of kind.formats) {
      const formatName = name(`format.${format.name.replace(/[^A-Za-z0-9._-]/g, '_')}`);
      schemas[formatName] = formatSchema(kind, format);
      messages.push(refTo(formatName));
    }
  }
  return {
    [TWIN_BASE]: VIEW_SCHEMA,
    [TWIN]: {
      oneOf: Object.values(twins).map(($ref) => ({ $ref })),
      discriminator: { propertyName: 'kind', mapping: twins },
    },
    [TELEMETRY]: {
      description: 'A reading of any kind, or a message in the format of one.',
      anyOf: messages,
    },
    ...schemas,
  };
}

function refTo(name: string): { $ref: string } {
  return { $ref: `#/components/schemas/${name}` };
}

function valuesSchema({ title, metrics, openMetrics }: Kind): JsonSchema {
  if (openMetrics) {
    return {
      type: 'object',
      description: `${title}: metrics are learned from the messages.`,
      additionalProperties: { type: 'number' },
    };
  }
  const properties = Object.entries(metrics).map(([name, metric]) => [name, metricSchema(metric)]);
  return { type: 'object', description: `Metrics: ${title}.`, properties: Object.fromEntries(properties) };
}

function metricSchema({ unit, min, max, title, normal }: MetricDefinition): JsonSchema {
  const ordinarily = normal === undefined ? '' : `; ordinarily ${normal[0]} to ${normal[1]}`;
  return {
    type: 'number',
    ...(title === undefined ? {} : { title }),
    description: `In ${unit}${ordinarily}.`,
    minimum: min,
    maximum: max,
    'x-unit': unit,
  };
}

function twinSchema({ kind, title, description }: Kind, values: JsonSchema): JsonSchema {
  const own = { type: 'object', properties: { kind: { const: kind }, reported: values } };
  return { title, description, allOf: [refTo(TWIN_BASE), own] };
}

function readingSchema(kind: Kind, values: JsonSchema): JsonSchema {
  const example = kind.formats[0].decode(kind.formats[0].example, undefined);
  return {
    ...READING_SCHEMA,
    title: `Reading: ${kind.title}`,
    properties: {
      ...READING_SCHEMA.properties,
      twinId: { type: 'string', pattern: `^${kind.kind}:[A-Za-z0-9._-]{1,128}$`, description: 'kind:id' },
      values,
    },
    examples: [{ twinId: `${kind.kind}:${example.id}`, at: example.at, values: example.values }],
  };
}

function formatSchema(kind: Kind, { name, mqtt = [], kafka = [], http = [], example }: WireFormat): JsonSchema {
  const places = [
    ...mqtt.map((topic) => `MQTT ${topic}`),
    ...kafka.map((topic) => `Kafka ${topic}`),
    ...http.map((path) => `POST ${path}`),
  ];
  return {
    type: 'object',
    title: `${kind.title}: ${name}`,
    description: `The kind's own format${places.length === 0 ? '' : `, also on ${places.join(', ')}`}.`,
    examples: [example],
  };
}
