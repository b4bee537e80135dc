#!/bin/sh
# Makes the bucket of the plant and the user of its nodes, who may read, write and list that bucket and nothing else. Safe to
# run again: compose does at every start.
set -eu
mc alias set plant http://minio:9000 "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" >/dev/null
mc mb --ignore-existing plant/twinmesh
mc admin user add plant twinmesh "$MINIO_TWINMESH_PASSWORD"
mc admin policy create plant twinmesh /setup/policy.json
# Attached already is no fault.
mc admin policy attach plant twinmesh --user twinmesh || mc admin user info plant twinmesh | grep -q 'PolicyName: twinmesh'
