import type { Kind } from '../../actors/protocol/kind.ts';
import type { DataMap } from './map.ts';
import { wireFieldsOf } from './wire-fields.ts';

/**
 * The map of a CSV that already speaks as the kind does: columns are called as in the kind's own format or as its metrics.
 * Null where the header does not say whose readings these are, when they were, and one metric at least.
 */
export function kindMap(kind: Kind, header: readonly string[]): DataMap | null {
  const wire = wireFieldsOf(kind);
  const find = (...names: (string | undefined)[]) =>
    header.find((column) => names.some((name) => name !== undefined && name.toLowerCase() === column.toLowerCase()));
  const id = find(wire?.id?.at(-1), `${kind.kind}_id`, 'id', 'asset_id', 'device_id');
  const time = find(wire?.time?.at(-1), 'timestamp', 'at', 'time', 'datetime', 'date');
  const metrics: Record<string, string> = {};
  for (const metric of kind.metricNames) {
    const column = find(metric, wire?.metrics[metric]?.at(-1));
    if (column !== undefined) metrics[metric] = column;
  }
  if (kind.openMetrics) {
    const reserved = new Set([id, time, 'seq', 'unit', 'sensor_type']);
    for (const column of header) if (!reserved.has(column)) metrics[column] = column;
  }
  if (id === undefined || time === undefined || Object.keys(metrics).length === 0) return null;
  return {
    name: `of ${kind.kind}`,
    kinds: [kind.kind],
    format: 'csv',
    id: { column: id },
    time: { column: time },
    metrics,
    ...(header.includes('seq') ? { seq: 'seq' } : {}),
  };
}
