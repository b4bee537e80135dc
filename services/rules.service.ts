import type { Context } from 'moleculer';
import type { TimerHandle } from '../actors/protocol/clock.ts';
import { SEVERITIES } from '../actors/protocol/entry.ts';
import { listRules, loadTuning, patchRule, type RulePatch } from '../actors/store/queries/tuning.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, MAYBE_TIME, TEXT } from './gateway/list-schema.ts';
import { KIND } from './history/span-params.ts';

/**
 * The rules in force: those of the kinds, as operators changed them. A change is stored, then told to the host of every
 * node; a node that missed the telling finds it at its next look.
 */
const LOOK_EVERY_MS = 30_000;

const RULE = {
  type: 'object',
  required: [
    'kind',
    'name',
    'metric',
    'hysteresis',
    'holdMs',
    'cooldownMs',
    'severity',
    'message',
    'enabled',
    'override',
  ],
  properties: {
    kind: TEXT,
    name: TEXT,
    metric: TEXT,
    above: { type: 'number', description: 'Raised when the value is above this (or `below`).' },
    below: { type: 'number' },
    hysteresis: { type: 'number', description: 'How far back inside the value has to come to clear it.' },
    holdMs: { type: 'number', description: 'How long the condition has to hold.' },
    cooldownMs: { type: 'number', description: 'How long the rule is quiet after clearing.' },
    severity: { type: 'string', enum: [...SEVERITIES] },
    message: TEXT,
    enabled: { type: 'boolean' },
    override: { type: 'object', description: 'What differs from the rule of the kind.' },
    updatedAt: MAYBE_TIME,
    updatedBy: { type: ['string', 'null'] },
  },
};

const NUMBER = (description: string) => ({ type: 'number', nullable: true, optional: true, description }) as const;

interface Rules {
  timer: TimerHandle | undefined;
  apply(): Promise<void>;
  look(): void;
}

const rules: PartsSchema<Rules> = {
  name: 'rules',
  metadata: { role: 'host' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/rules',
      role: 'viewer',
      params: { kind: { ...KIND, optional: true } },
      openapi: {
        summary: 'Rules in force',
        description: 'Those of the kinds, with what operators have changed of them; `override` is the difference.',
        tags: ['rules'],
        response: listOf(RULE),
      },
      async handler(ctx: Context<{ kind?: string }>) {
        const { kinds, sql } = this.parts;
        const { kind } = ctx.params;
        const items = await listRules(sql, kind === undefined ? kinds.all() : [kinds.get(kind)]);
        return { items, nextCursor: null };
      },
    },

    change: {
      rest: 'PATCH /api/v1/rules',
      role: 'operator',
      params: {
        kind: KIND,
        rule: { type: 'string', max: 64, description: 'Name of the rule.', example: 'overheating' },
        enabled: { type: 'boolean', nullable: true, optional: true, description: 'False: never raised.' },
        above: NUMBER('Limit, for a rule that has `above`.'),
        below: NUMBER('Limit, for a rule that has `below`.'),
        hysteresis: NUMBER('Unit of the metric, from 0.'),
        holdMs: NUMBER('Whole milliseconds.'),
        cooldownMs: NUMBER('Whole milliseconds.'),
        severity: {
          type: 'enum',
          values: [...SEVERITIES],
          nullable: true,
          optional: true,
          description: 'Of the alerts raised from now on.',
        },
      },
      openapi: {
        summary: 'Change a rule',
        description:
          'What is left out stays; null goes back to the rule of the kind. Each twin journals the change before its next reading.',
        tags: ['rules'],
        bodyExample: { kind: 'machine', rule: 'overheating', above: 85 },
        response: RULE,
      },
      async handler(ctx: Context<{ kind: string; rule: string } & RulePatch, CallMeta>) {
        const { kind, rule, ...patch } = ctx.params;
        const { kinds, sql } = this.parts;
        const item = await patchRule(sql, kinds.get(kind), rule, patch, ctx.meta.user?.name ?? 'inside');
        await this.apply();
        this.broker.broadcast('rules.changed', { kind });
        return item;
      },
    },
  },

  events: {
    async 'rules.changed'() {
      await this.apply();
    },
  },

  methods: {
    /** Brings the host to what is stored. A version that it has already passed is never brought back. */
    async apply() {
      const { sql, kinds, host, settings } = this.parts;
      for (const [kind, tuning] of await loadTuning(sql, kinds.all(), settings.latenessMs)) {
        if (tuning.version > host.tuning(kind).version) host.setTuning(kind, tuning);
      }
    },

    look() {
      this.timer = this.parts.clock.after(LOOK_EVERY_MS, () => {
        this.apply()
          .catch((error: unknown) => this.parts.logger.warn({ err: error }, 'the rules could not be read'))
          .finally(() => {
            if (this.timer) this.look();
          });
      });
    },
  },

  async started() {
    await this.apply();
    this.look();
  },

  async stopped() {
    this.timer?.cancel();
    this.timer = undefined;
  },
};

export default rules;
