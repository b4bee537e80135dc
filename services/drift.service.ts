import type { Context } from 'moleculer';
import type { TimerHandle } from '../actors/protocol/clock.ts';
import { isElected } from '../mixins/elected.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { driftReport, forgetCounts, judgeDrift, LEAST_HOURS } from './drift/report.ts';
import { listOf, MAYBE_TIME, TEXT } from './gateway/list-schema.ts';
import { DriftMetrics } from './metrics/drift.ts';

/**
 * Drift of the inputs of live models: shown, measured, and told where it begins and ends. The inference nodes count (drift/book.ts);
 * one of the history nodes judges.
 */
const EVERY_MS = 60_000;
const HOUR_MS = 3_600_000;
/** What is judged, and shown unless asked otherwise. */
const WINDOW_HOURS = 24;
const KEEP_HOURS = 24 * 31;

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
    worst: { ...NUMBER_OR_NONE, description: 'The largest index of its inputs.' },
    inputs: {
      type: 'array',
      items: {
        type: 'object',
        required: ['input', 'psi', 'drifting', 'missing', 'bins'],
        properties: {
          input: TEXT,
          psi: { ...NUMBER_OR_NONE, description: 'Population stability index; null where too little was seen.' },
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

interface Drift {
  timer: TimerHandle | undefined;
  stopped: boolean;
  metrics: DriftMetrics;
  judge(): Promise<void>;
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
      this.metrics.show(report);
      if (!isElected(this)) return;
      const changes = await judgeDrift(sql, report, settings.driftThreshold, nowMs);
      for (const change of changes) {
        const said = change.drifting ? 'an input of a model drifts' : 'an input of a model drifts no more';
        logger.warn({ part: 'drift', ...change }, said);
        void this.broker.broadcast('drift.changed', { ...change, at: nowMs });
        // to one node of each service that speaks to the outside
        void this.broker.emit('drift.told', { ...change, at: nowMs });
      }
      await forgetCounts(sql, nowMs - KEEP_HOURS * HOUR_MS);
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
    this.metrics = new DriftMetrics(this.parts.metrics.registry);
    this.next(EVERY_MS);
  },

  async stopped() {
    this.stopped = true;
    this.timer?.cancel();
  },
};

export default drift;
