import type { Kind } from '../protocol/kind.ts';
import { identityOf, type Reading } from '../protocol/reading.ts';
import { hash32 } from '../protocol/twin-id.ts';

/**
 * Identities and values of readings as numbers, for the memory of duplicates. The common case (a closed kind, no id,
 * seq or sensor of its own) is the bit mask of its metrics, with no string made and no collision possible.
 */
const OWN = 2 ** 31;
const bits = new Float64Array(1);
const words = new Uint32Array(bits.buffer);

/** A number below 2^53 that names the identity beside its time. */
export function identityHash(kind: Kind, reading: Reading): number {
  if (reading.key === undefined && reading.seq === undefined && reading.sensor === undefined && !kind.openMetrics) {
    const names = kind.metricNames;
    if (names.length <= 30) {
      let mask = 0;
      for (let i = 0; i < names.length; i++) if (reading.values[names[i]] !== undefined) mask |= 1 << i;
      return mask;
    }
  }
  const text = identityOf(reading);
  return OWN + hash32(text) * 2 ** 20 + (hash32(text, 0x9747b28c) >>> 12);
}

/** 32 bits over the values: two readings of one identity with different values conflict. */
export function valuesHash(kind: Kind, reading: Reading): number {
  let h = 0x811c9dc5;
  const values = reading.values;
  const names = kind.openMetrics ? Object.keys(values).sort() : kind.metricNames;
  for (let i = 0; i < names.length; i++) {
    const value = values[names[i]];
    if (value === undefined) continue;
    bits[0] = value;
    h = Math.imul(h ^ words[0], 0x01000193);
    h = Math.imul(h ^ words[1], 0x85ebca6b);
    h ^= h >>> 15;
  }
  return h >>> 0;
}
