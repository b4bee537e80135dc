import { RECENT_SLOTS } from '../rolling/recent.ts';

/**
 * The identities of a twin (rolling/recent.ts) as bytes, for its snapshot: about seven bytes an identity instead of 24.
 *
 *     1 | count | for each: at − at before it, identity, hash of the values (u32)        numbers as LEB128
 *     0 | the numbers as they are                                                        where one is no whole number
 *
 * Owns the packing only. Invariant: what is unpacked is what was packed, bit for bit.
 */
const PLAIN = 0;
const PACKED = 1;
/** LEB128 of a number below 2^53 is at most so long. */
const MAX_VARINT = 8;
const TWO_32 = 2 ** 32;

export function packIdentities(identities: Float64Array): Uint8Array {
  const bytes = new Uint8Array(1 + MAX_VARINT + (identities.length / RECENT_SLOTS) * (2 * MAX_VARINT + 4));
  bytes[0] = PACKED;
  let p = putVarint(bytes, 1, identities.length / RECENT_SLOTS);
  let before = 0;
  for (let i = 0; i < identities.length; i += RECENT_SLOTS) {
    const at = identities[i];
    const identity = identities[i + 1];
    const values = identities[i + 2];
    if (!isPackable(at - before) || !isPackable(at) || !isPackable(identity) || !Object.is(values >>> 0, values)) {
      return plain(identities);
    }
    p = putVarint(bytes, p, at - before);
    p = putVarint(bytes, p, identity);
    bytes[p] = values;
    bytes[p + 1] = values >>> 8;
    bytes[p + 2] = values >>> 16;
    bytes[p + 3] = values >>> 24;
    p += 4;
    before = at;
  }
  return bytes.subarray(0, p);
}

/** Throws RangeError where the bytes are damaged. */
export function unpackIdentities(bytes: Uint8Array): Float64Array {
  if (bytes[0] === PLAIN && (bytes.length - 1) % (8 * RECENT_SLOTS) === 0) {
    const identities = new Float64Array((bytes.length - 1) / 8);
    new Uint8Array(identities.buffer).set(bytes.subarray(1));
    return identities;
  }
  if (bytes[0] !== PACKED) throw new RangeError('The identities are of no known packing.');
  const cursor = { bytes, p: 1 };
  const count = takeVarint(cursor);
  // five bytes an identity at least: a damaged count must not ask for gigabytes
  if (count * 6 > bytes.length) throw new RangeError('The identities end early.');
  const identities = new Float64Array(count * RECENT_SLOTS);
  let at = 0;
  for (let i = 0; i < identities.length; i += RECENT_SLOTS) {
    at += takeVarint(cursor);
    identities[i] = at;
    identities[i + 1] = takeVarint(cursor);
    const p = cursor.p;
    identities[i + 2] = (bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24)) >>> 0;
    cursor.p += 4;
  }
  if (cursor.p !== bytes.length) throw new RangeError('The identities do not end where their bytes end.');
  return identities;
}

function plain(identities: Float64Array): Uint8Array {
  const bytes = new Uint8Array(1 + identities.byteLength);
  bytes[0] = PLAIN;
  bytes.set(new Uint8Array(identities.buffer, identities.byteOffset, identities.byteLength), 1);
  return bytes;
}

function isPackable(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0);
}

function putVarint(bytes: Uint8Array, at: number, value: number): number {
  let p = at;
  let rest = value;
  while (rest >= TWO_32) {
    bytes[p++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  rest >>>= 0;
  while (rest >= 128) {
    bytes[p++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[p++] = rest;
  return p;
}

function takeVarint(cursor: { bytes: Uint8Array; p: number }): number {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < MAX_VARINT; i++) {
    const byte = cursor.bytes[cursor.p++];
    if (byte === undefined) throw new RangeError('The identities end early.');
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 128;
  }
  throw new RangeError('A number of the identities has no end.');
}
