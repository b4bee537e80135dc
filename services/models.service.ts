import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import type { InferenceNode } from './inference/node.ts';
import { askInference } from './inference/reach.ts';
import { MODEL_ITEM, MODEL_LIST, type ModelItem, modelItem, strangers } from './models/model-item.ts';
import { cardsOf, listModels, promote, rollback, shadow, type Tried } from './models/register.ts';
import { type Trial, tryVersion } from './models/trial.ts';

/**
 * The register of models over HTTP: what versions there are, which one answers, and how that is changed. A version is tried by
 * the nodes that run models before it is to answer; the change is stored, then told to them. One that was not told finds it at
 * its next look.
 */
const ASK_MS = 1_500;
/** How long an answer waits for the nodes to have loaded what was changed. */
const REFRESH_MS = 5_000;
const UNTRIED = 'The register has changed all the same; GET /api/v1/models says what becomes of it.';
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
  nodes(): Promise<InferenceNode[]>;
  items(name: string): Promise<ModelItem[]>;
  change(
    name: string,
    version: string | null,
    work: (tried: Tried) => Promise<unknown>,
  ): Promise<Trial & { items: ModelItem[] }>;
  refusal(name: string, version: string | null, error: unknown): Promise<unknown>;
}

type Changing<P> = Context<{ name: string; reason?: string } & P, CallMeta>;
const ITEMS = { type: 'array', items: MODEL_ITEM };
const CHANGED = {
  type: 'object',
  required: ['items', 'checked', 'note'],
  properties: {
    items: ITEMS,
    checked: {
      type: 'boolean',
      description: 'Whether a node has loaded the version and asked it sample rows before the register was changed.',
    },
    note: { type: ['string', 'null'], description: 'Why it was not, or which nodes cannot load it.' },
  },
};
const TRIED =
  'First the nodes that run models load the version beside the live one and ask it sample rows: where none of them can, the answer is `bad_model` (422) with their reasons, and the register stays as it is; so it does (`unavailable`, 503) where the trial itself failed on all of them, and (`conflict`) where another change came first meanwhile. Where no such node is there, or none answers, it is changed with `checked: false`.';

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
        description: '`refused` names versions that nodes have found and not taken, with the reason.',
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
      openapi: {
        summary: 'One model: its versions with their cards',
        description:
          'A card says what the model is for, its inputs, how it was trained, its scores, and what it must not be used for.',
        tags: ['models'],
        response: { type: 'object', required: ['items'], properties: { items: ITEMS } },
      },
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
        description: `The one before is retired, and a rollback goes back to it. What it was asked it still answers. ${TRIED}`,
        tags: ['models'],
        bodyExample: { version: '1.1.0', reason: 'better on the cells left out' },
        response: CHANGED,
      },
      async handler(ctx: Changing<{ version: string }>) {
        const { name, version, reason = 'promoted' } = ctx.params;
        const change = { by: byOf(ctx), reason };
        return this.change(name, version, (tried) => promote(this.parts.sql, name, version, change, tried));
      },
    },

    shadow: {
      rest: 'POST /api/v1/models/:name/shadow',
      role: 'admin',
      params: { name: NAME, version: { ...VERSION, nullable: true } },
      openapi: {
        summary: 'Let a version run beside the live one, unseen',
        description: `What it would have said is compared (\`twinmesh_inference_shadow_difference\`) and goes nowhere else. Null: none does any more. ${TRIED}`,
        tags: ['models'],
        bodyExample: { version: '1.1.0' },
        response: CHANGED,
      },
      async handler(ctx: Changing<{ version: string | null }>) {
        const { name, version } = ctx.params;
        return this.change(name, version, (tried) => shadow(this.parts.sql, name, version, tried));
      },
    },

    rollback: {
      rest: 'POST /api/v1/models/:name/rollback',
      role: 'admin',
      params: { name: NAME, reason: REASON },
      openapi: {
        summary: 'Back to the version before the live one',
        description: TRIED,
        tags: ['models'],
        bodyExample: { reason: 'too many false alarms' },
        response: CHANGED,
      },
      async handler(ctx: Changing<unknown>) {
        const { name, reason = 'rolled back' } = ctx.params;
        const change = { by: byOf(ctx), reason };
        return this.change(name, null, (tried) => rollback(this.parts.sql, name, change, tried));
      },
    },
  },

  methods: {
    async nodes(): Promise<InferenceNode[]> {
      return (await askInference<InferenceNode>(this.broker, 'inference.status', {}, ASK_MS)).answers;
    },

    async items(name: string): Promise<ModelItem[]> {
      const [registered, nodes] = await Promise.all([listModels(this.parts.sql, name), this.nodes()]);
      return registered.map((model) => modelItem(model, nodes));
    },

    /** Lets the version be tried, tells the nodes, and answers how things are then: which have loaded it, which refuse. */
    async change(
      name: string,
      version: string | null,
      work: (tried: Tried) => Promise<unknown>,
    ): Promise<Trial & { items: ModelItem[] }> {
      // nothing to try: the shadow ends
      let trial: Trial = { checked: true, note: null };
      const tried: Tried = async (version) => {
        trial = await tryVersion(this.broker, version);
      };
      await work(tried).catch(async (error: unknown) => {
        throw await this.refusal(name, version, error);
      });
      void this.broker.broadcast('models.changed', { name });
      await askInference<void>(this.broker, 'inference.refresh', {}, REFRESH_MS);
      const { checked, note } = trial;
      return { items: await this.items(name), checked, note: checked ? note : `${note} ${UNTRIED}` };
    },

    /** A version that nodes have found and refused was never registered: the reason says more than that there is none. */
    async refusal(name: string, version: string | null, error: unknown): Promise<unknown> {
      if (!(error instanceof TwinmeshError && error.code === 'not_found') || version === null) return error;
      const refused = (await this.nodes()).flatMap(({ node, refused }) =>
        refused
          .filter((found) => found.name === name && found.version === version)
          .map(({ reason }) => `${node}: ${reason}`),
      );
      if (refused.length === 0) return error;
      return new TwinmeshError('bad_model', `${name}@${version} was found and refused: ${refused.join('; ')}`);
    },
  },
};

function byOf(ctx: { meta: CallMeta }): string {
  return ctx.meta.user?.name ?? 'inside';
}

export default models;
