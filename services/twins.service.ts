import type { Context } from 'moleculer';
import type { Command, Entry } from '../actors/protocol/entry.ts';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import type { Stale } from '../actors/protocol/view.ts';
import { instantOf } from '../actors/store/queries/span.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, PAGE_PARAMS } from './gateway/list-schema.ts';
import type { PastView } from './replay/time-travel.ts';
import { etagOf, headerOf, send, twinOfAlert } from './twins/commanding.ts';
import { entryView } from './twins/entry-view.ts';
import { EVENT_TYPE } from './twins/event-type.ts';
import { Leases } from './twins/leases.ts';
import { twinEvents } from './twins/twin-events.ts';
import { ENTRY_SCHEMA, EVENT_SCHEMA, RESULT_SCHEMA, TWIN_REF } from './twins/view-schema.ts';

/**
 * One twin: read it, follow it, command it. Commands go to the node that owns the twin, become journal entries and are
 * answered after their commit; this service only turns requests into calls of the host.
 */
interface Twins {
  leases: Leases;
  command(ctx: TwinContext<unknown>, twinId: string, command: Command): Promise<unknown>;
}

type TwinContext<Params> = Context<Params, CallMeta>;

const TWIN_ID = { type: 'string', max: 160, description: 'kind:id', example: 'machine:MACHINE_001' } as const;
const ALERT_ID = {
  type: 'string',
  max: 250,
  description: 'Id of the alert, as GET /api/v1/alerts lists it.',
  example: 'machine:MACHINE_001~overheating~42',
} as const;
const NOTE = { type: 'string', max: 1000, optional: true, description: 'Why, in a sentence.' } as const;
const TIME_RULES = [{ type: 'string', max: 40 }, { type: 'number' }];
const ELSEWHERE: ReadonlySet<string> = new Set(['not_owner', 'unavailable']);
const MAX_SILENCE_MS = 30 * 24 * 3_600_000;

const twins: PartsSchema<Twins> = {
  name: 'twins',
  metadata: { role: 'host' },
  mixins: [partsMixin],

  actions: {
    get: {
      rest: 'GET /api/v1/twins/:twinId',
      role: 'viewer',
      params: {
        twinId: TWIN_ID,
        at: {
          type: 'string',
          max: 40,
          optional: true,
          description:
            'The twin as it was at this time: what it had folded by then, by received time. `asOf` says how it was found.',
        },
      },
      openapi: {
        summary: 'One twin',
        description:
          'With `Accept: text/event-stream` it is followed live: first the twin, then every journal entry with its revision as id, and the twin again at most every second. `Last-Event-ID` resumes without a gap; `event: reset` says that the journal no longer reaches back.',
        tags: ['twins'],
        response: TWIN_REF,
        stream: 'sse',
        streamAction: 'streams.twin',
      },
      async handler(ctx: TwinContext<{ twinId: string; at?: string }>) {
        const { twinId, at } = ctx.params;
        const { host } = this.parts;
        // Any node that reads history can tell, also of a twin that has no owner now.
        if (at !== undefined) return ctx.call<PastView, object>('replay.at', { twinId, at: instantOf(at, 'at') });
        const view = ctx.meta.lastResort
          ? await host.last(twinId)
          : await host.get(twinId).catch((error) => {
              if (!(error instanceof TwinmeshError) || !ELSEWHERE.has(error.code)) throw error;
              // In a mesh the caller asks the owner, wherever that is now. Alone, or where no node could say more because the
              // store does not answer, old and marked so beats nothing.
              const alone = this.parts.directory === null || host.status().stale?.reason === 'store down';
              if (alone) return host.last(twinId);
              throw error;
            });
        // What makes a view stale is not in its revision (but for a silent device), so it may not be kept by it either.
        if (view.stale === null || view.stale.reason === 'device silent')
          ctx.meta.$responseHeaders = { ETag: etagOf(view), Vary: 'Accept' };
        return view;
      },
    },

    journal: {
      rest: 'GET /api/v1/twins/:twinId/journal',
      role: 'viewer',
      params: {
        twinId: TWIN_ID,
        after: {
          type: 'number',
          integer: true,
          min: 0,
          max: Number.MAX_SAFE_INTEGER,
          convert: true,
          default: 0,
          description: 'Entries behind this revision.',
        },
        limit: PAGE_PARAMS.limit,
      },
      openapi: {
        summary: 'Everything that changed a twin, oldest first',
        description: 'Go on with `after` = `nextCursor`. A page is short where the oldest entries have expired.',
        tags: ['twins'],
        response: listOf(ENTRY_SCHEMA),
      },
      async handler(ctx: TwinContext<{ twinId: string; after: number; limit: number }>) {
        const { twinId, after, limit } = ctx.params;
        const { host } = this.parts;
        const entries = await host.journal(twinId, after, limit);
        // Where the oldest have expired a page is short or empty, although there is more behind it.
        const { revision } = await host.get(twinId);
        const next = after + limit < revision ? String(after + limit) : null;
        return { items: entries.map(entryView), nextCursor: next };
      },
    },

    events: {
      rest: 'GET /api/v1/twins/:twinId/events',
      role: 'viewer',
      params: {
        twinId: TWIN_ID,
        type: {
          type: 'string',
          pattern: new RegExp(`^${EVENT_TYPE}$`),
          max: 40,
          optional: true,
          description: 'A type, or the part before its dot.',
          example: 'alert',
        },
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Events of a twin, newest first',
        description: 'In the order of its journal. Events expire with HISTORY_RETENTION_DAYS.',
        tags: ['twins'],
        response: listOf(EVENT_SCHEMA),
      },
      handler(ctx: TwinContext<{ twinId: string; type?: string; limit: number; cursor?: string }>) {
        const { twinId, ...filter } = ctx.params;
        return twinEvents(this.parts.sql, twinId, filter);
      },
    },

    desired: {
      rest: 'PATCH /api/v1/twins/:twinId/desired',
      role: 'operator',
      params: {
        twinId: TWIN_ID,
        patch: { type: 'object', description: 'JSON merge patch (RFC 7396): null removes a member.' },
      },
      openapi: {
        summary: 'Ask a twin to take other values',
        description: 'What differs from what it reports goes to the device over MQTT, retained.',
        tags: ['commands'],
        bodyParam: 'patch',
        bodyExample: { temperature: 60 },
        maxBodyBytes: 65_536,
        response: RESULT_SCHEMA,
      },
      handler(ctx: TwinContext<{ twinId: string; patch: Record<string, unknown> }>) {
        const { twinId, patch } = ctx.params;
        return this.command(ctx, twinId, { ...headerOf(ctx.meta), name: 'desired', patch });
      },
    },

    maintenance: {
      rest: 'POST /api/v1/twins/:twinId/maintenance',
      role: 'technician',
      params: {
        twinId: TWIN_ID,
        work: { type: 'string', min: 1, max: 1000, trim: true, description: 'What was done.' },
        at: { type: 'multi', rules: TIME_RULES, optional: true, description: 'When; default now.' },
        details: {
          type: 'record',
          key: { type: 'string', pattern: /^[A-Za-z][A-Za-z0-9_.-]{0,62}$/ },
          value: [{ type: 'string', max: 500 }, { type: 'number' }, { type: 'boolean' }],
          optional: true,
          description: 'Parts, hours, costs …',
        },
      },
      openapi: {
        summary: 'Record work that was done',
        description: 'Becomes an entry of the journal and the event `maintenance.recorded`.',
        tags: ['commands'],
        bodyExample: { work: 'bearing replaced', details: { part: '6204-2RS', hours: 1.5 } },
        maxBodyBytes: 65_536,
        response: RESULT_SCHEMA,
      },
      handler(
        ctx: TwinContext<{
          twinId: string;
          work: string;
          at?: string | number;
          details?: Record<string, string | number | boolean>;
        }>,
      ) {
        const { twinId, work, at, details } = ctx.params;
        const when = at === undefined ? this.parts.clock.now() : instantOf(at, 'at');
        return this.command(ctx, twinId, {
          ...headerOf(ctx.meta),
          name: 'maintenance',
          work,
          at: when,
          ...(details === undefined ? {} : { details }),
        });
      },
    },

    retire: {
      rest: 'DELETE /api/v1/twins/:twinId',
      role: 'operator',
      params: { twinId: TWIN_ID },
      openapi: {
        summary: 'Take a twin out of service',
        description: 'History stays, nothing new is accepted; PUT undoes it.',
        tags: ['commands'],
        response: RESULT_SCHEMA,
      },
      handler(ctx: TwinContext<{ twinId: string }>) {
        return this.command(ctx, ctx.params.twinId, { ...headerOf(ctx.meta), name: 'retire' });
      },
    },

    restore: {
      rest: 'PUT /api/v1/twins/:twinId',
      role: 'operator',
      params: { twinId: TWIN_ID },
      openapi: {
        summary: 'Put a retired twin back into service',
        description:
          'It accepts readings and commands again, with the state it had. A twin that is not retired answers `conflict`.',
        tags: ['commands'],
        response: RESULT_SCHEMA,
      },
      handler(ctx: TwinContext<{ twinId: string }>) {
        return this.command(ctx, ctx.params.twinId, { ...headerOf(ctx.meta), name: 'restore' });
      },
    },

    acknowledge: {
      rest: 'POST /api/v1/alerts/:id/acknowledge',
      role: 'technician',
      params: { id: ALERT_ID, note: NOTE },
      openapi: {
        summary: 'Acknowledge an alert: somebody is on it',
        description:
          'Of an alert that stands. It goes on to stand until the condition clears or it is resolved; escalation of notifications ends.',
        tags: ['alerts'],
        bodyExample: { note: 'on my way' },
        response: RESULT_SCHEMA,
      },
      handler(ctx: TwinContext<{ id: string; note?: string }>) {
        const { id, note } = ctx.params;
        const noted = note === undefined ? {} : { note };
        return this.command(ctx, twinOfAlert(id), { ...headerOf(ctx.meta), name: 'acknowledge', alert: id, ...noted });
      },
    },

    resolve: {
      rest: 'POST /api/v1/alerts/:id/resolve',
      role: 'technician',
      params: { id: ALERT_ID, note: NOTE },
      openapi: {
        summary: 'Resolve an alert',
        description:
          'Of an alert that stands: it ends now, whatever the values say. The rule raises another one when its condition begins anew and the cooldown is over.',
        tags: ['alerts'],
        bodyExample: { note: 'fan cleaned' },
        response: RESULT_SCHEMA,
      },
      handler(ctx: TwinContext<{ id: string; note?: string }>) {
        const { id, note } = ctx.params;
        const noted = note === undefined ? {} : { note };
        return this.command(ctx, twinOfAlert(id), { ...headerOf(ctx.meta), name: 'resolve', alert: id, ...noted });
      },
    },

    silence: {
      rest: 'POST /api/v1/alerts/:id/silence',
      role: 'technician',
      params: {
        id: ALERT_ID,
        until: { type: 'multi', rules: TIME_RULES, description: 'Until when; at most 30 days from now.' },
        note: NOTE,
      },
      openapi: {
        summary: 'Silence an alert for a while',
        description: 'Of an alert that stands. It stays raised; escalation of notifications waits until then.',
        tags: ['alerts'],
        bodyExample: { until: '2026-01-01T06:00:00Z', note: 'until the night shift ends' },
        response: RESULT_SCHEMA,
      },
      handler(ctx: TwinContext<{ id: string; until: string | number; note?: string }>) {
        const { id, note } = ctx.params;
        const untilMs = instantOf(ctx.params.until, 'until');
        const now = this.parts.clock.now();
        if (untilMs <= now || untilMs > now + MAX_SILENCE_MS)
          throw new TwinmeshError('bad_request', 'until: a time from now to 30 days from now.');
        const noted = note === undefined ? {} : { note };
        return this.command(ctx, twinOfAlert(id), {
          ...headerOf(ctx.meta),
          name: 'silence',
          alert: id,
          untilMs,
          ...noted,
        });
      },
    },

    /** Entries as they are, for streams of other nodes. */
    entries: {
      visibility: 'public',
      params: { twinId: TWIN_ID, after: { type: 'number' }, limit: { type: 'number', max: 1000 } },
      handler(ctx: TwinContext<{ twinId: string; after: number; limit: number }>): Promise<Entry[]> {
        return this.parts.host.journal(ctx.params.twinId, ctx.params.after, ctx.params.limit);
      },
    },

    /** Why telemetry does not move on this node; null when it does. */
    stale: {
      visibility: 'public',
      handler(): Stale | null {
        return this.parts.host.status().stale;
      },
    },

    /** A node wants the entries of a twin of ours as they commit, for a while. */
    watch: {
      visibility: 'public',
      params: { twinId: TWIN_ID, node: { type: 'string', max: 64 }, leaseMs: { type: 'number', max: 60_000 } },
      async handler(ctx: TwinContext<{ twinId: string; node: string; leaseMs: number }>) {
        const { twinId, node, leaseMs } = ctx.params;
        // Whoever does not own it says so here, and the caller finds the owner.
        const { revision } = await this.parts.host.get(twinId);
        if (!this.leases.grant(node, twinId, leaseMs))
          throw new TwinmeshError('overloaded', 'Too many twins of this node are followed.');
        return { revision };
      },
    },

    /** For other services; not over HTTP. `command` is complete, its idempotency key included. */
    command: {
      visibility: 'public',
      params: { twinId: TWIN_ID, command: { type: 'object' } },
      handler(ctx: TwinContext<{ twinId: string; command: Command }>) {
        return send(this.parts.host, ctx.params.twinId, ctx.params.command, undefined);
      },
    },
  },

  async started() {
    const { host, clock } = this.parts;
    this.leases = new Leases(host, clock, (node, twinId, entries) => {
      // One that goes astray is found by its gap.
      this.broker
        .call<unknown, object>('streams.hear', { twinId, entries }, { nodeID: node, timeout: 2_000 })
        .catch(() => undefined);
    });
  },

  async stopped() {
    this.leases?.close();
  },

  methods: {
    async command(ctx: TwinContext<unknown>, twinId: string, command: Command) {
      const result = await send(this.parts.host, twinId, command, ctx.meta.request?.ifMatch);
      ctx.meta.$responseHeaders = { ETag: etagOf(result.twin) };
      return result;
    },
  },
};

export default twins;
