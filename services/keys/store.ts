import { decodeCursor, encodeCursor, type Page, pageOf } from '../../actors/store/queries/page.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { Caller, Role } from '../gateway/caller.ts';

/** Rows of `keys`. A revoked key stays, so that the audit trail keeps its name. */
export interface KeyRow {
  id: string;
  name: string;
  role: Role;
  twinId: string | null;
  gateway: boolean;
  createdAt: Date;
  createdBy: string | null;
  lastUsedAt: Date | null;
  revokedAt: Date | null;
}

export interface NewKey {
  id: string;
  name: string;
  role: Role;
  hash: string;
  twinId?: string;
  gateway?: boolean;
  createdBy: string | null;
}

const COLUMNS = `id, name, role, twin_id as "twinId", gateway, created_at as "createdAt", created_by as "createdBy",
  last_used_at as "lastUsedAt", revoked_at as "revokedAt"`;

export async function insertKey(sql: Sql, key: NewKey): Promise<KeyRow> {
  const [row] = await sql.query<KeyRow>(
    `insert into keys (id, name, role, hash, twin_id, gateway, created_by) values ($1, $2, $3, $4, $5, $6, $7)
     returning ${COLUMNS}`,
    [key.id, key.name, key.role, key.hash, key.twinId ?? null, key.gateway ?? false, key.createdBy],
  );
  return row;
}

/** A device key, unless the twin has a live one: then null. */
export async function insertDeviceKey(sql: Sql, key: NewKey): Promise<KeyRow | null> {
  const [row] = await sql.query<KeyRow>(
    `insert into keys (id, name, role, hash, twin_id, gateway, created_by)
     select $1::text, $2::text, $3::text, $4::text, $5::text, $6::boolean, $7::text
     where not exists (select from keys where role = 'device' and twin_id = $5 and revoked_at is null)
     returning ${COLUMNS}`,
    [key.id, key.name, key.role, key.hash, key.twinId ?? null, key.gateway ?? false, key.createdBy],
  );
  return row ?? null;
}

/**
 * The very first admin key of a database. The row in `settings` is taken by one node only, so that two that start
 * together do not make two keys. False where somebody was earlier.
 */
export async function insertFirstKey(sql: Sql, key: NewKey): Promise<boolean> {
  const rows = await sql.query(
    `with first as (
       insert into settings (name, value) values ('first_admin_key', to_jsonb($1::text)) on conflict do nothing returning name
     )
     insert into keys (id, name, role, hash, created_by)
     select $1::text, $2::text, 'admin', $3::text, null from first
     where not exists (select from keys where role = 'admin' and revoked_at is null)
     returning id`,
    [key.id, key.name, key.hash],
  );
  return rows.length > 0;
}

/** Who a live key belongs to, with its hash; null for unknown and revoked ones. */
export async function findKey(sql: Sql, id: string): Promise<(Caller & { hash: string }) | null> {
  const [row] = await sql.query<KeyRow & { hash: string }>(
    `select ${COLUMNS}, hash from keys where id = $1 and revoked_at is null`,
    [id],
  );
  if (!row) return null;
  return {
    keyId: row.id,
    name: row.name,
    role: row.role,
    ...(row.twinId === null ? {} : { twinId: row.twinId }),
    ...(row.gateway ? { gateway: true } : {}),
    hash: row.hash,
  };
}

export interface KeyFilter {
  /** True: keys of devices only; false: all others. */
  devices: boolean;
  limit: number;
  cursor?: string;
}

/** Live and revoked keys, newest first. Throws bad_request for a cursor that is none. */
export async function listKeys(sql: Sql, filter: KeyFilter): Promise<Page<KeyRow>> {
  const scope = `keys ${filter.devices}`;
  const [stamp, id] = filter.cursor ? decodeCursor(filter.cursor, scope, ['integer', 'text']) : [null, null];
  // Microseconds: a Date would lose them, and a page would skip or repeat the neighbours of one millisecond.
  const micros = '(extract(epoch from created_at) * 1000000)::int8';
  const rows = await sql.query<KeyRow & { stamp: number }>(
    `select ${COLUMNS}, ${micros} as stamp from keys
     where (role = 'device') = $1 and ($2::int8 is null or (${micros}, id) < ($2::int8, $3::text))
     order by created_at desc, id desc limit $4`,
    [filter.devices, stamp, id, filter.limit + 1],
  );
  return pageOf(
    rows,
    filter.limit,
    ({ stamp: _, ...row }) => row,
    (row) => encodeCursor(scope, [row.stamp, row.id]),
  );
}

/** Revokes live keys by key id, or by the twin they speak for; answers those it revoked. */
export async function revokeKeys(sql: Sql, by: { id?: string; twinId?: string; devices: boolean }): Promise<KeyRow[]> {
  return sql.query<KeyRow>(
    `update keys set revoked_at = now()
     where revoked_at is null and (role = 'device') = $3 and (id = $1 or twin_id = $2) returning ${COLUMNS}`,
    [by.id ?? null, by.twinId ?? null, by.devices],
  );
}

/** Those of the keys that have been revoked. */
export async function revokedAmong(sql: Sql, ids: readonly string[]): Promise<string[]> {
  const rows = await sql.query<{ id: string }>('select id from keys where id = any($1) and revoked_at is not null', [
    ids,
  ]);
  return rows.map(({ id }) => id);
}

/** Gives a live device key a new secret; its id stays. */
export async function rotateKey(sql: Sql, id: string, hash: string): Promise<KeyRow | null> {
  const [row] = await sql.query<KeyRow>(
    `update keys set hash = $2 where id = $1 and revoked_at is null and role = 'device' returning ${COLUMNS}`,
    [id, hash],
  );
  return row ?? null;
}

/** The live key of a device, by key id or twin id. */
export async function findDevice(sql: Sql, idOrTwinId: string): Promise<KeyRow | null> {
  const [row] = await sql.query<KeyRow>(
    `select ${COLUMNS} from keys where role = 'device' and revoked_at is null and (id = $1 or twin_id = $1) limit 1`,
    [idOrTwinId],
  );
  return row ?? null;
}

export async function touchKeys(sql: Sql, ids: readonly string[], at: Date): Promise<void> {
  await sql.query(
    'update keys set last_used_at = $2 where id = any($1) and (last_used_at is null or last_used_at < $2)',
    [ids, at],
  );
}
