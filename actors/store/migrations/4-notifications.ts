/**
 * Anomalies that a model found; notifications and what decides on them. Only additions, and `value` may be null: nodes of the
 * version before run on.
 *
 *   notifications    one row for each receiver and thing that is to be told; deliveries are claimed from it
 *   notify_cooldowns until when a rule says nothing more about a twin
 *   notify_bursts    how much a rule has said in the window that is open, and what was held back for a summary
 *   notify_escalations  alerts that nobody has acknowledged yet, and when the next are told
 */
export const NOTIFICATIONS = {
  version: 4,
  name: 'notifications',
  sql: `
alter table anomaly_events alter column value drop not null;
alter table anomaly_events add column if not exists model text;
alter table anomaly_events add column if not exists contributions jsonb;
create index if not exists events_maintenance on events (twin, (body ->> 'prediction'), shard, seq) where type = 'maintenance.predicted';
create table notifications (
  id bigint generated always as identity primary key, receiver text not null, dedup_key text not null, event_id text, rule text not null,
  thread text not null, action text not null, twin_id text, kind text, severity text not null, state text not null,
  held boolean not null default false, attempts int not null default 0, next_at timestamptz not null, owner text, claimed_until timestamptz,
  last_error text, payload jsonb not null, created_at timestamptz not null, done_at timestamptz, unique (receiver, dedup_key)
) with (fillfactor = 70);
create index notifications_due on notifications (receiver, next_at) where state = 'waiting';
create index notifications_thread on notifications (thread, receiver, id);
create index notifications_created on notifications (created_at, id);
create table notify_cooldowns (rule text not null, twin_id text not null, until timestamptz not null, rank int not null, primary key (rule, twin_id));
create index notify_cooldowns_until on notify_cooldowns (until);
create table notify_bursts (
  rule text primary key, opened_at timestamptz not null, closes_at timestamptz not null, told int not null, held_back int not null,
  rank int not null, sample jsonb not null
);
create table notify_escalations (
  rule text not null, alert_id text not null, step int not null, due_at timestamptz not null, payload jsonb not null,
  event_id text not null, primary key (rule, alert_id)
);
create index notify_escalations_due on notify_escalations (due_at);
`,
};
