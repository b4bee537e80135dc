import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { ID_PATTERN, twinIdOf } from '../../actors/protocol/twin-id.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { mintKey } from './hashing.ts';
import { keyRing } from './keyring.ts';
import { type Doorstep, type Sketches, sketchesOf } from './sketch.ts';
import { findDevice, insertDeviceKey, type KeyRow, revokeKeys, rotateKey } from './store.ts';

/** A device and all that its owner needs to connect it. The key is in here once and nowhere else. */
export interface Enrolment {
  id: string;
  name: string;
  kind: string;
  twinId: string;
  gateway: boolean;
  key: string;
  /** MQTT topic it publishes on. */
  topic: string;
  address: { mqtt: string; http: string };
  sketches: Sketches;
}

export interface NewDevice {
  name: string;
  kind: string;
  /** Asset id; default: made from the name. */
  id?: string;
  /** May speak for every asset, not for itself alone. */
  gateway?: boolean;
}

/** What enrolment needs of the node. */
export interface EnrolmentContext {
  sql: Sql;
  kinds: { get(kind: string): Kind };
  doorstep: Doorstep;
}

/** Enrols a device. Throws unknown_kind, bad_id, conflict when the asset has a live key already. */
export async function enrolDevice(context: EnrolmentContext, device: NewDevice, by: string): Promise<Enrolment> {
  const kind = context.kinds.get(device.kind);
  const id = device.id ?? idOfName(device.name);
  if (!ID_PATTERN.test(id)) {
    throw new TwinmeshError('bad_id', `No id can be made of this name; give one of A-Z a-z 0-9 . _ - as "id".`);
  }
  const minted = mintKey();
  const twinId = twinIdOf(kind.kind, id);
  const row = await insertDeviceKey(context.sql, {
    id: minted.id,
    name: device.name,
    role: 'device',
    hash: minted.hash,
    twinId,
    gateway: device.gateway ?? false,
    createdBy: by,
  });
  if (!row) throw new TwinmeshError('conflict', `${twinId} is enrolled already; rotate or revoke its key.`);
  return enrolmentOf(context, row, minted.key);
}

/** A new secret for a device, by key id or twin id; the old one stops working at once. Throws not_found. */
export async function rotateDevice(context: EnrolmentContext, idOrTwinId: string): Promise<Enrolment> {
  const device = await findDevice(context.sql, idOrTwinId);
  if (!device) throw new TwinmeshError('not_found', `No device ${idOrTwinId} is enrolled.`);
  const minted = mintKey(device.id);
  const row = await rotateKey(context.sql, device.id, minted.hash);
  if (!row) throw new TwinmeshError('not_found', `No device ${idOrTwinId} is enrolled.`);
  keyRing(context.sql).forget(row.id);
  return enrolmentOf(context, row, minted.key);
}

/** Ends a device's key, by key id or twin id; answers the key ids that ended. Throws not_found. */
export async function revokeDevice(sql: Sql, idOrTwinId: string): Promise<string[]> {
  const rows = await revokeKeys(sql, { id: idOrTwinId, twinId: idOrTwinId, devices: true });
  if (rows.length === 0) throw new TwinmeshError('not_found', `No device ${idOrTwinId} is enrolled.`);
  for (const row of rows) keyRing(sql).forget(row.id);
  return rows.map((row) => row.id);
}

function enrolmentOf(context: EnrolmentContext, row: KeyRow, key: string): Enrolment {
  const twinId = row.twinId as string;
  const colon = twinId.indexOf(':');
  const kind = context.kinds.get(twinId.slice(0, colon));
  const id = twinId.slice(colon + 1);
  const topic = `twins/${kind.kind}/${id}/telemetry`;
  const { doorstep } = context;
  return {
    id: row.id,
    name: row.name,
    kind: kind.kind,
    twinId,
    gateway: row.gateway,
    key,
    topic,
    address: {
      mqtt: `mqtt://${doorstep.mqttHost}:${doorstep.mqttPort}`,
      http: `http://${doorstep.httpHost}:${doorstep.httpPort}`,
    },
    sketches: sketchesOf({ doorstep, kind, id, key, topic }),
  };
}

function idOfName(name: string): string {
  return name
    .normalize('NFKD')
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[-.]+|-+$/g, '')
    .slice(0, 128);
}
