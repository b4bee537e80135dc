import type { Readable } from 'node:stream';
import type { Context } from 'moleculer';
import type { Entry } from '../actors/protocol/entry.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { deadLetterFeed } from './dead-letters/feed.ts';
import { FILTER_PARAMS } from './dead-letters/filter-params.ts';
import type { LetterFilter } from './dead-letters/letters.ts';
import { DATA_DRIFT, type DriftTold, driftView } from './drift/message.ts';
import type { CallMeta } from './gateway/caller.ts';
import { SSE_HEADERS } from './gateway/sse.ts';
import { EVENT_TYPE } from './twins/event-type.ts';
import { type Aside, type EventSource, fleetStream, type Mark } from './twins/fleet-stream.ts';
import { RemoteTwins } from './twins/remote-twin.ts';
import { type StreamedHost, twinStream } from './twins/twin-stream.ts';

/**
 * What is followed live, server-sent: one twin, the events of the fleet, or dead letters. It runs where the reader is connected, so that
 * a reader that goes away ends here, and hears of other nodes through the mesh: their entries by lease (remote-twin.ts),
 * their events by marks (how far each shard has come), which it reads from the store.
 */
interface Streams {
  twins: StreamedHost;
  remote: RemoteTwins | undefined;
  source: EventSource;
  marked: Set<(marks: readonly Mark[]) => void>;
  aside: Set<(aside: Aside) => void>;
  letters: Set<() => void>;
}

const service: PartsSchema<Streams> = {
  name: 'streams',
  metadata: { role: 'gateway' },
  mixins: [partsMixin],

  actions: {
    /** `twins.get` asked for with Accept: text/event-stream. */
    twin: {
      visibility: 'public',
      params: { twinId: { type: 'string', max: 160 } },
      async handler(ctx: Context<{ twinId: string }, CallMeta>): Promise<Readable> {
        const { clock } = this.parts;
        const stream = await twinStream(this.twins, ctx.params.twinId, ctx.meta.request?.lastEventId, { clock });
        ctx.meta.$responseHeaders = { ...SSE_HEADERS };
        return stream;
      },
    },

    /** Entries of a twin that this node follows. */
    hear: {
      visibility: 'public',
      params: { twinId: { type: 'string', max: 160 }, entries: { type: 'array' } },
      handler(ctx: Context<{ twinId: string; entries: Entry[] }>) {
        this.remote?.hear(ctx.params.twinId, ctx.params.entries);
      },
    },

    fleet: {
      rest: 'GET /api/v1/stream',
      role: 'viewer',
      params: {
        kind: { type: 'string', max: 31, optional: true, description: 'Only twins of this kind.', example: 'machine' },
        type: {
          type: 'string',
          pattern: new RegExp(`^${EVENT_TYPE}(,${EVENT_TYPE}){0,20}$`),
          optional: true,
          description: 'Types, or the parts before their dots, separated by commas.',
          example: 'alert,anomaly.detected,data.drift',
        },
      },
      openapi: {
        summary: 'Events of the whole fleet, live',
        description:
          'Server-sent events. `Last-Event-ID` resumes without a gap; `event: reset` says that events have expired. `data.drift` (an input of a live model begins or ceases to drift) belongs to no twin: it has no id, and is not sent again after a resume.',
        tags: ['twins'],
        stream: 'sse',
      },
      async handler(ctx: Context<{ kind?: string; type?: string }, CallMeta>): Promise<Readable> {
        const { kind, type } = ctx.params;
        const { store, clock, kinds } = this.parts;
        if (kind !== undefined) kinds.get(kind);
        const filter = { kind, types: type?.split(',') };
        const stream = await fleetStream(this.source, store, filter, ctx.meta.request?.lastEventId, { clock });
        ctx.meta.$responseHeaders = { ...SSE_HEADERS };
        return stream;
      },
    },

    letters: {
      rest: 'GET /api/v1/dead-letters/stream',
      role: 'viewer',
      params: { ...FILTER_PARAMS },
      openapi: {
        summary: 'Dead letters as they come',
        description: 'Server-sent events `dead-letter`. `Last-Event-ID` goes on after that letter.',
        tags: ['dead letters'],
        stream: 'sse',
      },
      async handler(ctx: Context<LetterFilter, CallMeta>): Promise<Readable> {
        const { sql, clock } = this.parts;
        const onNews = (listener: () => void) => {
          this.letters.add(listener);
          return () => this.letters.delete(listener);
        };
        const { code, source, twinId } = ctx.params;
        const stream = await deadLetterFeed(sql, { code, source, twinId }, ctx.meta.request?.lastEventId, {
          clock,
          onNews,
        });
        ctx.meta.$responseHeaders = { ...SSE_HEADERS };
        return stream;
      },
    },
  },

  events: {
    /** Those of this node; letters of others are found by looking. */
    'dead-letters.stored'() {
      for (const listener of this.letters ?? []) listener();
    },
    /** Every node is told, and tells its own readers. */
    'drift.changed'(ctx: Context<DriftTold>) {
      const aside = { type: DATA_DRIFT, kind: ctx.params.kind, data: driftView(ctx.params) };
      for (const listener of this.aside ?? []) listener(aside);
    },
    'events.committed'(ctx: Context<{ marks: Mark[] }>) {
      if (ctx.nodeID === this.broker.nodeID && this.parts.hosts) return;
      for (const listener of this.marked) listener(ctx.params.marks);
    },
  },

  async started() {
    const { hosts, directory, clock, settings } = this.parts;
    this.marked = new Set();
    this.aside = new Set();
    this.letters = new Set();
    this.source = {
      onEvents: (listener) => (hosts ? this.parts.host.onEvents(listener) : () => {}),
      onMarks: (listener) => {
        this.marked.add(listener);
        return () => void this.marked.delete(listener);
      },
      onAsides: (listener) => {
        this.aside.add(listener);
        return () => void this.aside.delete(listener);
      },
    };
    if (directory === null) {
      this.twins = this.parts.host;
      return;
    }
    this.remote = new RemoteTwins({
      node: settings.nodeId,
      call: (action, params) => this.broker.call(action, params),
      clock,
      moved: (twinId, ms) => directory.change(directory.shardOf(twinId), ms),
    });
    this.twins = this.remote;
  },
};

export default service;
