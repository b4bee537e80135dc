#!/bin/sh
# Run by the database image at its first start, on an empty volume, as the superuser.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  -v owner_password="$POSTGRES_OWNER_PASSWORD" -v runtime_password="$POSTGRES_RUNTIME_PASSWORD" -v reader_password="$POSTGRES_READER_PASSWORD" \
  -c 'create extension if not exists timescaledb' -f /twinmesh/roles.sql
