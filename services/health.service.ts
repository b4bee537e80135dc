import type { Context } from 'moleculer';
import { messageOf } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import { probe, type Readiness } from './health/readiness.ts';

/** Whether the process lives, whether it can serve, how it is doing, and what Prometheus wants to know. */
const CHECKS = {
  type: 'object',
  required: ['ready', 'checks'],
  properties: {
    ready: { type: 'boolean' },
    checks: {
      type: 'object',
      additionalProperties: {
        type: 'object',
        required: ['ok'],
        properties: {
          ok: { type: 'boolean' },
          reason: { type: 'string' },
          since: { type: 'string', format: 'date-time', description: 'Since when, where that is known.' },
          remedy: { type: 'string', description: 'What to do about it.' },
        },
      },
    },
  },
};

/** A service of each role, by which a gateway knows that a node of it is there. */
const FRONTED = { host: 'twins', ingest: 'ingest', history: 'search' };

const health: PartsSchema<{ startedAt: number; readiness(): Promise<Readiness>; missing(): string[] }> = {
  name: 'health',
  mixins: [partsMixin],

  actions: {
    live: {
      rest: 'GET /health/live',
      role: 'public',
      openapi: {
        summary: 'Whether the process lives',
        description: 'Asks nothing of anybody: for the probe that restarts a process that hangs.',
        tags: ['health'],
        envelope: false,
        response: { type: 'object', required: ['live'], properties: { live: { const: true } } },
      },
      handler: () => ({ live: true }),
    },

    ready: {
      rest: 'GET /health/ready',
      role: 'public',
      openapi: {
        summary: 'Whether it can serve: 503 when not',
        description: 'For load balancers. Names each check that fails; models that are away are never a reason.',
        tags: ['health'],
        envelope: false,
        response: CHECKS,
      },
      async handler(ctx: Context<unknown, CallMeta>) {
        const readiness = await this.readiness();
        if (!readiness.ready) {
          ctx.meta.$statusCode = 503;
          ctx.meta.$responseHeaders = { 'Retry-After': '1' };
        }
        return readiness;
      },
    },

    status: {
      rest: 'GET /api/v1/health',
      role: 'viewer',
      openapi: {
        summary: 'How this node is doing',
        description:
          'Of the node that answers: its roles, what it hosts, how it asks models, and the checks of `/health/ready`.',
        tags: ['health'],
        response: {
          type: 'object',
          required: ['ready', 'checks', 'node', 'uptimeMs', 'host', 'inference'],
          properties: {
            ...CHECKS.properties,
            node: { type: 'string' },
            uptimeMs: { type: 'number' },
            roles: { type: 'array', items: { type: 'string' } },
            host: {
              type: ['object', 'null'],
              description:
                'State of the twin host: shards, resident twins, counters, stale; null where the node has none.',
            },
            inference: {
              type: 'object',
              description:
                'How this node asks models: breaker, questions, failures by code, and `down` with reason and since. Never a reason not to be ready.',
            },
          },
        },
      },
      async handler() {
        const { settings, hosts, clock } = this.parts;
        return {
          ...(await this.readiness()),
          node: settings.nodeId,
          uptimeMs: Math.round(clock.monotonic() - this.startedAt),
          roles: settings.roles,
          host: hosts ? this.parts.host.status() : null,
          inference: this.parts.predictor.status(),
        };
      },
    },

    metrics: {
      rest: 'GET /metrics',
      role: 'metrics',
      openapi: {
        summary: 'Metrics for Prometheus',
        description: 'Open to this machine, and to METRICS_TOKEN from elsewhere.',
        tags: ['health'],
        envelope: false,
        response: { type: 'string' },
      },
      async handler(ctx: Context<unknown, CallMeta>) {
        ctx.meta.$responseType = this.parts.metrics.contentType;
        return this.parts.metrics.text();
      },
    },
  },

  methods: {
    /** What a gateway fronts and no node runs, as far as this one knows. */
    missing(): string[] {
      if (!this.parts.settings.roles.includes('gateway')) return [];
      const services = this.broker.registry.getServiceList({ onlyAvailable: true }) as { name: string }[];
      const known = new Set(services.map(({ name }) => name));
      return Object.entries(FRONTED).flatMap(([role, service]) => (known.has(service) ? [] : [role]));
    },

    readiness(): Promise<Readiness> {
      const { store, hosts, clock } = this.parts;
      return probe({
        clock,
        store: () => store.ping(),
        host: hosts ? () => this.parts.host.status() : undefined,
        missing: this.parts.directory === null ? undefined : () => this.missing(),
        onFault: (check, error) => this.logger.debug(`Not ready: ${check}: ${messageOf(error)}`),
      });
    },
  },

  async started() {
    this.startedAt = this.parts.clock.monotonic();
  },
};

export default health;
