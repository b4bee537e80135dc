import { TwinmeshError } from './errors.ts';

/** `kind:id`, e.g. `machine:MACHINE_001`. The one name of a twin in every protocol. */
export type TwinId = string;

/** The allow-list for ids before any topic, subject, SQL or Cypher sees them. */
export const ID_PATTERN = /^[A-Za-z0-9._-]{1,128}$/;
/** Kind names become table names and topic levels: lower case, digits, underscore. */
export const KIND_PATTERN = /^[a-z][a-z0-9_]{0,30}$/;
/** Metric names become columns and JSON keys. A leading letter also keeps `__proto__` out. */
export const METRIC_PATTERN = /^[A-Za-z][A-Za-z0-9_.-]{0,62}$/;

export function isId(value: unknown): value is string {
  return typeof value === 'string' && ID_PATTERN.test(value);
}

export function twinIdOf(kind: string, id: string): TwinId {
  return `${kind}:${id}`;
}

/** Splits a twin id. Throws `bad_id`. */
export function parseTwinId(twinId: string): { kind: string; id: string } {
  const colon = typeof twinId === 'string' ? twinId.indexOf(':') : -1;
  const kind = colon < 0 ? '' : twinId.slice(0, colon);
  const id = colon < 0 ? '' : twinId.slice(colon + 1);
  if (!KIND_PATTERN.test(kind) || !ID_PATTERN.test(id)) {
    throw new TwinmeshError('bad_id', 'A twin id is kind:id, with an id of A-Z a-z 0-9 . _ - up to 128 characters.');
  }
  return { kind, id };
}

export function isTwinId(value: unknown): value is TwinId {
  if (typeof value !== 'string') return false;
  const colon = value.indexOf(':');
  return colon > 0 && KIND_PATTERN.test(value.slice(0, colon)) && ID_PATTERN.test(value.slice(colon + 1));
}

/** FNV-1a over UTF-16 units with a final avalanche (murmur3 fmix32): ids that differ in the last digit spread evenly. */
export function hash32(text: string, seed = 0x811c9dc5): number {
  let h = seed;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  h ^= h >>> 16;
  return h >>> 0;
}

/** Shard of a twin: `hash(kind:id) mod shards`. Persisted by its effects: never change it. */
export function shardOf(twinId: TwinId, shards: number): number {
  return hash32(twinId) % shards;
}
