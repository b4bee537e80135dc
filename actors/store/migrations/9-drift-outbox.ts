/**
 * Drift that ends where it is not judged any more, and what is said of it, until it has been. Only additions: nodes of the version
 * before run on.
 *
 *   drift_states.judged_at  when it was last judged, to the hour
 *   drift_outbox.waits      who has not taken it yet
 */
export const DRIFT_OUTBOX = {
  version: 9,
  name: 'drift outbox',
  sql: `
alter table drift_states add column if not exists kind text;
alter table drift_states add column if not exists judged_at timestamptz not null default now();
update drift_states s set kind = m.kind from models m where m.name = s.model and m.version = s.version;
create table drift_outbox (
  id bigint generated always as identity primary key, model text not null, version text not null, kind text not null, input text not null,
  psi float8, drifting boolean not null, reason text, at timestamptz not null, waits text[] not null
);
create index drift_outbox_at on drift_outbox (at);
`,
};
