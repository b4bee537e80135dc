import type { Kind } from '../protocol/kind.ts';
import { MODELS } from './migrations/3-models.ts';
import { NOTIFICATIONS } from './migrations/4-notifications.ts';
import { RESCORES } from './migrations/5-rescores.ts';
import { ARCHIVES } from './migrations/6-archives.ts';
import { MODEL_LIFE } from './migrations/7-model-life.ts';
import { FORMER_VERSIONS } from './migrations/8-former-versions.ts';
import { DRIFT_OUTBOX } from './migrations/9-drift-outbox.ts';

/**
 * The schema, as numbered migrations that are applied once each, in order. Never edit one that has been released:
 * add the next. Tables of kinds are made by `kindTables`, idempotently, at every start.
 */
export const MIGRATIONS: readonly { version: number; name: string; sql: string }[] = [
  {
    version: 1,
    name: 'runtime',
    sql: `
create table settings (name text primary key, value jsonb not null);
create table nodes (node text primary key, beat bigint not null default 0);
create table shards (
  shard int primary key, owner text, epoch bigint not null default 0, commit_no bigint not null default 0,
  position bigint not null default 0, position_id text, position_at timestamptz,
  event_seq bigint not null default 0, snapshot_floor bigint not null default 0, attempts int not null default 0
) with (fillfactor = 20);
create table twins (
  twin bigint primary key, shard int not null, twin_id text not null unique, kind text not null, id text not null,
  revision bigint not null, at timestamptz, received_at timestamptz not null, health text not null, online boolean not null,
  retired boolean not null, alerts int not null, reported jsonb not null, attributes jsonb not null,
  created_at timestamptz not null default now()
) with (fillfactor = 70);
create index twins_shard on twins (shard, kind);
create index twins_kind on twins (kind, id);
create table twin_snapshots (
  twin bigint not null, revision bigint not null, shard int not null, twin_id text not null, shape int not null, kind_version int not null,
  state bytea not null, floor_at timestamptz not null, wake_at timestamptz, received_at timestamptz not null,
  latest boolean not null default true, primary key (twin, revision)
);
alter table twin_snapshots alter column state set storage external;
create index twin_snapshots_wake on twin_snapshots (shard, wake_at) where latest and wake_at is not null;
create index twin_snapshots_latest on twin_snapshots (shard) where latest;
create table entries (
  twin bigint not null, revision bigint not null, shard int not null, type text not null, received_at timestamptz not null,
  body json not null, primary key (twin, revision)
);
create table events (
  shard int not null, seq bigint not null, event_id text not null, twin bigint not null, twin_id text not null, kind text not null,
  revision bigint not null, type text not null, at timestamptz not null, received_at timestamptz not null, body jsonb not null,
  primary key (shard, seq)
);
create index events_twin on events (twin, revision);
create index events_type on events (type, at);
create index events_at on events (at);
create table sink_cursors (sink text not null, shard int not null, seq bigint not null, primary key (sink, shard));
create table alerts (
  alert_id text primary key, twin_id text not null, kind text not null, alert_type text not null, severity text not null, message text not null,
  state text not null, raised_at timestamptz not null, acknowledged boolean not null default false, acknowledged_by text,
  acknowledged_at timestamptz, resolved_at timestamptz, silenced_until timestamptz, note text, revision bigint not null
);
create index alerts_twin on alerts (twin_id);
create index alerts_state on alerts (state, raised_at);
create index alerts_raised on alerts (raised_at);
create table anomaly_events (
  anomaly_id text primary key, twin_id text not null, kind text not null, at timestamptz not null, field text not null, value float8 not null,
  expected_lo float8, expected_hi float8, score float8 not null, threshold float8 not null, detector text not null, severity text not null,
  reason text not null, is_confirmed boolean, root_cause text, resolution text, resolved_at timestamptz, resolved_by text, revision bigint not null
);
create index anomaly_events_twin on anomaly_events (twin_id, at);
create index anomaly_events_at on anomaly_events (at);
create table dead_letters (
  id bigint generated always as identity primary key, received_at timestamptz not null, source text not null, code text not null,
  message text not null, twin_id text, payload text not null, truncated boolean not null default false, replayed_at timestamptz
);
create index dead_letters_at on dead_letters (received_at);
create table keys (
  id text primary key, name text not null, role text not null, hash text not null, twin_id text, gateway boolean not null default false,
  created_at timestamptz not null default now(), created_by text, last_used_at timestamptz, revoked_at timestamptz
);
create table audit (
  id bigint generated always as identity primary key, at timestamptz not null default now(), actor text not null, role text not null,
  action text not null, target text, details jsonb not null default '{}', request_id text
);
create index audit_at on audit (at);
create table rule_overrides (
  kind text not null, rule text not null, override jsonb not null, updated_at timestamptz not null default now(), updated_by text,
  primary key (kind, rule)
);
create table equipment (
  machine_id text primary key, type text, location text, installation_date date, manufacturer text, model text, status text
);
create table sensors (
  sensor_id text primary key, machine_id text, sensor_type text, unit text, normal_range_min float8, normal_range_max float8
);
create table rollup_state (kind text primary key, step_no bigint not null default 0, lateness_ms bigint not null);
create table rollup_marks (
  twin bigint not null, rollup text not null, done_to timestamptz not null default 'epoch', settled bigint not null default 0,
  trimmed_to timestamptz not null default 'epoch', primary key (twin, rollup)
) with (fillfactor = 70);
create table rollup_dirty (kind text not null, twin bigint not null, at timestamptz not null);
create index rollup_dirty_twin on rollup_dirty (kind, twin, at);
create function rollup_dirtied() returns trigger language plpgsql as $$
begin
  insert into rollup_dirty (kind, twin, at) values (tg_argv[0], new.twin, new.at);
  return null;
end $$;
`,
  },
  {
    version: 2,
    name: 'lean states',
    // Only how new rows are stored changes, and an index that nothing asks goes: nodes of the version before run on.
    sql: `
alter table twin_snapshots set (toast_tuple_target = 8160);
drop index if exists twin_snapshots_latest;
alter table twins set (fillfactor = 50);
`,
  },
  MODELS,
  NOTIFICATIONS,
  RESCORES,
  ARCHIVES,
  MODEL_LIFE,
  FORMER_VERSIONS,
  DRIFT_OUTBOX,
];

/**
 * Columns that every `<kind>_readings` table starts with. `revision` null: backfill. What is folded again on replay is
 * `json`, here and in `entries`: jsonb would lose the order of keys.
 */
const COMMON = `
  shard int not null, twin bigint not null, at timestamptz not null, received_at timestamptz not null, revision bigint,
  key text, seq bigint, sensor text, attributes json`;

/**
 * Tables of one kind. History is indexed once, by (twin, at, revision): history queries, duplicate look-ups and the scan of the
 * tail (bounded below by the snapshot's floor_at) all go through it, because every further B-tree costs a fifth of the rate.
 * The revision lets the scan of the tail pass over what a snapshot covers without fetching its rows; a table made before it
 * was there keeps its index, and is recovered as before.
 */
export function kindTables(kind: Kind): string {
  const table = `${kind.kind}_readings`;
  const metrics = kind.openMetrics
    ? ', metric text not null, value float8 not null, unit text, metric_set text'
    : kind.metricNames.map((name) => `, "${name}" float8`).join('');
  // A metric added to a kind later becomes a new column of the table that is there.
  const added = kind.openMetrics
    ? ''
    : kind.metricNames.map((name) => `alter table ${table} add column if not exists "${name}" float8;`).join('\n');
  const aggregates = ['hourly', 'daily']
    .map(
      (step) => `
create table if not exists ${table}_${step} (
  twin bigint not null, bucket timestamptz not null, metric text not null, avg float8, min float8, max float8, std float8, median float8,
  record_count bigint not null, null_count bigint not null, primary key (twin, metric, bucket)
);`,
    )
    .join('');
  return `
create table if not exists ${table} (${COMMON}${metrics});
${added}
create index if not exists ${table}_twin_at on ${table} (twin, at, revision);
-- Backfill lands where the rollups have passed already: the trigger marks it, and costs other rows one comparison.
create or replace trigger ${table}_backfill after insert on ${table} for each row when (new.revision is null)
  execute function rollup_dirtied('${kind.kind}');
${aggregates}`;
}
