import { Readable } from 'node:stream';
import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { exportCsv } from '../actors/store/queries/export.ts';
import { metricsOf } from '../actors/store/queries/history-table.ts';
import { findTwin } from '../actors/store/queries/twin-key.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta } from './gateway/caller.ts';
import { KIND, METRIC, START_END_PARAMS, type StartEndParams, spanOfStartEnd, TWIN_ID } from './history/span-params.ts';
import { MOTE, moteTwinId } from './sensors/mote.ts';
import { MOTE_ID } from './sensors/mote-schema.ts';

/**
 * History as files. It runs where the reader is connected: over the mesh a slow reader would not slow the query down, and
 * one that goes away would not end it.
 */
interface ExportParams extends StartEndParams {
  kind: string;
  mote_id?: string;
  twinId?: string;
  metric?: string;
}

const service: PartsSchema = {
  name: 'export',
  metadata: { role: 'gateway' },
  mixins: [partsMixin],

  actions: {
    csv: {
      rest: 'GET /api/v1/export/csv',
      role: 'viewer',
      params: {
        kind: { ...KIND, default: MOTE },
        mote_id: { ...MOTE_ID, optional: true, description: 'One mote.' },
        twinId: { ...TWIN_ID, optional: true, description: 'One twin, of its own kind.' },
        metric: METRIC,
        ...START_END_PARAMS,
      },
      openapi: {
        summary: 'Readings as CSV',
        description:
          'Asset by asset, each in order of time; motes unless `kind` says otherwise. The stream is read page by page and may be as long as history.',
        tags: ['sensors'],
        stream: 'csv',
      },
      async handler(ctx: Context<ExportParams, CallMeta>) {
        const { mote_id: moteId, metric } = ctx.params;
        const { sql, kinds } = this.parts;
        // Everything that can be refused is, before the first byte is sent.
        if (moteId !== undefined && ctx.params.twinId !== undefined)
          throw new TwinmeshError('bad_request', 'mote_id: either this or twinId.');
        const twinId = moteId === undefined ? ctx.params.twinId : moteTwinId(moteId);
        const twin = twinId === undefined ? null : await findTwin(sql, twinId);
        const name = twin?.kind ?? ctx.params.kind;
        const kind = kinds.get(name);
        const span = spanOfStartEnd(ctx.params);
        metricsOf(kind, metric);
        const idColumn = kind.prometheusLabel ?? `${name}_id`;
        ctx.meta.$responseHeaders = {
          'Content-Type': 'text/csv; charset=utf-8',
          'Content-Disposition': `attachment; filename="${name}_readings.csv"`,
        };
        return Readable.from(exportCsv(sql, kind, { id: twin?.id, metric, span, idColumn }), {
          objectMode: false,
          highWaterMark: 65_536,
        });
      },
    },
  },
};

export default service;
