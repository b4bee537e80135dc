/**
 * Where a reader of the whole fleet is: the seq of the last event of each shard, as one short text that serves as the
 * id of its last event. Version byte, then runs of neighbouring shards: distance from the end of the run before, length,
 * one seq a shard; all of them varints (LEB128), base64url. Shards without events are left out and mean 0.
 */
export type ShardVector = Map<number, number>;

const VERSION = 1;
const MAX_BYTES = 65_536;

export function encodeVector(vector: ShardVector): string {
  const shards: number[] = [];
  for (const [shard, seq] of vector) if (seq > 0) shards.push(shard);
  shards.sort((a, b) => a - b);
  const bytes: number[] = [VERSION];
  let end = 0;
  for (let i = 0; i < shards.length; ) {
    let length = 1;
    while (shards[i + length] === shards[i] + length) length++;
    varint(bytes, shards[i] - end);
    varint(bytes, length);
    for (let k = 0; k < length; k++) varint(bytes, vector.get(shards[i + k]) as number);
    end = shards[i] + length;
    i += length;
  }
  return Buffer.from(bytes).toString('base64url');
}

/** Null where the text is not one of ours. Bounded by `shards`, so that nobody can make it grow. */
export function decodeVector(text: string, shards: number): ShardVector | null {
  if (!/^[A-Za-z0-9_-]+$/.test(text) || text.length > MAX_BYTES) return null;
  const bytes = Buffer.from(text, 'base64url');
  if (bytes[0] !== VERSION) return null;
  const vector: ShardVector = new Map();
  let offset = 1;
  const next = (): number => {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 49; factor *= 128) {
      const byte = bytes[offset++];
      if (byte === undefined) return Number.NaN;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    return Number.NaN;
  };
  let end = 0;
  while (offset < bytes.length) {
    const start = end + next();
    const length = next();
    if (!(length >= 1 && start + length <= shards)) return null;
    for (let k = 0; k < length; k++) {
      const seq = next();
      if (!Number.isSafeInteger(seq)) return null;
      vector.set(start + k, seq);
    }
    end = start + length;
  }
  return vector;
}

function varint(bytes: number[], value: number): void {
  while (value >= 128) {
    bytes.push((value % 128) | 128);
    value = Math.floor(value / 128);
  }
  bytes.push(value);
}
