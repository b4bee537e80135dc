import { parseTwinId } from '../../actors/protocol/twin-id.ts';
import type { AnomalyItem } from '../../actors/store/queries/anomaly-list.ts';
import { TEXT } from '../gateway/list-schema.ts';
import { MOTE, moteIdOf } from '../sensors/mote.ts';
import { ANOMALY_SCHEMA } from '../sensors/mote-schema.ts';

/** An anomaly as environmental-sensor clients know it, of any kind: motes by `mote_id` too. */
export function toldAnomaly(item: AnomalyItem): Record<string, unknown> {
  const { kind, id } = parseTwinId(item.twin_id);
  return {
    ...(kind === MOTE ? { mote_id: moteIdOf(id) } : {}),
    twinId: item.twin_id,
    timestamp: item.timestamp,
    field: item.field,
    value: item.value,
    expected_range: item.expected_range,
    severity: item.severity,
    reason: item.reason,
  };
}

export const TOLD_ANOMALY = {
  ...ANOMALY_SCHEMA,
  required: ['twinId', ...ANOMALY_SCHEMA.required.filter((name) => name !== 'mote_id')],
  properties: { ...ANOMALY_SCHEMA.properties, twinId: TEXT },
};
