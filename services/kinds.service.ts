import type { Context } from 'moleculer';
import type { Kind } from '../actors/protocol/kind.ts';
import { thingModel } from '../actors/protocol/thing-model.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { listOf, TEXT } from './gateway/list-schema.ts';

/** The kinds of asset this node knows, as data: for consoles, for people who connect a device, for WoT tools. */
const KIND_SCHEMA = {
  type: 'object',
  required: [
    'kind',
    'version',
    'title',
    'description',
    'openMetrics',
    'metrics',
    'windows',
    'formats',
    'rules',
    'thing',
  ],
  properties: {
    kind: TEXT,
    version: { type: 'integer' },
    title: TEXT,
    description: TEXT,
    openMetrics: { type: 'boolean', description: 'Metrics are learned from the messages.' },
    metrics: { type: 'object', description: 'Unit and physical range of each metric.' },
    windows: { type: 'object', description: 'Span and panes of each rolling window.' },
    formats: { type: 'array', items: { type: 'object' } },
    rules: { type: 'array', items: { type: 'object' } },
    silentAfterMs: { type: 'number' },
    scenarios: { type: 'object', description: 'Failure scenarios of its demo simulator.' },
    thing: { type: 'object', description: 'W3C WoT Thing Model.' },
  },
};

function kindView(kind: Kind): Record<string, unknown> {
  return {
    kind: kind.kind,
    version: kind.version,
    title: kind.title,
    description: kind.description,
    openMetrics: kind.openMetrics ?? false,
    metrics: kind.metrics,
    windows: kind.windows,
    formats: kind.formats.map(({ name, mqtt = [], kafka = [], http = [], example }) => ({
      name,
      mqtt: [...mqtt, `twins/${kind.kind}/{id}/telemetry`],
      kafka,
      http: [...http, '/api/v1/telemetry'],
      example,
    })),
    rules: kind.rules,
    silentAfterMs: kind.silentAfterMs,
    scenarios: kind.simulator?.scenarios ?? {},
    thing: thingModel(kind),
  };
}

const kinds: PartsSchema = {
  name: 'kinds',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/kinds',
      role: 'viewer',
      openapi: {
        summary: 'Kinds of asset',
        description:
          'What twins there can be: metrics with units and ranges, windows, rules, wire formats, and the W3C Thing Model.',
        tags: ['kinds'],
        response: listOf(KIND_SCHEMA),
      },
      handler() {
        return { items: this.parts.kinds.all().map(kindView), nextCursor: null };
      },
    },

    get: {
      rest: 'GET /api/v1/kinds/:kind',
      role: 'viewer',
      params: { kind: { type: 'string', max: 31, description: 'Name of the kind.', example: 'machine' } },
      openapi: {
        summary: 'One kind of asset',
        description: '`unknown_kind` where this node has none of the name.',
        tags: ['kinds'],
        response: KIND_SCHEMA,
      },
      handler(ctx: Context<{ kind: string }>) {
        return kindView(this.parts.kinds.get(ctx.params.kind));
      },
    },
  },
};

export default kinds;
