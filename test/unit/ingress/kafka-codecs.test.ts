import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unlz4, unsnappy } from '../../../mixins/kafka-codecs.ts';

/** `abcabcabcabc!`: three literals, a copy of nine from three back, one literal. */
const SNAPPY = Buffer.from([13, 2 << 2, 97, 98, 99, ((9 - 4) << 2) | 1, 3, 0, 33]);
const LZ4_BLOCK = Buffer.from([0x35, 97, 98, 99, 3, 0, 0x10, 33]);
const LZ4_HEAD = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0]);
const sized = (n: number) => Buffer.from([n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24]);
const lz4 = (block: Buffer) => Buffer.concat([LZ4_HEAD, sized(block.length), block, sized(0)]);

describe('compressed records', () => {
  it('are read as the formats say', () => {
    expect(String(unsnappy(SNAPPY))).toBe('abcabcabcabc!');
    const framed = Buffer.concat([
      Buffer.from('\x82SNAPPY\0\0\0\0\x01\0\0\0\x01', 'latin1'),
      Buffer.from([0, 0, 0, 9]),
      SNAPPY,
    ]);
    expect(String(unsnappy(framed))).toBe('abcabcabcabc!');
    expect(String(unlz4(lz4(LZ4_BLOCK)))).toBe('abcabcabcabc!');
    const stored = Buffer.concat([LZ4_HEAD, Buffer.from([2, 0, 0, 0x80]), Buffer.from('hi'), sized(0)]);
    expect(String(unlz4(stored))).toBe('hi');
  });

  it('that are spoilt anywhere end in a refusal or in bytes, never in more memory than they may have', () => {
    const spoil = (whole: Buffer, read: (input: Buffer) => Buffer) =>
      fc.assert(
        fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, cut) => {
          const input = Buffer.from(whole.subarray(0, Math.max(at + 1, cut)));
          input[at] = byte;
          try {
            expect(read(input).length).toBeLessThanOrEqual(input.length * 255);
          } catch (error) {
            expect(String(error)).toMatch(/The records are not (snappy|lz4)/);
          }
        }),
        { numRuns: 2_000 },
      );
    spoil(SNAPPY, unsnappy);
    spoil(lz4(LZ4_BLOCK), unlz4);
  });

  it('that announce what they cannot hold are refused unread', () => {
    expect(() => unsnappy(Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0]))).toThrow('not snappy');
    expect(() => unlz4(Buffer.from('nothing of the kind'))).toThrow('not lz4');
    expect(() => unlz4(lz4(Buffer.from([0x1f, 97, 1, 0, ...Array(600).fill(255), 0])))).toThrow('not lz4');
  });
});
