import type { Clock } from '../../../actors/protocol/clock.ts';
import { systemClock } from '../../../actors/protocol/clock.ts';
import { defineTwin, type Kind } from '../../../actors/protocol/kind.ts';
import type { TwinKey } from '../../../actors/store/queries/twin-key.ts';
import { kindTables, MIGRATIONS } from '../../../actors/store/schema.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { openEmptyDatabase } from '../../servers/embedded.ts';

/** A database with the schema and two kinds, and rows as the checkpoint would write them. */
const base = {
  version: 1,
  title: 'test',
  description: 'test',
  formats: [{ name: 'f', decode: () => ({ id: 'x', at: 0, values: {} }), example: {} }],
  windows: { '1m': { spanMs: 60_000, panes: 6 } },
  detectors: {},
  silentAfterMs: 60_000,
  graph: { type: 'test' },
  digest: () => '',
};

export const boiler: Kind = defineTwin({
  ...base,
  kind: 'boiler',
  metrics: {
    heat: { unit: '°C', min: -100, max: 500 },
    flow: { unit: 'l/s', min: 0, max: 100 },
  },
  rules: [
    {
      name: 'hot',
      metric: 'heat',
      above: 90,
      hysteresis: 2,
      holdMs: 1_000,
      cooldownMs: 5_000,
      severity: 'high',
      message: '{value}',
    },
    {
      name: 'dry',
      metric: 'flow',
      below: 1,
      hysteresis: 0.5,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'warning',
      message: '{value}',
    },
  ],
});

export const gadget: Kind = defineTwin({ ...base, kind: 'gadget', openMetrics: true, metrics: {}, rules: [] });

export const KINDS = [boiler, gadget];

export async function openDatabase(open: () => Promise<Sql> = openEmptyDatabase): Promise<Sql> {
  const sql = await open();
  for (const migration of MIGRATIONS) await sql.exec(migration.sql);
  for (const kind of KINDS) await sql.exec(kindTables(kind));
  return sql;
}

export interface TwinSeed {
  twin: number;
  kind?: string;
  id: string;
  revision?: number;
  at?: number | null;
  receivedAt?: number;
  health?: string;
  online?: boolean;
  retired?: boolean;
  alerts?: number;
  reported?: Record<string, number>;
  attributes?: Record<string, string | number | boolean>;
}

export const T0 = Date.UTC(2026, 0, 1);

export async function putTwins(sql: Sql, seeds: readonly TwinSeed[]): Promise<void> {
  const rows = seeds.map((seed) => ({
    twin: seed.twin,
    twin_id: `${seed.kind ?? 'boiler'}:${seed.id}`,
    kind: seed.kind ?? 'boiler',
    id: seed.id,
    revision: seed.revision ?? 1,
    at: seed.at === null ? null : new Date(seed.at ?? T0).toISOString(),
    received_at: new Date(seed.receivedAt ?? seed.at ?? T0).toISOString(),
    health: seed.health ?? 'ok',
    online: seed.online ?? true,
    retired: seed.retired ?? false,
    alerts: seed.alerts ?? 0,
    reported: seed.reported ?? {},
    attributes: seed.attributes ?? {},
  }));
  await sql.query(
    `insert into twins (twin, shard, twin_id, kind, id, revision, at, received_at, health, online, retired, alerts, reported, attributes)
     select twin, 0, twin_id, kind, id, revision, at, received_at, health, online, retired, alerts, reported, attributes
     from jsonb_to_recordset($1::jsonb) as x(twin bigint, twin_id text, kind text, id text, revision bigint, at timestamptz,
       received_at timestamptz, health text, online boolean, retired boolean, alerts int, reported jsonb, attributes jsonb)
     on conflict (twin) do update set revision = excluded.revision, at = excluded.at, received_at = excluded.received_at`,
    [JSON.stringify(rows)],
  );
}

export interface ReadingSeed {
  twin: number;
  at: number;
  /** Null: backfill. */
  revision: number | null;
  values: Record<string, number>;
  receivedAt?: number;
  key?: string;
  seq?: number;
  sensor?: string;
  unit?: string;
}

export async function putReadings(sql: Sql, kind: Kind, seeds: readonly ReadingSeed[]): Promise<void> {
  const rows = seeds.flatMap((seed) => {
    const { values, ...rest } = seed;
    const common = {
      ...rest,
      at: new Date(seed.at).toISOString(),
      received_at: new Date(seed.receivedAt ?? seed.at).toISOString(),
    };
    const names = Object.keys(values).sort();
    if (!kind.openMetrics) return [{ ...common, ...values }];
    const set = seed.revision === null && names.length > 1 ? names.join(',') : null;
    return names.map((metric) => ({ ...common, metric, value: values[metric], metric_set: set }));
  });
  const columns = kind.openMetrics
    ? { metric: 'text', value: 'float8', unit: 'text', metric_set: 'text' }
    : Object.fromEntries(kind.metricNames.map((name) => [name, 'float8']));
  const all: Record<string, string> = {
    twin: 'bigint',
    at: 'timestamptz',
    received_at: 'timestamptz',
    revision: 'bigint',
    key: 'text',
    seq: 'bigint',
    sensor: 'text',
    ...columns,
  };
  const names = Object.keys(all).join(', ');
  for (let i = 0; i < rows.length; i += 20_000) {
    await sql.query(
      `insert into ${kind.kind}_readings (shard, ${names}) select 0, ${names} from jsonb_to_recordset($1::jsonb)
       as x(${Object.entries(all)
         .map(([name, type]) => `${name} ${type}`)
         .join(', ')})`,
      [JSON.stringify(rows.slice(i, i + 20_000))],
    );
  }
}

export function keyOf(twin: number, id: string, at: number | null = null, kind = 'boiler'): TwinKey {
  return { twin, twinId: `${kind}:${id}`, kind, id, at };
}

/** The system's clock with a wall time of the test's own; sleeping takes no time. */
export function clockAt(nowMs: number): Clock {
  return {
    ...systemClock,
    now: () => nowMs,
    after(_delayMs, callback) {
      const handle = setImmediate(callback);
      return { cancel: () => clearImmediate(handle) };
    },
  };
}
