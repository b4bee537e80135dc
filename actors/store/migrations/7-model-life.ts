/**
 * What becomes of models over time: what they were asked (counts by bin, an hour and node each, to be held against the card's
 * reference), which inputs have drifted, and runs of training that MLflow has not taken yet.
 */
export const MODEL_LIFE = {
  version: 7,
  name: 'model life',
  sql: `
create table drift_counts (
  model text not null, version text not null, kind text not null, hour timestamptz not null, node text not null,
  rows bigint not null, counts jsonb not null, primary key (model, version, hour, node)
);
create index drift_counts_hour on drift_counts (hour);
create table drift_states (
  model text not null, input text not null, version text not null, score float8 not null, drifting boolean not null,
  since timestamptz not null, primary key (model, input)
);
create unique index jobs_one on jobs (type, name) where status in ('queued', 'running');
create table mlflow_outbox (
  job text primary key, attempts int not null default 0, next_at timestamptz not null default now(), last_error text, run_id text,
  done_at timestamptz
);
`,
};
