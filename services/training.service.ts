import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Cron } from 'croner';
import type { Context } from 'moleculer';
import type { TimerHandle } from '../actors/protocol/clock.ts';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { Mlflow } from '../mixins/mlflow.ts';
import type { ObjectStore } from '../mixins/object-store.ts';
import { openObjects } from '../mixins/objects.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { whyNoPython } from '../models/training/python.ts';
import { trainableModels } from '../models/training/training.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, MAYBE_TIME, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { listModels, TRAINED } from './models/register.ts';
import { tryVersion } from './models/trial.ts';
import { AbleNodes } from './training/able-nodes.ts';
import { fetchVersion } from './training/artifacts.ts';
import { Burial } from './training/burial.ts';
import { settle } from './training/mlflow-outbox.ts';
import {
  buryOwn,
  cancelJob,
  claimJob,
  enqueue,
  giveUpWaiting,
  isWaiting,
  type Job,
  type JobStatus,
  jobOf,
  listJobs,
  tellWaiting,
} from './training/queue.ts';
import { cronOf } from './training/schedule.ts';
import { trainCandidate } from './training/training-run.ts';
import { workOn } from './training/work.ts';

/**
 * Training as jobs: asked for over HTTP, by schedule or by drift; done by one of the inference nodes that can (able-nodes.ts), one at
 * a time on each; its result is a candidate, which goes live only when somebody says so or MODEL_PROMOTION does.
 */
const LOOK_MS = 2_000;
const HOUSEKEEPING_MS = 15_000;
const DRIFT_PAUSE_H = 24;
const ASK_MS = 5_000;
/** So long a job waits for a node that can train and is away, as one is that restarts. */
const ABLE_PATIENCE_MS = 120_000;
const BUILT_IN = fileURLToPath(new URL('../models/', import.meta.url));
const TRAINING = 'training';

const JOB = {
  type: 'object',
  required: ['id', 'type', 'name', 'status', 'progress', 'createdAt'],
  properties: {
    id: TEXT,
    type: TEXT,
    name: { ...TEXT, description: 'The model.' },
    status: { type: 'string', enum: ['queued', 'running', 'done', 'failed', 'cancelled'] },
    progress: { type: 'number', description: '0 to 1.' },
    message: { type: ['string', 'null'] },
    params: { type: 'object' },
    result: { type: ['object', 'null'], description: 'Version, scores, comparison with the live version, promoted.' },
    createdAt: TIME,
    createdBy: { type: ['string', 'null'] },
    startedAt: MAYBE_TIME,
    finishedAt: MAYBE_TIME,
    node: { type: ['string', 'null'] },
  },
};
const ID = { type: 'string', pattern: /^[0-9a-f-]{36}$/, description: 'Id of the job.' } as const;

interface Training {
  stopped: boolean;
  timers: TimerHandle[];
  cron: Cron | undefined;
  roots: string[];
  objects: ObjectStore | null;
  mlflow: Mlflow | null;
  able: AbleNodes;
  burial: Burial;
  running: { id: string; abort: AbortController; done: Promise<void> } | null;
  every(ms: number, work: () => Promise<void>): void;
  look(): Promise<void>;
  leaveToOthers(why: string): Promise<void>;
  othersWhy(): Promise<(string | null)[]>;
  lookSoon(): void;
  housekeeping(): Promise<void>;
  work(job: Job, abort: AbortController): Promise<void>;
  bury(): Promise<void>;
  ask(name: string, by: string, params: Record<string, unknown>): Promise<Job>;
}

const training: PartsSchema<Training> = {
  name: 'training',
  metadata: { role: 'inference' },
  mixins: [partsMixin],

  actions: {
    train: {
      rest: 'POST /api/v1/models/:name/train',
      role: 'admin',
      params: {
        name: {
          type: 'string',
          pattern: /^[a-z][a-z0-9-]{0,47}$/,
          description: 'Name of the model.',
          example: 'machine-anomaly',
        },
        promote: {
          type: 'boolean',
          optional: true,
          description: 'Put it live where it beats the live version. Default: as MODEL_PROMOTION says.',
        },
      },
      openapi: {
        summary: 'Train a model anew, as a job',
        description: 'Answers the job that waits or runs already, where there is one. The result is a candidate.',
        tags: ['models'],
        bodyExample: {},
        response: JOB,
      },
      handler(ctx: Context<{ name: string; promote?: boolean }, CallMeta>) {
        const { name, promote: wanted } = ctx.params;
        return this.ask(name, ctx.meta.user?.name ?? 'inside', wanted === undefined ? {} : { promote: wanted });
      },
    },

    jobs: {
      rest: 'GET /api/v1/jobs',
      role: 'viewer',
      params: {
        status: {
          type: 'enum',
          values: ['queued', 'running', 'done', 'failed', 'cancelled'],
          optional: true,
          description: 'Only these.',
        },
        name: { type: 'string', max: 48, optional: true, description: 'Only of this model.' },
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Jobs, newest first',
        description: 'Of all nodes: trainings that wait, run, or have ended.',
        tags: ['models'],
        response: listOf(JOB),
      },
      handler(ctx: Context<{ status?: JobStatus; name?: string; limit: number; cursor?: string }>) {
        return listJobs(this.parts.sql, ctx.params);
      },
    },

    job: {
      rest: 'GET /api/v1/jobs/:id',
      role: 'viewer',
      params: { id: ID },
      openapi: {
        summary: 'One job: how far it is, how it ended',
        description: 'A training that is done names the version it made, and how it does beside the live one.',
        tags: ['models'],
        response: JOB,
      },
      handler(ctx: Context<{ id: string }>) {
        return jobOf(this.parts.sql, ctx.params.id);
      },
    },

    /** Why this node cannot train; null where it can. Asked by the others. */
    why: {
      visibility: 'public',
      handler() {
        return this.able.why();
      },
    },

    cancel: {
      rest: 'DELETE /api/v1/jobs/:id',
      role: 'admin',
      params: { id: ID },
      openapi: {
        summary: 'Cancel a job',
        description: 'One that waits never begins; one that runs is broken off. One that has ended answers `conflict`.',
        tags: ['models'],
        response: JOB,
      },
      async handler(ctx: Context<{ id: string }, CallMeta>) {
        const job = await cancelJob(this.parts.sql, ctx.params.id, ctx.meta.user?.name ?? 'inside');
        if (this.running?.id === job.id) this.running.abort.abort();
        return job;
      },
    },
  },

  events: {
    async 'drift.changed'(ctx: Context<{ model: string; input: string; drifting: boolean }>) {
      const { settings, sql, logger } = this.parts;
      const { model, input, drifting } = ctx.params;
      if (!drifting || settings.trainingOnDrift !== 'on' || !trainableModels().includes(model)) return;
      const recent = await sql.query(
        `select from jobs where type = $1 and name = $2 and created_at > now() - make_interval(hours => ${DRIFT_PAUSE_H}) limit 1`,
        [TRAINING, model],
      );
      if (recent.length > 0) return;
      await this.ask(model, `drift of ${input}`, {});
      logger.info({ part: 'training', model, input }, 'training was asked for by drift');
    },
  },

  methods: {
    async ask(name: string, by: string, params: Record<string, unknown>) {
      const known = trainableModels();
      if (!known.includes(name))
        throw new TwinmeshError('not_found', `There is no trainer of ${name}; there is ${known.join(', ')}.`);
      const job = await enqueue(this.parts.sql, { type: TRAINING, name, params, by });
      this.lookSoon();
      return job;
    },

    async look() {
      const { sql, settings } = this.parts;
      if (this.stopped || this.running !== null) return;
      if (!(await isWaiting(sql, TRAINING))) return this.able.nothingWaits();
      const why = await this.able.why();
      if (why !== null) return this.leaveToOthers(why);
      if (this.stopped || this.running !== null) return;
      const abort = new AbortController();
      const running = { id: '', abort, done: Promise.resolve() };
      this.running = running;
      let found = false;
      // with the claim: a node that stops during it waits for what it has taken to be given up
      running.done = (async () => {
        const job = await claimJob(sql, TRAINING, settings.nodeId);
        if (job === null) return;
        found = true;
        running.id = job.id;
        await this.work(job, abort);
      })();
      try {
        await running.done;
      } finally {
        this.running = null;
      }
      if (!found) return;
      this.lookSoon();
    },

    async leaveToOthers(why: string) {
      const { sql, logger } = this.parts;
      const judgement = await this.able.judge();
      if (this.stopped || judgement === 'wait') return;
      const message = `No node that is here can train; ${this.broker.nodeID}: ${why}`;
      if (judgement === 'nobody') return tellWaiting(sql, TRAINING, `It waits for a node that can train. ${message}`);
      for (const job of await giveUpWaiting(sql, TRAINING, message))
        logger.warn({ part: 'training', job: job.id, model: job.name, reason: why }, 'no node can train');
    },

    async othersWhy() {
      const known = this.broker.registry.getServiceList({ onlyAvailable: true }) as { name: string; nodeID: string }[];
      const others = known.filter(({ name, nodeID }) => name === TRAINING && nodeID !== this.broker.nodeID);
      return Promise.all(
        others.map(({ nodeID }) =>
          this.broker.call<string | null, object>('training.why', {}, { nodeID, timeout: ASK_MS }).catch(() => null),
        ),
      );
    },

    lookSoon() {
      this.look().catch((err: unknown) => {
        if (!this.stopped) this.parts.logger.warn({ part: 'training', err }, 'jobs could not be looked at');
      });
    },

    work(job: Job, abort: AbortController) {
      const { sql, clock, settings, logger } = this.parts;
      const { roots, objects } = this;
      return workOn({
        sql,
        clock,
        logger: logger.child({ part: 'training', job: job.id, model: job.name }),
        node: settings.nodeId,
        job,
        abort,
        promotesBetter: settings.modelPromotion === 'better',
        toMlflow: this.mlflow !== null,
        train: (how) => trainCandidate({ ...how, model: job.name, python: settings.trainingPython, roots, objects }),
        tried: (version) => tryVersion(this.broker, version),
        onChanged: () => void this.broker.broadcast('models.changed', { name: job.name }),
      });
    },

    async bury() {
      for (const job of await this.burial.look(this.parts.sql))
        this.parts.logger.warn({ part: 'training', job: job.id, model: job.name }, 'the node of a job has died');
    },

    async housekeeping() {
      const { sql, clock, logger, settings } = this.parts;
      const log = logger.child({ part: 'training' });
      if (this.objects !== null) {
        const [, own] = this.roots;
        for (const { name, version, source } of await listModels(sql)) {
          if (source !== TRAINED) continue;
          await fetchVersion(this.objects, own, name, version).catch((err: unknown) =>
            log.warn({ err, model: name, version }, 'a trained version could not be fetched; tried again'),
          );
        }
      }
      if (this.mlflow !== null)
        await settle({
          sql,
          clock,
          mlflow: this.mlflow,
          node: settings.nodeId,
          objects: this.objects,
          onFault: (err) => log.warn({ err }, 'a run has not gone to MLflow; it waits'),
        });
    },

    every(ms: number, work: () => Promise<void>) {
      const index = this.timers.length;
      const next = () => {
        if (this.stopped) return;
        this.timers[index] = this.parts.clock.after(ms, () => {
          work()
            .catch((err: unknown) => {
              if (!this.stopped) this.parts.logger.warn({ part: 'training', err }, 'jobs could not be looked at');
            })
            .finally(next);
        });
      };
      next();
    },
  },

  async started() {
    const { settings, sql, logger, clock } = this.parts;
    this.stopped = false;
    this.cron = cronOf(settings.trainingSchedule, async () => {
      // all nodes ask at once, and get the same job
      for (const name of trainableModels())
        await this.ask(name, 'schedule', {}).catch((err: unknown) =>
          logger.warn({ part: 'training', err, name }, 'training by schedule'),
        );
    });
    this.timers = [];
    this.running = null;
    this.burial = new Burial(clock);
    this.able = new AbleNodes({
      clock,
      why: () => whyNoPython(settings.trainingPython),
      askOthers: () => this.othersWhy(),
      patienceMs: settings.natsUrl === null ? 0 : ABLE_PATIENCE_MS,
    });
    this.roots = [BUILT_IN, resolve(settings.modelsDir ?? join(settings.dataDir, 'models'))];
    this.objects = settings.s3Endpoint === null ? null : openObjects(settings);
    this.mlflow = settings.mlflowUrl === null ? null : new Mlflow(settings.mlflowUrl);
    await buryOwn(sql, TRAINING, settings.nodeId);
    this.every(LOOK_MS, () => this.look());
    this.every(HOUSEKEEPING_MS, () => this.bury());
    this.every(HOUSEKEEPING_MS, () => this.housekeeping());
  },

  async stopped() {
    this.stopped = true;
    this.cron?.stop();
    for (const timer of this.timers ?? []) timer?.cancel();
    this.running?.abort.abort();
    await this.running?.done.catch(() => undefined);
    this.objects?.close();
  },
};

export default training;
