import { Readable } from 'node:stream';
import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { metricsOf } from '../actors/store/queries/history-table.ts';
import type { Span } from '../actors/store/queries/span.ts';
import { findTwin } from '../actors/store/queries/twin-key.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { Archive } from './archive/archived-readings.ts';
import { openArchive } from './archive/open-archive.ts';
import { exportedFile, FORMATS, type Format, idsOf } from './export/exported-readings.ts';
import type { CallMeta } from './gateway/caller.ts';
import {
  KIND,
  METRIC,
  SPAN_PARAMS,
  type SpanParams,
  START_END_PARAMS,
  type StartEndParams,
  spanOfParams,
  spanOfStartEnd,
  TWIN_ID,
} from './history/span-params.ts';
import { MOTE, moteTwinId } from './sensors/mote.ts';
import { MOTE_ID } from './sensors/mote-schema.ts';

/**
 * History as files. It runs where the reader is connected: over the mesh a slow reader would not slow the query down, and
 * one that goes away would not end it.
 */
interface ExportParams extends StartEndParams, SpanParams {
  kind: string;
  mote_id?: string;
  twinId?: string;
  twins?: string;
  metric?: string;
  metrics?: string;
}

interface Exports {
  archive: Archive;
  file(ctx: Context<ExportParams, CallMeta>, format: Format): Promise<Readable>;
}

const PARAMS = {
  kind: { ...KIND, default: MOTE },
  twins: {
    type: 'string',
    max: 20_000,
    optional: true,
    description: 'Ids of assets of the kind, separated by commas; default all.',
    example: '1,2',
  },
  metrics: METRIC,
  ...SPAN_PARAMS,
  mote_id: { ...MOTE_ID, optional: true, description: 'One mote.' },
  twinId: { ...TWIN_ID, optional: true, description: 'One twin, of its own kind.' },
  metric: { ...METRIC, description: 'The same as `metrics`.' },
  ...START_END_PARAMS,
};
const DESCRIPTION =
  'Asset by asset, each in order of time; motes unless `kind` says otherwise. The stream is read page by page and may be as long as history; what retention has dropped comes from the archive.';

const service: PartsSchema<Exports> = {
  name: 'export',
  metadata: { role: 'gateway' },
  mixins: [partsMixin],

  actions: {
    csv: {
      rest: 'GET /api/v1/export/csv',
      role: 'viewer',
      params: PARAMS,
      openapi: { summary: 'Readings as CSV', description: DESCRIPTION, tags: ['export'], stream: 'csv' },
      handler(ctx: Context<ExportParams, CallMeta>) {
        return this.file(ctx, 'csv');
      },
    },

    parquet: {
      rest: 'GET /api/v1/export/parquet',
      role: 'viewer',
      params: PARAMS,
      openapi: {
        summary: 'Readings as Parquet',
        description: `${DESCRIPTION} Compressed with snappy; times are UTC milliseconds, metrics are doubles.`,
        tags: ['export'],
        stream: 'parquet',
      },
      handler(ctx: Context<ExportParams, CallMeta>) {
        return this.file(ctx, 'parquet');
      },
    },
  },

  methods: {
    async file(ctx: Context<ExportParams, CallMeta>, format: Format) {
      const { mote_id: moteId, twins, metrics } = ctx.params;
      const { sql, kinds, logger } = this.parts;
      // Everything that can be refused is, before the first byte is sent.
      if ([moteId, ctx.params.twinId, twins].filter((given) => given !== undefined).length > 1)
        throw new TwinmeshError('bad_request', 'twins: one of twins, twinId and mote_id.');
      if (metrics !== undefined && ctx.params.metric !== undefined)
        throw new TwinmeshError('bad_request', 'metrics: either this or metric.');
      const metric = metrics ?? ctx.params.metric;
      const twinId = moteId === undefined ? ctx.params.twinId : moteTwinId(moteId);
      const twin = twinId === undefined ? null : await findTwin(sql, twinId);
      const kind = kinds.get(twin?.kind ?? ctx.params.kind);
      const ids = twin !== null ? [twin.id] : twins === undefined ? undefined : idsOf(kind.kind, twins);
      for (const id of twins === undefined ? [] : ids!) await findTwin(sql, `${kind.kind}:${id}`);
      const span = spanOf(ctx.params);
      metricsOf(kind, metric);
      const { type, ending } = FORMATS[format];
      ctx.meta.$responseHeaders = {
        'Content-Type': type,
        'Content-Disposition': `attachment; filename="${kind.kind}_readings.${ending}"`,
      };
      const older = this.archive.reader();
      const file = Readable.from(exportedFile(format, sql, kind, { ids, metric, span }, older), {
        objectMode: false,
        highWaterMark: 65_536,
      });
      // The reader of a CSV file cannot be told any more; one of Parquet finds it in the metadata.
      file.once('end', () => {
        if (older.notes.length > 0)
          logger.warn({ part: 'export', notes: older.notes }, 'an export left out what the archive could not give');
      });
      return file;
    },
  },

  async started() {
    this.archive = openArchive(this.parts);
  },

  async stopped() {
    this.archive?.close();
  },
};

/** Throws `bad_request`. */
function spanOf({ from, to, start, end }: ExportParams): Partial<Span> {
  if ((from !== undefined || to !== undefined) && (start !== undefined || end !== undefined))
    throw new TwinmeshError('bad_request', 'from: either from and to, or start and end.');
  return from !== undefined || to !== undefined ? spanOfParams({ from, to }) : spanOfStartEnd({ start, end });
}

export default service;
