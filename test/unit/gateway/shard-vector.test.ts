import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeVector, encodeVector } from '../../../services/twins/shard-vector.ts';

const vectors = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 4095 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })), {
    selector: ([shard]) => shard,
    maxLength: 300,
  })
  .map((pairs) => new Map(pairs));

describe('shard vector', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(vectors, (vector) => {
        const text = encodeVector(vector);
        expect(text).toMatch(/^[A-Za-z0-9_-]+$/);
        const back = decodeVector(text, 4096) as Map<number, number>;
        expect([...back].sort(([a], [b]) => a - b)).toEqual([...vector].sort(([a], [b]) => a - b));
      }),
    );
  });

  it('leaves out shards without events', () => {
    expect(encodeVector(new Map([[3, 0]]))).toBe(encodeVector(new Map()));
    expect(decodeVector(encodeVector(new Map()), 16)).toEqual(new Map());
  });

  it('fits into a header with every shard there may be', () => {
    const vector = new Map(Array.from({ length: 4096 }, (_, shard) => [shard, 1_000_000 + shard]));
    expect(encodeVector(vector).length).toBeLessThan(24_000);
    const usual = new Map(Array.from({ length: 256 }, (_, shard) => [shard, 5000 + shard]));
    expect(encodeVector(usual).length).toBeLessThan(700);
  });

  it.each([['', '!', 'AA', 'AQ=', '7', encodeVector(new Map([[16, 1]]))]])('takes %j for none of ours', (...texts) => {
    for (const text of texts) expect(decodeVector(text, 16)).toBeNull();
  });

  it('answers a vector within bounds or null, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const vector = decodeVector(Buffer.from([1, ...bytes]).toString('base64url'), 16);
        for (const [shard, seq] of vector ?? []) {
          expect(shard).toBeLessThan(16);
          expect(Number.isSafeInteger(seq)).toBe(true);
        }
      }),
    );
  });
});
