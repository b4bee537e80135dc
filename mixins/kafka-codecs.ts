import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import kafkajs from 'kafkajs';

/**
 * The compressions of Kafka, of which the client library knows gzip alone; without the others a single producer that uses one
 * would stop everybody who reads its topic. We write none of snappy and lz4, so those only read.
 *
 *  1  Input comes from whoever may write to a topic: no length in it is believed, and nothing grows beyond MAX_BYTES.
 */
const MAX_BYTES = 128 * 2 ** 20;

/** Snappy, raw as librdkafka writes it or in the frames of snappy-java. Throws on what is none. */
export function unsnappy(input: Buffer): Buffer {
  const framed = input.length >= 16 && input[0] === 0x82 && input.toString('latin1', 1, 7) === 'SNAPPY';
  if (!framed) return unsnappyBlock(input, MAX_BYTES);
  const parts: Buffer[] = [];
  let room = MAX_BYTES;
  for (let at = 16; at < input.length; ) {
    const length = input.readUInt32BE(at);
    at += 4;
    if (length > input.length - at) throw spoilt('snappy');
    const part = unsnappyBlock(input.subarray(at, at + length), room);
    room -= part.length;
    parts.push(part);
    at += length;
  }
  return Buffer.concat(parts);
}

function unsnappyBlock(input: Buffer, room: number): Buffer {
  let size = 0;
  let at = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = input[at++];
    if (byte === undefined || shift > 28) throw spoilt('snappy');
    size += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
  }
  // The best that snappy does is 64 bytes for 3.
  if (size > room || size > input.length * 64) throw spoilt('snappy');
  const out = Buffer.alloc(size);
  let to = 0;
  while (at < input.length) {
    const tag = input[at++];
    const kind = tag & 3;
    let length: number;
    if (kind === 0) {
      length = (tag >> 2) + 1;
      if (length > 60) {
        const bytes = length - 60;
        if (at + bytes > input.length) throw spoilt('snappy');
        length = input.readUIntLE(at, bytes) + 1;
        at += bytes;
      }
      if (length > input.length - at || length > size - to) throw spoilt('snappy');
      input.copy(out, to, at, at + length);
      at += length;
      to += length;
      continue;
    }
    const bytes = kind === 3 ? 4 : kind;
    if (at + bytes > input.length) throw spoilt('snappy');
    let offset = input.readUIntLE(at, bytes);
    at += bytes;
    length = (tag >> 2) + 1;
    if (kind === 1) {
      length = ((tag >> 2) & 7) + 4;
      offset += (tag >> 5) << 8;
    }
    to = repeat(out, to, offset, length, size, 'snappy');
  }
  if (to !== size) throw spoilt('snappy');
  return out;
}

/** An lz4 frame, of independent or linked blocks. Checksums are Kafka's affair, which has its own. Throws on what is none. */
export function unlz4(input: Buffer): Buffer {
  if (input.length < 7 || input.readUInt32LE(0) !== 0x184d2204) throw spoilt('lz4');
  const flags = input[4];
  const block = [0, 0, 0, 0, 65_536, 262_144, 1_048_576, 4_194_304][(input[5] >> 4) & 7];
  if (flags >> 6 !== 1 || block === 0) throw spoilt('lz4');
  let at = 7 + (flags & 8 ? 8 : 0) + (flags & 1 ? 4 : 0);
  let out = Buffer.alloc(Math.min(MAX_BYTES, input.length * 4 + block));
  let to = 0;
  for (;;) {
    if (at + 4 > input.length) throw spoilt('lz4');
    const head = input.readUInt32LE(at);
    at += 4;
    if (head === 0) return out.subarray(0, to);
    const length = head % 2 ** 31;
    if (length > input.length - at) throw spoilt('lz4');
    if (to + block > MAX_BYTES) throw spoilt('lz4');
    if (to + block > out.length) out = Buffer.concat([out], Math.min(MAX_BYTES, 2 * out.length + block));
    const data = input.subarray(at, at + length);
    if (head < 2 ** 31) to = unlz4Block(data, out, to, to + block);
    else {
      if (length > block) throw spoilt('lz4');
      data.copy(out, to);
      to += length;
    }
    at += length + (flags & 16 ? 4 : 0);
  }
}

function unlz4Block(input: Buffer, out: Buffer, start: number, end: number): number {
  let to = start;
  let at = 0;
  const more = (length: number): number => {
    for (;;) {
      const byte = input[at++];
      if (byte === undefined) throw spoilt('lz4');
      length += byte;
      if (byte !== 255) return length;
    }
  };
  while (at < input.length) {
    const token = input[at++];
    const literals = token >> 4 === 15 ? more(15) : token >> 4;
    if (literals > input.length - at || literals > end - to) throw spoilt('lz4');
    input.copy(out, to, at, at + literals);
    at += literals;
    to += literals;
    if (at === input.length) break;
    if (at + 2 > input.length) throw spoilt('lz4');
    const offset = input.readUInt16LE(at);
    at += 2;
    const length = ((token & 15) === 15 ? more(15) : token & 15) + 4;
    to = repeat(out, to, offset, length, end, 'lz4');
  }
  return to;
}

/** What stood `offset` back once more; it may reach into itself. */
function repeat(out: Buffer, to: number, offset: number, length: number, end: number, what: string): number {
  if (offset === 0 || offset > to || length > end - to) throw spoilt(what);
  if (offset >= length) out.copy(out, to, to - offset, to - offset + length);
  else for (let i = 0; i < length; i++) out[to + i] = out[to + i - offset];
  return to + length;
}

function spoilt(what: string): Error {
  return new Error(`The records are not ${what}.`);
}

const readOnly = (what: string) => () => Promise.reject(new Error(`${what} is not written here.`));
const codec =
  (compress: (input: { buffer: Buffer }) => Promise<Buffer>, decompress: (input: Buffer) => Buffer) => () => ({
    compress,
    decompress: async (input: Buffer) => decompress(input),
  });
const bounded = { maxOutputLength: MAX_BYTES };
const codecs = kafkajs.CompressionCodecs as Record<number, unknown>;
const { GZIP, Snappy, LZ4, ZSTD } = kafkajs.CompressionTypes;
codecs[GZIP] = codec(
  async ({ buffer }) => gzipSync(buffer),
  (input) => gunzipSync(input, bounded),
);
codecs[ZSTD] = codec(
  async ({ buffer }) => zstdCompressSync(buffer),
  (input) => zstdDecompressSync(input, bounded),
);
codecs[Snappy] = codec(readOnly('snappy'), unsnappy);
codecs[LZ4] = codec(readOnly('lz4'), unlz4);
