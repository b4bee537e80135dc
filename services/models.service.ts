import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import type { InferenceNode } from './inference/node.ts';
import { MODEL_ITEM, MODEL_LIST, type ModelItem, modelItem, strangers } from './models/model-item.ts';
import { cardsOf, listModels, promote, rollback, shadow } from './models/register.ts';

/**
 * The register of models over HTTP: what versions there are, which one answers, and how that is changed. A change is stored,
 * then told to the nodes that run models; one that was not told finds it at its next look.
 */
const ASK_MS = 1_500;
/** How long an answer waits for the nodes to have loaded what was changed. */
const REFRESH_MS = 5_000;
const NAME = {
  type: 'string',
  pattern: /^[a-z][a-z0-9-]{0,47}$/,
  description: 'Name of the model, as GET /api/v1/models lists it.',
  example: 'machine-anomaly',
} as const;
const VERSION = {
  type: 'string',
  pattern: /^\d{1,6}\.\d{1,6}\.\d{1,6}$/,
  description: 'Version, as GET /api/v1/models lists it.',
  example: '1.0.0',
} as const;
const REASON = {
  type: 'string',
  trim: true,
  min: 1,
  max: 500,
  optional: true,
  description: 'Why, in a sentence.',
} as const;

interface Models {
  askNodes<T>(action: string, timeout: number): Promise<T[]>;
  nodes(): Promise<InferenceNode[]>;
  items(name: string): Promise<ModelItem[]>;
  changed(name: string): Promise<ModelItem[]>;
}

type Changing<P> = Context<{ name: string; reason?: string } & P, CallMeta>;
const CHANGED = { type: 'object', required: ['items'], properties: { items: { type: 'array', items: MODEL_ITEM } } };

const models: PartsSchema<Models> = {
  name: 'models',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/models',
      role: 'viewer',
      openapi: {
        summary: 'Models: versions, status, scores, what is loaded where, what was refused and why',
        tags: ['models'],
        response: MODEL_LIST,
      },
      async handler() {
        const [registered, nodes] = await Promise.all([listModels(this.parts.sql), this.nodes()]);
        const { breaker, down } = this.parts.predictor.status();
        return {
          items: registered.map((model) => modelItem(model, nodes)),
          nextCursor: null,
          refused: strangers(registered, nodes),
          inference: { nodes: nodes.map(({ node }) => node), breaker, down },
        };
      },
    },

    get: {
      rest: 'GET /api/v1/models/:name',
      role: 'viewer',
      params: { name: NAME },
      openapi: { summary: 'One model: its versions with their cards', tags: ['models'], response: CHANGED },
      async handler(ctx: Context<{ name: string }>) {
        const { name } = ctx.params;
        const [items, cards] = await Promise.all([this.items(name), cardsOf(this.parts.sql, name)]);
        if (items.length === 0) throw new TwinmeshError('not_found', `There is no model ${name}.`);
        return { items: items.map((item) => ({ ...item, card: cards.get(item.version) })) };
      },
    },

    promote: {
      rest: 'POST /api/v1/models/:name/promote',
      role: 'admin',
      params: { name: NAME, version: VERSION, reason: REASON },
      openapi: {
        summary: 'Put a version live',
        description: 'The one before is retired, and a rollback goes back to it. What it was asked it still answers.',
        tags: ['models'],
        bodyExample: { version: '1.1.0', reason: 'better on the cells left out' },
        response: CHANGED,
      },
      async handler(ctx: Changing<{ version: string }>) {
        const { name, version, reason = 'promoted' } = ctx.params;
        await promote(this.parts.sql, name, version, { by: byOf(ctx), reason });
        return { items: await this.changed(name) };
      },
    },

    shadow: {
      rest: 'POST /api/v1/models/:name/shadow',
      role: 'admin',
      params: { name: NAME, version: { ...VERSION, nullable: true } },
      openapi: {
        summary: 'Let a version run beside the live one, unseen',
        description:
          'What it would have said is compared (`twinmesh_inference_shadow_difference`) and goes nowhere else. Null: none does any more.',
        tags: ['models'],
        bodyExample: { version: '1.1.0' },
        response: CHANGED,
      },
      async handler(ctx: Changing<{ version: string | null }>) {
        const { name, version } = ctx.params;
        await shadow(this.parts.sql, name, version);
        return { items: await this.changed(name) };
      },
    },

    rollback: {
      rest: 'POST /api/v1/models/:name/rollback',
      role: 'admin',
      params: { name: NAME, reason: REASON },
      openapi: {
        summary: 'Back to the version before the live one',
        tags: ['models'],
        bodyExample: { reason: 'too many false alarms' },
        response: CHANGED,
      },
      async handler(ctx: Changing<unknown>) {
        const { name, reason = 'rolled back' } = ctx.params;
        await rollback(this.parts.sql, name, { by: byOf(ctx), reason });
        return { items: await this.changed(name) };
      },
    },
  },

  methods: {
    /** Asks every node that runs models; one that does not answer is left out. */
    async askNodes<T>(action: string, timeout: number): Promise<T[]> {
      const known = this.broker.registry.getNodeList({ onlyAvailable: true, withServices: true }) as unknown as {
        id: string;
        services?: { name: string }[];
      }[];
      const asked = known
        .filter(({ services }) => services?.some(({ name }) => name === 'inference'))
        .map(({ id }) => this.broker.call<T, object>(action, {}, { nodeID: id, timeout }).catch(() => null));
      return (await Promise.all(asked)).filter((answer) => answer !== null) as T[];
    },

    nodes(): Promise<InferenceNode[]> {
      return this.askNodes<InferenceNode>('inference.status', ASK_MS);
    },

    async items(name: string): Promise<ModelItem[]> {
      const [registered, nodes] = await Promise.all([listModels(this.parts.sql, name), this.nodes()]);
      return registered.map((model) => modelItem(model, nodes));
    },

    /** Tells the nodes, and answers how things are then: which of them have loaded it, and which refuse. */
    async changed(name: string): Promise<ModelItem[]> {
      void this.broker.broadcast('models.changed', { name });
      await this.askNodes<void>('inference.refresh', REFRESH_MS);
      return this.items(name);
    },
  },
};

function byOf(ctx: { meta: CallMeta }): string {
  return ctx.meta.user?.name ?? 'inside';
}

export default models;
