import type { Context } from 'moleculer';
import { newestReadings } from '../actors/store/queries/newest.ts';
import { iso } from '../actors/store/queries/span.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { listOf, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { START_END_PARAMS, type StartEndParams, spanOfStartEnd } from './history/span-params.ts';

/** What generic IoT devices sent, in the shape they send it. */
const DEVICE = 'device';

interface DataParams extends StartEndParams {
  device_id?: string;
  sensor_type?: string;
  limit: number;
  cursor?: string;
}

const iot: PartsSchema = {
  name: 'iot',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    data: {
      rest: 'GET /api/data',
      role: 'viewer',
      params: {
        device_id: { type: 'string', max: 128, optional: true, description: 'Only of this device.', example: 'dev-7' },
        sensor_type: {
          type: 'string',
          max: 63,
          optional: true,
          description: 'Only these values.',
          example: 'temperature',
        },
        ...START_END_PARAMS,
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Readings of generic IoT devices, newest first',
        description:
          'One item a value, as clients of `POST /api/data` know them. What retention has dropped is not read from the archive here.',
        tags: ['iot'],
        envelope: false,
        response: listOf({
          type: 'object',
          required: ['device_id', 'sensor_type', 'value', 'unit', 'timestamp'],
          properties: {
            device_id: TEXT,
            sensor_type: TEXT,
            value: { type: 'number' },
            unit: { type: ['string', 'null'] },
            timestamp: TIME,
          },
        }),
      },
      handler(ctx: Context<DataParams>) {
        const { device_id: id, sensor_type: metric, limit, cursor } = ctx.params;
        const { sql, kinds } = this.parts;
        const query = { id, metric, span: spanOfStartEnd(ctx.params), limit, cursor };
        return newestReadings(sql, kinds.get(DEVICE), query, (row) => ({
          device_id: row.id,
          sensor_type: row.metric,
          value: row.value,
          unit: row.unit ?? null,
          timestamp: iso(row.at.getTime()),
        }));
      },
    },
  },
};

export default iot;
