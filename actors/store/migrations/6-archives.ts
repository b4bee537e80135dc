/** What has been written to the cold archive. `day` is the start of a UTC day. */
export const ARCHIVES = {
  version: 6,
  name: 'archives',
  sql: `
create table archives (
  key text primary key, kind text not null, day timestamptz not null, first_id text collate "C" not null, last_id text collate "C" not null,
  rows bigint not null, bytes bigint not null, sha256 text not null, late boolean not null, written_at timestamptz not null
);
create index archives_day on archives (kind, day);
-- How many of the rows that the database has of a twin's day are in the archive.
create table archive_rows (
  twin bigint not null, day timestamptz not null, kind text not null, rows bigint not null, primary key (twin, day, kind)
);
create index archive_rows_day on archive_rows (kind, day);
-- Days before done_to have been written.
create table archive_state (kind text primary key, step_no bigint not null default 0, done_to timestamptz not null default 'epoch');
`,
} as const;
