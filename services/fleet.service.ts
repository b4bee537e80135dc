import type { Context } from 'moleculer';
import type { Stale } from '../actors/protocol/view.ts';
import { type Fleet, fleet } from '../actors/store/queries/fleet.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { TWIN_ITEM_SCHEMA } from './search/twin-item-schema.ts';

/** The whole fleet at a glance. Summaries are a second old, so counting again within that second would tell nothing new. */
const COUNT = { type: 'integer' };
const COUNTS = {
  total: COUNT,
  health: {
    type: 'object',
    required: ['ok', 'warning', 'critical', 'unknown'],
    additionalProperties: COUNT,
  },
  silent: { ...COUNT, description: 'Offline: said so by the device, or without a reading for the limit of its kind.' },
  stale: { ...COUNT, description: 'Silent, or nothing received for the limit of its kind.' },
  alerts: { ...COUNT, description: 'How many alerts stand.' },
};
const KEEP_MS = 1_000;
const MOST_WORST = 100;

interface Fleets {
  telemetry(): Promise<Stale | null>;
  look: { at: number; fleet: Promise<Fleet> } | undefined;
}

const service: PartsSchema<Fleets> = {
  name: 'fleet',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    get: {
      rest: 'GET /api/v1/fleet',
      role: 'viewer',
      params: {
        worst: {
          type: 'number',
          integer: true,
          min: 0,
          max: MOST_WORST,
          convert: true,
          default: 20,
          description: 'How many of the worst twins to show.',
        },
      },
      openapi: {
        summary: 'Counts by kind, health, silent and stale; worst first',
        description:
          'Out of the summaries of the twins, which may lag about a second behind; counted anew once a second at most.',
        tags: ['twins'],
        response: {
          type: 'object',
          required: ['total', 'retired', 'health', 'silent', 'stale', 'alerts', 'kinds', 'worst', 'telemetry'],
          properties: {
            ...COUNTS,
            retired: COUNT,
            kinds: { type: 'object', additionalProperties: { type: 'object', properties: COUNTS } },
            worst: { type: 'array', items: TWIN_ITEM_SCHEMA },
            telemetry: {
              type: ['object', 'null'],
              description: 'Why telemetry does not move on this node, since when, and the remedy; null when it does.',
            },
          },
        },
      },
      async handler(ctx: Context<{ worst: number }>): Promise<Fleet & { telemetry: Stale | null }> {
        const { sql, kinds, clock } = this.parts;
        const now = clock.monotonic();
        if (this.look === undefined || now - this.look.at >= KEEP_MS) {
          const look = { at: now, fleet: fleet(sql, kinds.all(), clock.now(), MOST_WORST) };
          this.look = look;
          look.fleet.catch(() => {
            if (this.look === look) this.look = undefined;
          });
        }
        const found = await this.look.fleet;
        return { ...found, worst: found.worst.slice(0, ctx.params.worst), telemetry: await this.telemetry() };
      },
    },
  },

  methods: {
    /** Of this node where it has a twin host, else of one that has. */
    async telemetry() {
      if (this.parts.hosts) return this.parts.host.status().stale;
      return this.broker
        .call<Stale | null, object>('twins.stale', {}, { timeout: 2_000 })
        .catch(() => noHost(this.parts.clock.now()));
    },
  },
};

function noHost(now: number): Stale {
  return {
    reason: 'not owner',
    since: new Date(now).toISOString(),
    remedy: 'No node with the role host answers: start one, or see npm run nodes.',
  };
}

export default service;
