import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { downsample } from '../actors/store/queries/downsample.ts';
import { type EventQuery, listEvents } from '../actors/store/queries/event-list.ts';
import { rawHistory } from '../actors/store/queries/history.ts';
import { listPredictions, type PredictionQuery } from '../actors/store/queries/prediction-list.ts';
import { everPredicted } from '../actors/store/queries/prediction-name.ts';
import { stepOf } from '../actors/store/queries/span.ts';
import { findTwin, type TwinKey } from '../actors/store/queries/twin-key.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { Archive } from './archive/archived-readings.ts';
import { openArchive } from './archive/open-archive.ts';
import { listOf, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { PREDICTION_ITEM } from './history/prediction-schema.ts';
import { METRIC, SPAN_PARAMS, type SpanParams, spanOfParams, TWIN_ID } from './history/span-params.ts';

/** What has been: readings of a twin, raw or by buckets, what models said of it, and the events of the fleet. */
const MAYBE_NUMBER = { type: ['number', 'null'] };
const ITEM = {
  type: 'object',
  description: 'A reading; with `step` a bucket.',
  required: ['at'],
  properties: {
    at: { ...TIME, description: 'Event time; of a bucket its start.' },
    receivedAt: TIME,
    revision: { type: ['integer', 'null'], description: 'Null for backfill, which is stored and never folded.' },
    values: { type: 'object', additionalProperties: { type: 'number' } },
    unit: TEXT,
    sensor: TEXT,
    seq: { type: 'integer' },
    key: TEXT,
    metrics: {
      type: 'object',
      additionalProperties: {
        type: 'object',
        required: ['count', 'avg', 'min', 'max', 'std'],
        properties: {
          count: { type: 'integer' },
          avg: { type: 'number' },
          min: { type: 'number' },
          max: { type: 'number' },
          std: { ...MAYBE_NUMBER, description: 'Sample standard deviation; null for a single reading.' },
        },
      },
    },
  },
};

const PAGE = listOf(ITEM) as { properties: object };
const NOTES = {
  type: 'array',
  items: TEXT,
  description: 'What the archive could not give: a sentence for each file that is missing or damaged.',
};

const ORDER = (by: string) =>
  ({ type: 'enum', values: ['asc', 'desc'], optional: true, description: `${by}; default asc.` }) as const;

interface HistoryParams extends SpanParams {
  twinId: string;
  metric?: string;
  step?: string | number;
  limit?: number;
  cursor?: string;
  order?: 'asc' | 'desc';
}

interface History {
  archive: Archive;
  mustBeName(twin: TwinKey, name: string): Promise<void>;
}

const history: PartsSchema<History> = {
  name: 'history',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    get: {
      rest: 'GET /api/v1/twins/:twinId/history',
      role: 'viewer',
      params: {
        twinId: TWIN_ID,
        metric: METRIC,
        ...SPAN_PARAMS,
        step: {
          type: 'multi',
          rules: [{ type: 'string', max: 20 }, { type: 'number' }],
          optional: true,
          description: 'Width of the buckets: 15s, 1m, 1h, 1d or milliseconds. Without it: raw readings.',
          example: '1h',
        },
        order: ORDER('By event time'),
        limit: { ...PAGE_PARAMS.limit, max: 5_000, default: 1_000, description: 'Raw readings of a page.' },
        cursor: PAGE_PARAMS.cursor,
      },
      openapi: {
        summary: 'Readings of a twin, raw or by buckets',
        description:
          'Buckets start at multiples of the step since 1970 (UTC) and are at most 5,000; they come all at once. Of whole hours and days the rollups stand in for the readings they cover. What retention has dropped is read from the archive.',
        tags: ['history'],
        response: { ...PAGE, properties: { ...PAGE.properties, notes: NOTES } },
      },
      async handler(ctx: Context<HistoryParams>) {
        const { twinId, metric, step, limit, cursor, order } = ctx.params;
        const { sql, kinds, clock } = this.parts;
        const span = spanOfParams(ctx.params);
        const twin = await findTwin(sql, twinId);
        const kind = kinds.get(twin.kind);
        const older = this.archive.reader();
        const notes = () => (older.notes.length > 0 ? { notes: older.notes } : {});
        if (step === undefined) {
          const page = await rawHistory(sql, kind, twin, { metric, span, limit, cursor, order }, older);
          return { ...page, ...notes() };
        }
        if (cursor !== undefined) throw new TwinmeshError('bad_request', 'cursor: buckets come all at once.');
        const query = { metric, span, stepMs: stepOf(step) };
        const { items, ...about } = await downsample(sql, clock, kind, twin, query, older);
        return { items: order === 'desc' ? items.reverse() : items, nextCursor: null, ...about, ...notes() };
      },
    },

    predictions: {
      rest: 'GET /api/v1/twins/:twinId/predictions',
      role: 'viewer',
      params: {
        twinId: TWIN_ID,
        name: {
          type: 'string',
          pattern: /^[A-Za-z][A-Za-z0-9_.-]{0,62}$/,
          optional: true,
          description: 'Only these, by the name that the kind gives them; default all.',
          example: 'rul',
        },
        ...SPAN_PARAMS,
        order: ORDER('In the order they were said'),
        limit: { ...PAGE_PARAMS.limit, max: 1_000, description: 'Predictions of a page at most.' },
        cursor: PAGE_PARAMS.cursor,
      },
      openapi: {
        summary: 'What models said of a twin, over time',
        description:
          'Out of its journal, as far back as `HISTORY_RETENTION_DAYS` has left it; predictions are not archived. `from` and `to` are of the event time they are based on. A page looks through 20,000 predictions at most: with `name`, `from` or `to` it may be short, or empty, and `nextCursor` still goes on.',
        tags: ['history'],
        response: listOf(PREDICTION_ITEM),
      },
      async handler(ctx: Context<Omit<PredictionQuery, 'span'> & SpanParams & { twinId: string }>) {
        const { sql } = this.parts;
        const { twinId, name, limit, cursor, order } = ctx.params;
        const span = spanOfParams(ctx.params);
        const twin = await findTwin(sql, twinId);
        const page = await listPredictions(sql, twin, { name, span, limit, cursor, order });
        if (name !== undefined && page.items.length === 0) await this.mustBeName(twin, name);
        return page;
      },
    },

    events: {
      rest: 'GET /api/v1/events',
      role: 'viewer',
      params: {
        kind: {
          type: 'string',
          max: 31,
          optional: true,
          description: 'Only of twins of this kind.',
          example: 'machine',
        },
        twinId: { ...TWIN_ID, optional: true },
        type: {
          type: 'string',
          max: 400,
          optional: true,
          description: 'Types, or the parts before their dots, separated by commas.',
          example: 'alert,anomaly.detected',
        },
        ...SPAN_PARAMS,
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Events of the fleet, newest first',
        description: 'By event time. What comes from now on is told by GET /api/v1/stream.',
        tags: ['history'],
        response: listOf({
          type: 'object',
          required: ['event_id', 'twinId', 'kind', 'type', 'revision', 'at', 'receivedAt', 'body'],
          properties: {
            event_id: TEXT,
            twinId: TEXT,
            kind: TEXT,
            type: TEXT,
            revision: { type: 'integer' },
            at: TIME,
            receivedAt: TIME,
            body: { type: 'object' },
          },
        }),
      },
      handler(ctx: Context<Omit<EventQuery, 'span'> & SpanParams>) {
        return listEvents(this.parts.sql, { ...ctx.params, span: spanOfParams(ctx.params) });
      },
    },
  },

  methods: {
    /** Throws bad_request for a name of predictions that neither the kind has nor the twin ever had, as under a former version. */
    async mustBeName({ twin, twinId, kind }: TwinKey, name: string) {
      const { sql, kinds } = this.parts;
      const names = kinds.has(kind) ? Object.keys(kinds.get(kind).models ?? {}) : [];
      if (names.includes(name) || (await everPredicted(sql, twin, name))) return;
      const has = names.length > 0 ? `there is ${names.join(', ')}` : `no model is asked about a ${kind}`;
      throw new TwinmeshError('bad_request', `name: ${twinId} has no prediction "${name}"; ${has}.`);
    },
  },

  async started() {
    this.archive = openArchive(this.parts);
  },

  async stopped() {
    this.archive?.close();
  },
};

export default history;
