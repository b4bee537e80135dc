import type { Context } from 'moleculer';
import type { TimerHandle } from '../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { isElected } from '../mixins/elected.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { DriftTold } from './drift/message.ts';
import { type DriftSink, forgetTold, passOn } from './drift/outbox.ts';
import { driftReport, forgetCounts, judgeDrift, LEAST_HOURS } from './drift/report.ts';
import { listOf, MAYBE_TIME, TEXT } from './gateway/list-schema.ts';
import { DriftMetrics } from './metrics/drift.ts';
import { mustBeRegistered } from './models/registered-name.ts';

/**
 * Drift of the inputs of live models: shown, measured, and told where it begins and ends. The inference nodes count (drift/book.ts);
 * one of the history nodes judges, and passes on what nobody has taken yet, whoever judged it.
 */
const EVERY_MS = 60_000;
const HOUR_MS = 3_600_000;
/** What is judged, and shown unless asked otherwise. */
const WINDOW_HOURS = 24;
const KEEP_HOURS = 24 * 31;
/** For one sink to take one change. */
const TAKEN_WITHIN_MS = 30_000;

const NUMBER_OR_NONE = { type: ['number', 'null'] };
const ITEM = {
  type: 'object',
  required: ['model', 'version', 'kind', 'rows', 'hours', 'worst', 'inputs'],
  properties: {
    model: TEXT,
    version: TEXT,
    kind: TEXT,
    rows: { type: 'integer', description: 'Rows that were looked at.' },
    hours: { type: 'integer', description: `Hours that had some; drift is judged from ${LEAST_HOURS} on.` },
    assets: { type: 'integer', description: 'Twins of the kind that spoke in that time, 10,000 at most.' },
    worst: { ...NUMBER_OR_NONE, description: 'The largest index of its inputs.' },
    inputs: {
      type: 'array',
      items: {
        type: 'object',
        required: ['input', 'psi', 'drifting', 'missing', 'bins'],
        properties: {
          input: TEXT,
          psi: { ...NUMBER_OR_NONE, description: 'Population stability index; null where too little was seen.' },
          chance: {
            type: 'number',
            description:
              'What the index reaches by chance in a fleet of so few assets: it drifts above `threshold` + `chance`.',
          },
          drifting: { type: 'boolean' },
          since: MAYBE_TIME,
          missing: { type: 'number', description: 'Share of rows without a value.' },
          bins: {
            type: 'array',
            items: {
              type: 'object',
              required: ['from', 'expected', 'observed'],
              properties: {
                from: NUMBER_OR_NONE,
                expected: { type: 'number', description: 'Share in training.' },
                observed: { type: 'number' },
              },
            },
          },
        },
      },
    },
  },
};

/** Nodes that offer an action, as Moleculer lists them. */
interface Offered {
  endpoints: { id: string; state: boolean }[];
}

interface Drift {
  timer: TimerHandle | undefined;
  stopped: boolean;
  metrics: DriftMetrics;
  /** One round of telling after the other. */
  telling: Promise<void>;
  /** Sinks that took nothing in the last round. */
  failing: Set<DriftSink>;
  turn: number;
  judge(): Promise<void>;
  tellWaiting(): Promise<void>;
  tell(sink: DriftSink, told: DriftTold): Promise<void>;
  next(afterMs: number): void;
}

const drift: PartsSchema<Drift> = {
  name: 'drift',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/drift',
      role: 'viewer',
      params: {
        kind: { type: 'string', max: 31, optional: true, description: 'Only models of this kind.', example: 'machine' },
        model: { type: 'string', max: 48, optional: true, description: 'Only this model.', example: 'machine-anomaly' },
        hours: {
          type: 'number',
          integer: true,
          min: 1,
          max: 24 * 7,
          convert: true,
          default: WINDOW_HOURS,
          description: 'How far back.',
        },
      },
      openapi: {
        summary: 'Drift of what live models are asked, against their training, the worst first',
        description: 'Population stability index by input: below 0.1 none, 0.1 to 0.25 some, above much.',
        tags: ['models'],
        response: {
          ...listOf(ITEM),
          properties: { ...(listOf(ITEM).properties as object), threshold: { type: 'number' } },
        },
      },
      async handler(ctx: Context<{ kind?: string; model?: string; hours: number }>) {
        const { sql, clock, settings } = this.parts;
        const { kind, model, hours } = ctx.params;
        if (kind !== undefined) this.parts.kinds.get(kind);
        if (model !== undefined) await mustBeRegistered(sql, model);
        const report = await driftReport(sql, clock.now() - hours * HOUR_MS);
        const items = report.filter(
          (each) => (kind === undefined || each.kind === kind) && (model === undefined || each.model === model),
        );
        return { items, nextCursor: null, threshold: settings.driftThreshold };
      },
    },

    /** Judges now. Not over HTTP. */
    run: {
      visibility: 'public',
      handler() {
        return this.judge();
      },
    },
  },

  methods: {
    async judge() {
      const { sql, clock, settings, logger } = this.parts;
      const nowMs = clock.now();
      const report = await driftReport(sql, nowMs - WINDOW_HOURS * HOUR_MS);
      this.metrics.show(report, settings.driftThreshold);
      if (!isElected(this)) return;
      const changes = await judgeDrift(sql, report, settings.driftThreshold, nowMs);
      for (const change of changes) {
        const said = change.drifting ? 'an input of a model drifts' : 'an input of a model drifts no more';
        logger.warn({ part: 'drift', ...change }, said);
      }
      this.telling = this.telling
        .then(() => this.tellWaiting())
        .catch((err: unknown) => {
          if (!this.stopped) logger.warn({ part: 'drift', err }, 'what drifts could not be told; tried again');
        });
      await this.telling;
      const beforeMs = nowMs - KEEP_HOURS * HOUR_MS;
      const untold = await forgetTold(sql, beforeMs);
      if (untold > 0)
        logger.warn({ part: 'drift', untold }, 'changes of drift were given up: somebody never took them');
      await forgetCounts(sql, beforeMs);
    },

    async tellWaiting() {
      const { sql, logger } = this.parts;
      const failed = await passOn(sql, (sink, told) => this.tell(sink, told));
      for (const [sink, error] of failed)
        if (!this.failing.has(sink) && !this.stopped)
          logger.warn(
            { part: 'drift', sink, reason: messageOf(error) },
            'that a model drifts was not taken; tried again',
          );
      for (const sink of this.failing)
        if (!failed.has(sink)) logger.info({ part: 'drift', sink }, 'what drifts is taken again');
      this.failing = new Set(failed.keys());
    },

    /** Resolves when it was taken, or nobody is there who would. */
    async tell(sink: DriftSink, told: DriftTold) {
      if (this.stopped) throw new TwinmeshError('unavailable', 'The node is stopping.');
      if (sink === 'live') return this.broker.broadcast('drift.changed', told);
      const meshed = this.parts.settings.natsUrl !== null;
      const action =
        sink === 'notify' ? 'notifiers.drift' : sink === 'mqtt' && !meshed ? 'ingest.drift' : 'events.drift';
      const offered = this.broker.registry.getActionEndpoints(action) as unknown as Offered | null;
      const nodes = (offered?.endpoints ?? []).filter(({ state }) => state).map(({ id }) => id);
      if (nodes.length === 0) throw new TwinmeshError('unavailable', `No node is there that has ${action}.`);
      // another one first each time: one that fails does not stand in the way of the others for ever
      const first = this.turn++;
      for (let i = 0; i < nodes.length; i++) {
        const nodeID = nodes[(first + i) % nodes.length];
        if (await this.broker.call(action, { to: sink, told }, { nodeID, timeout: TAKEN_WITHIN_MS })) return;
      }
    },

    next(afterMs: number) {
      this.timer = this.parts.clock.after(afterMs, () => {
        this.judge()
          .catch((err: unknown) => {
            if (!this.stopped) this.parts.logger.warn({ part: 'drift', err }, 'drift could not be judged; tried again');
          })
          .finally(() => {
            if (!this.stopped) this.next(EVERY_MS);
          });
      });
    },
  },

  async started() {
    this.stopped = false;
    this.telling = Promise.resolve();
    this.failing = new Set();
    this.turn = 0;
    this.metrics = new DriftMetrics(this.parts.metrics.registry);
    this.next(EVERY_MS);
  },

  async stopped() {
    this.stopped = true;
    this.timer?.cancel();
  },
};

export default drift;
