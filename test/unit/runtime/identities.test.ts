import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packIdentities, unpackIdentities } from '../../../actors/runtime/identities.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { decodeSnapshot, encodeSnapshot } from '../../../actors/runtime/snapshot.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';

const bits = (numbers: Float64Array) => [...new BigUint64Array(numbers.slice().buffer)];

describe('packed identities', () => {
  it('come back bit for bit, whatever they are', () => {
    const usual = fc.tuple(
      fc.nat({ max: Number.MAX_SAFE_INTEGER }),
      fc.nat({ max: Number.MAX_SAFE_INTEGER }),
      fc.nat({ max: 2 ** 32 - 1 }),
    );
    const number = fc.oneof(fc.double(), fc.constantFrom(-0, 0, Number.NaN, -1, 2 ** 53));
    const odd = fc.tuple(number, number, number);
    fc.assert(
      fc.property(fc.array(fc.oneof({ weight: 5, arbitrary: usual }, { weight: 1, arbitrary: odd })), (rows) => {
        const identities = Float64Array.from(rows.sort((a, b) => a[0] - b[0]).flat());
        // a view into a larger buffer, as a snapshot hands it over
        const packed = Buffer.concat([Buffer.from('before'), packIdentities(identities)]).subarray(6);
        expect(bits(unpackIdentities(packed))).toEqual(bits(identities));
      }),
      { numRuns: 300 },
    );
  });

  it('take about a third of the room of what a sensor sends', () => {
    const identities = new Float64Array(600 * 3);
    for (let i = 0; i < 600; i++) identities.set([1_750_000_000_000 + i * 1000, 15, (i * 2654435761) >>> 0], i * 3);
    expect(packIdentities(identities).length).toBeLessThan(600 * 8);
  });

  it('are refused when they are damaged', () => {
    const packed = packIdentities(Float64Array.from([1_750_000_000_000, 15, 7, 1_750_000_001_000, 15, 8]));
    for (let length = 0; length < packed.length; length++)
      expect(() => unpackIdentities(packed.slice(0, length))).toThrow(RangeError);
    expect(() => unpackIdentities(Uint8Array.from([...packed, 0]))).toThrow(RangeError);
    expect(() => unpackIdentities(Uint8Array.from([7]))).toThrow(RangeError);
    expect(() => unpackIdentities(Uint8Array.from([1, ...new Array(9).fill(0xff)]))).toThrow(RangeError);
  });
});

describe('a snapshot of shape 1', () => {
  it('is read as it was written: identities as they lie in memory', async () => {
    const kind = (await loadKinds()).get('machine');
    const state = newState(kind, 'machine:old');
    for (let i = 1; i <= 50; i++) {
      const at = 1_750_000_000_000 + i * 1000;
      const reading = { kind: 'machine', id: 'old', at, values: { temperature: 60 + i / 7 } };
      fold(state, { type: 'reading', revision: i, receivedAt: at, reading }, []);
    }
    const bytes = Buffer.from(encodeSnapshot(state, { duplicates: 1, backfilled: 2 }));
    const identities = state.recent.toArray();
    const before = Buffer.concat([
      bytes.subarray(0, bytes.length - packIdentities(identities).length),
      new Uint8Array(identities.buffer),
    ]);
    const restored = decodeSnapshot(kind, 'machine:old', 1, kind.version, before);
    expect(bits(restored.state.n)).toEqual(bits(state.n));
    expect(bits(restored.state.recent.toArray())).toEqual(bits(identities));
    expect(restored.counts).toEqual({ duplicates: 1, backfilled: 2 });
    // read as the other shape, either is damaged
    expect(() => decodeSnapshot(kind, 'machine:old', 2, kind.version, before)).toThrow(/damaged/);
    expect(() => decodeSnapshot(kind, 'machine:old', 2, kind.version, bytes.subarray(0, -3))).toThrow(/damaged/);
  });
});
