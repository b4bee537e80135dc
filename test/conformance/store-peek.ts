import type { MemoryStore } from '../../actors/store/memory.ts';
import type { Snapshot } from '../../actors/store/port.ts';
import type { Sql } from '../../actors/store/sql.ts';

/** What the port does not show, read in the adapter's own way: tables for people. Times in ms. */
export interface Peek {
  alerts(): Promise<Record<string, unknown>[]>;
  anomalies(): Promise<Record<string, unknown>[]>;
  deadLetters(): Promise<Record<string, unknown>[]>;
  summaries(): Promise<Record<string, unknown>[]>;
  /** Revisions of the snapshots that are kept. */
  snapshots(twin: number): Promise<Snapshot['revision'][]>;
}

export function peekMemory(store: MemoryStore): Peek {
  const { ledger } = store;
  const sorted = (rows: Record<string, unknown>[], by: string) =>
    rows.sort((a, b) => (String(a[by]) < String(b[by]) ? -1 : 1));
  return {
    alerts: async () => sorted([...ledger.alerts.values()].map(plain), 'alertId'),
    anomalies: async () =>
      sorted(
        [...ledger.anomalies.values()].map(({ shard: _shard, ...row }) => plain(row)),
        'anomalyId',
      ),
    deadLetters: async () => ledger.deadLetters.map(({ shard: _shard, ...row }) => plain(row)),
    summaries: async () => sorted(ledger.summaries().map(plain), 'twinId'),
    snapshots: async (twin) => ledger.snapshotRevisions(twin),
  };
}

function plain(row: object): Record<string, unknown> {
  return { ...row };
}

export function peekSql(sql: Sql): Peek {
  const ms = (column: string) => `(extract(epoch from ${column}) * 1000)::float8`;
  return {
    alerts: () =>
      sql.query(`select alert_id as "alertId", twin_id as "twinId", kind, alert_type as "alertType", severity, message, state,
        ${ms('raised_at')} as "raisedAt", acknowledged, acknowledged_by as "acknowledgedBy",
        ${ms('acknowledged_at')} as "acknowledgedAt", ${ms('resolved_at')} as "resolvedAt",
        ${ms('silenced_until')} as "silencedUntil", note, revision from alerts order by alert_id collate "C"`),
    anomalies: async () => {
      const rows = await sql.query<Record<string, unknown>>(
        `select anomaly_id as "anomalyId", twin_id as "twinId", kind, ${ms('at')} as at, field, value, expected_lo, expected_hi,
           score, threshold, detector, model, contributions, severity, reason, revision from anomaly_events order by anomaly_id collate "C"`,
      );
      return rows.map(({ expected_lo, expected_hi, model, contributions, ...row }) => ({
        ...row,
        ...(model === null ? {} : { model, contributions }),
        expected: expected_lo === null ? null : [expected_lo, expected_hi],
      }));
    },
    deadLetters: () =>
      sql.query(`select twin_id as "twinId", code, message, source, ${ms('received_at')} as "receivedAt", payload
        from dead_letters order by id`),
    summaries: () =>
      sql.query(`select shard, twin, twin_id as "twinId", kind, revision, ${ms('at')} as at, ${ms('received_at')} as "receivedAt",
        health, online, retired, reported, attributes, alerts from twins order by twin_id collate "C"`),
    snapshots: async (twin) =>
      (
        await sql.query<{ revision: number }>('select revision from twin_snapshots where twin = $1 order by revision', [
          twin,
        ])
      ).map((row) => row.revision),
  };
}
