import { randomBytes } from 'node:crypto';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { ArchiveRow } from '../../actors/store/queries/archive.ts';
import { DAY_MS } from '../../actors/store/queries/span.ts';
import type { ParquetColumn } from '../parquet/parquet-writer.ts';
import { MOTE } from '../sensors/mote.ts';

/**
 * Names and columns of the archive:
 *
 *     archive/kind=<kind>/year=YYYY/month=MM/day=DD/[mote_id=<id>/]<readings|late>-<run>-<part>.parquet
 *     archive/kind=<kind>/year=YYYY/month=MM/day=DD/_metrics/summary.json
 *
 * Days are UTC, by event time. Columns are those of the table `<kind>_readings`, and the twin by its whole name.
 */
const ROOT = 'archive';

/** Kinds whose files hold one asset each, and the name of the partition. */
const BY_ASSET: Readonly<Record<string, string>> = { [MOTE]: 'mote_id' };

export function isByAsset(kind: Kind): boolean {
  return kind.kind in BY_ASSET;
}

export function dayPrefix(kind: string, day: number): string {
  const [year, month, date] = new Date(day).toISOString().slice(0, 10).split('-');
  return `${ROOT}/kind=${kind}/year=${year}/month=${month}/day=${date}`;
}

export function summaryKey(kind: string, day: number): string {
  return `${dayPrefix(kind, day)}/_metrics/summary.json`;
}

/** The part of a file's name that tells the runs of the archiver apart; it begins with the time of the run. */
export function runName(nowMs: number): string {
  return `${nowMs}-${randomBytes(4).toString('hex')}`;
}

export function fileKey(kind: Kind, day: number, id: string, run: string, part: number, late: boolean): string {
  const folder = isByAsset(kind) ? `${BY_ASSET[kind.kind]}=${id}/` : '';
  const name = `${late ? 'late' : 'readings'}-${run}-${String(part).padStart(4, '0')}.parquet`;
  return `${dayPrefix(kind.kind, day)}/${folder}${name}`;
}

/** When the run began that wrote a file of this name; null for names that are none of ours. */
export function runTimeOf(key: string): number | null {
  const match = /\/(?:readings|late)-(\d{1,15})-[0-9a-f]{8}-\d{4,}\.parquet$/.exec(key);
  return match === null ? null : Number(match[1]);
}

export function startOfDay(ms: number): number {
  return Math.floor(ms / DAY_MS) * DAY_MS;
}

type Column = ParquetColumn<ArchiveRow>;

export function archiveColumns(kind: Kind): Column[] {
  const metrics: Column[] = kind.openMetrics
    ? [
        { name: 'metric', type: 'STRING', required: true, of: (row) => row.metric },
        { name: 'value', type: 'DOUBLE', required: true, of: (row) => row.value },
        { name: 'unit', type: 'STRING', of: (row) => row.unit },
        { name: 'metric_set', type: 'STRING', of: (row) => row.metric_set },
      ]
    : kind.metricNames.map((name): Column => ({ name, type: 'DOUBLE', of: (row) => row[name] as number | null }));
  return [
    { name: 'twin_id', type: 'STRING', required: true, of: (row) => row.twin_id },
    { name: 'twin', type: 'INT64', required: true, of: (row) => row.twin },
    { name: 'at', type: 'TIMESTAMP', required: true, of: (row) => row.at.getTime() },
    { name: 'received_at', type: 'TIMESTAMP', required: true, of: (row) => row.received_at.getTime() },
    { name: 'revision', type: 'INT64', of: (row) => row.revision },
    { name: 'key', type: 'STRING', of: (row) => row.key },
    { name: 'seq', type: 'INT64', of: (row) => row.seq },
    { name: 'sensor', type: 'STRING', of: (row) => row.sensor },
    { name: 'attributes', type: 'STRING', of: (row) => row.attributes },
    ...metrics,
  ];
}
