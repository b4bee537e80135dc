-- Roles of the plant's database; run once by a superuser, in the database of the plant, before the first migration:
--
--   psql -v ON_ERROR_STOP=1 -v owner_password=… -v runtime_password=… -v reader_password=… -f roles.sql
--
--   twinmesh_owner    migrates: owns the schema and every table in it. Used by `npm run migrate` only.
--   twinmesh_runtime  the nodes: reads and writes rows, no DDL, no truncate.
--   twinmesh_reader   people and dashboards: reads, except the hashes of keys and the audit trail.
--
-- What tables the last two may touch is in grants.sql, which the owner runs after each migration. None of them is a superuser,
-- makes databases or roles, or replicates. Idempotent: a second run sets the passwords anew.
\set QUIET on
select format('create role %I', name) from unnest(array['twinmesh_owner', 'twinmesh_runtime', 'twinmesh_reader']) as name
  where not exists (select from pg_roles where rolname = name)
\gexec
alter role twinmesh_owner login nosuperuser nocreatedb nocreaterole noreplication password :'owner_password';
alter role twinmesh_runtime login nosuperuser nocreatedb nocreaterole noreplication password :'runtime_password';
alter role twinmesh_reader login nosuperuser nocreatedb nocreaterole noreplication password :'reader_password';
-- A dashboard must not hold an old snapshot open: the ownership rows would bloat.
alter role twinmesh_reader set statement_timeout = '30s';
alter role twinmesh_reader set idle_in_transaction_session_timeout = '10s';
alter role twinmesh_reader set default_transaction_read_only = on;
select format('revoke all on database %I from public', current_database())
\gexec
select format('grant connect on database %I to twinmesh_owner, twinmesh_runtime, twinmesh_reader', current_database())
\gexec
-- Temporary tables are DDL too; continuous aggregates of TimescaleDB need no right on the database.
revoke all on schema public from public;
grant usage, create on schema public to twinmesh_owner;
grant usage on schema public to twinmesh_runtime, twinmesh_reader;
