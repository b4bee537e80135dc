import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { parseTwinId } from '../actors/protocol/twin-id.ts';
import { getRescore, listDifferences, listRescores } from '../actors/store/queries/rescore-list.ts';
import { instantOf } from '../actors/store/queries/span.ts';
import { findTwin } from '../actors/store/queries/twin-key.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, PAGE_PARAMS } from './gateway/list-schema.ts';
import { databaseUrlOf } from './parts.ts';
import {
  DIFFERENCE_ITEM,
  RESCORE_ITEM,
  RESCORE_PARAMS,
  WHAT_IF_ANSWER,
  WHAT_IF_PARAMS,
} from './replay/replay-schema.ts';
import { Rescores } from './replay/rescores.ts';
import { ReplayThreads } from './replay/threads.ts';
import type { PastView } from './replay/time-travel.ts';
import type { WhatIf, WhatIfRequest } from './replay/what-if.ts';

/**
 * The past of twins, what would become of them, and history rescored with another version of a model. Folded in threads of
 * its own from what is committed: any node with the role history answers, and no owner of a twin is asked.
 */
interface Replay {
  threads: ReplayThreads;
  rescorings: Rescores;
}

/** Clocks of callers and nodes may be so far apart. */
const AHEAD_MS = 60_000;
const AT_WITHIN_MS = 10_000;
const WHAT_IF_WITHIN_MS = 25_000;
const ID = { type: 'string', max: 64, description: 'Id of the rescoring, as GET /api/v1/rescores lists it.' } as const;

type Readings = (Omit<NonNullable<WhatIfRequest['readings']>[number], 'at'> & { at?: string | number })[];

interface RescoreParams {
  model: string;
  version: string;
  from: string | number;
  to?: string | number;
  kind?: string;
  twins?: string[];
  windowMs: number;
}

const replay: PartsSchema<Replay> = {
  name: 'replay',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    /** For `?at=`. */
    at: {
      visibility: 'public',
      params: { twinId: { type: 'string', max: 160 }, at: { type: 'number' } },
      async handler(ctx: Context<{ twinId: string; at: number }>): Promise<PastView> {
        const { twinId, at } = ctx.params;
        this.parts.kinds.get(parseTwinId(twinId).kind);
        if (at > this.parts.clock.now() + AHEAD_MS) throw new TwinmeshError('bad_request', 'at: lies in the future.');
        return this.threads.run<PastView>({ type: 'at', twinId, at }, { deadlineMs: AT_WITHIN_MS });
      },
    },

    whatIf: {
      rest: 'POST /api/v1/twins/:twinId/what-if',
      role: 'technician',
      audit: false,
      timeout: WHAT_IF_WITHIN_MS + 5_000,
      params: WHAT_IF_PARAMS,
      openapi: {
        summary: 'What would become of a twin',
        description:
          'Forks the committed twin, folds hypothetical readings, a scenario of the simulator or maintenance, asks the models when they are due, and answers how state, predictions, health and alerts would go. The twin itself stays as it is.',
        tags: ['twins'],
        bodyExample: { scenario: { name: 'bearing_wear', severity: 0.8 }, durationMs: 3_600_000, stepMs: 10_000 },
        maxBodyBytes: 1_048_576,
        response: WHAT_IF_ANSWER,
      },
      handler(
        ctx: Context<Omit<WhatIfRequest, 'readings'> & { twinId: string; readings?: Readings }>,
      ): Promise<WhatIf> {
        const { twinId, readings, scenario, maintenance, durationMs, stepMs } = ctx.params;
        this.parts.kinds.get(parseTwinId(twinId).kind);
        const timed = readings?.map(({ at, ...reading }, i) =>
          at === undefined ? reading : { ...reading, at: instantOf(at, `readings[${i}].at`) },
        );
        const request: WhatIfRequest = { readings: timed, scenario, maintenance, durationMs, stepMs };
        const nowMs = this.parts.clock.now();
        return this.threads.run<WhatIf>({ type: 'what-if', twinId, request, nowMs }, { deadlineMs: WHAT_IF_WITHIN_MS });
      },
    },

    rescores: {
      rest: 'GET /api/v1/rescores',
      role: 'viewer',
      params: {
        model: { type: 'string', max: 48, optional: true, description: 'Only of this model.', example: 'machine-rul' },
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Rescorings of history, newest first',
        description: 'With how far each is, and what it came to.',
        tags: ['models'],
        response: listOf(RESCORE_ITEM),
      },
      handler(ctx: Context<{ model?: string; limit: number; cursor?: string }>) {
        return listRescores(this.parts.sql, { ...ctx.params, nowMs: this.parts.clock.now() });
      },
    },

    rescored: {
      rest: 'GET /api/v1/rescores/:id',
      role: 'viewer',
      params: { id: ID, ...PAGE_PARAMS },
      openapi: {
        summary: 'One rescoring, with a page of its differences',
        description:
          'Differences are alerts, anomalies and maintenance that the other version would have gained, lost, or moved in time.',
        tags: ['models'],
        response: {
          ...RESCORE_ITEM,
          properties: { ...RESCORE_ITEM.properties, differences: listOf(DIFFERENCE_ITEM) },
        },
      },
      async handler(ctx: Context<{ id: string; limit: number; cursor?: string }>) {
        const { id, limit, cursor } = ctx.params;
        const rescore = await getRescore(this.parts.sql, id, this.parts.clock.now());
        return { ...rescore, differences: await listDifferences(this.parts.sql, id, { limit, cursor }) };
      },
    },

    rescore: {
      rest: 'POST /api/v1/rescores',
      role: 'admin',
      params: RESCORE_PARAMS,
      openapi: {
        summary: 'Rescore history with another version of a model',
        description:
          'Answers at once; GET /api/v1/rescores/{id} tells how far it is and what it came to. One at a time on a node.',
        tags: ['models'],
        bodyExample: { model: 'machine-anomaly', version: '1.1.0', from: '2026-11-20' },
        response: { type: 'object', required: ['id'], properties: { id: { type: 'string' } } },
      },
      async handler(ctx: Context<RescoreParams, CallMeta>) {
        const { model, version, kind, twins, windowMs } = ctx.params;
        const now = this.parts.clock.now();
        const from = instantOf(ctx.params.from, 'from');
        const to = ctx.params.to === undefined ? now : instantOf(ctx.params.to, 'to');
        if (from >= to) throw new TwinmeshError('bad_request', 'from: must lie before to.');
        if (kind !== undefined) this.parts.kinds.get(kind);
        for (const twin of twins ?? []) await findTwin(this.parts.sql, twin);
        const request = { model, version, from, to, kind, twins, windowMs };
        return { id: await this.rescorings.start(request, ctx.meta.user?.name ?? null) };
      },
    },

    cancelRescore: {
      rest: 'DELETE /api/v1/rescores/:id',
      role: 'admin',
      params: { id: ID },
      openapi: {
        summary: 'End a rescoring that runs on this node',
        description: '`cancelled` is false where the node that answers does not run it, or it has ended.',
        tags: ['models'],
        response: { type: 'object', required: ['cancelled'], properties: { cancelled: { type: 'boolean' } } },
      },
      async handler(ctx: Context<{ id: string }>) {
        await getRescore(this.parts.sql, ctx.params.id, this.parts.clock.now());
        return { cancelled: await this.rescorings.cancel(ctx.params.id) };
      },
    },
  },

  async started() {
    const { settings, sql, predictor, clock } = this.parts;
    this.threads = new ReplayThreads({
      settings: {
        databaseUrl: settings.databaseUrl === null ? null : databaseUrlOf(settings),
        applicationName: `twinmesh ${settings.nodeId} replay`,
        kindFolders: settings.kindsDir === null ? [] : [settings.kindsDir],
      },
      sql,
      predictor: predictor.aside,
      clock,
    });
    this.rescorings = new Rescores(this.parts, this.threads);
  },

  async stopped() {
    await this.rescorings?.close();
    await this.threads?.close();
  },
};

export default replay;
