/**
 * History rescored with another version of a model: what was asked, how far it has come, what it came to, and each difference.
 * Times of happenings are event times, `from_at` and `to_at` received times.
 */
export const RESCORES = {
  version: 5,
  name: 'rescores',
  sql: `
create table rescores (
  id text primary key, model text not null, version text not null, kind text, twins text[], from_at timestamptz not null,
  to_at timestamptz not null, window_ms bigint not null,
  state text not null default 'running' check (state in ('running', 'done', 'failed', 'cancelled')),
  started_at timestamptz not null, started_by text, node text, beat timestamptz not null, finished_at timestamptz,
  progress jsonb not null default '{}', summary jsonb, error text
);
create index rescores_started on rescores (started_at);
create table rescore_differences (
  rescore text not null references rescores (id) on delete cascade, n bigint not null, twin_id text not null, change text not null,
  what text not null, name text not null, severity text, was_at timestamptz, now_at timestamptz, was jsonb, now jsonb,
  primary key (rescore, n)
);
`,
};
