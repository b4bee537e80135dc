-- What the runtime and the reader may do with the tables there are; run by the owner after each migration
-- (`npm run migrate -- --grants deploy/postgres/grants.sql`). Idempotent.
grant select, insert, update, delete on all tables in schema public to twinmesh_runtime;
grant usage, select on all sequences in schema public to twinmesh_runtime;
grant select on all tables in schema public to twinmesh_reader;
revoke all on keys, audit from twinmesh_reader;
