/**
 * Versions of models and which of them answers, jobs, and predictions as a view: their truth is the journal.
 * Whether two nodes put a version live at once is settled by the indexes: one live and one shadow a name.
 */
export const MODELS = {
  version: 3,
  name: 'models',
  sql: `
create table models (
  name text not null, version text not null, type text not null, kind text not null, registered_at timestamptz not null default now(),
  metrics jsonb not null default '[]', status text not null default 'candidate' check (status in ('candidate', 'shadow', 'live', 'retired')),
  card jsonb not null, sha256 text not null, source text not null,
  promoted_at timestamptz, promoted_by text, replaced text, reason text, primary key (name, version)
);
create unique index models_live on models (name) where status = 'live';
create unique index models_shadow on models (name) where status = 'shadow';
create table jobs (
  id text primary key, type text not null, name text not null,
  status text not null default 'queued' check (status in ('queued', 'running', 'done', 'failed', 'cancelled')),
  progress float8 not null default 0, message text, params jsonb not null default '{}', result jsonb,
  created_at timestamptz not null default now(), created_by text, started_at timestamptz, finished_at timestamptz, node text, beat timestamptz
);
create index jobs_created on jobs (created_at);
create index jobs_open on jobs (type, status) where status in ('queued', 'running');
create view predictions as
  select e.twin, t.twin_id, t.kind, e.revision, e.received_at as predicted_at, e.body->>'name' as name,
    (e.body->>'basedOn')::bigint as based_on, p.body->>'model' as model,
    (p.body->>'value')::float8 as value, (p.body->>'score')::float8 as score, (p.body->>'threshold')::float8 as threshold,
    (p.body#>>'{interval,0}')::float8 as lo, (p.body#>>'{interval,1}')::float8 as hi, p.body
  from entries e join twins t on t.twin = e.twin cross join lateral (select e.body->'prediction' as body) p
  where e.type = 'prediction';
`,
};
