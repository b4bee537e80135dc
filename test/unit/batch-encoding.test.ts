import { describe, expect, it } from 'vitest';
import { decodeBatch, encodeBatch } from '../../actors/log/batch-encoding.ts';
import { Corrupt } from '../../actors/log/bytes.ts';
import { seededRandom } from '../../actors/protocol/clock.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { shardOf } from '../../actors/protocol/twin-id.ts';

const T0 = 1_750_000_000_000;

/** One reading of a mote, as version 1 has always been. */
const VERSION_1 = '01076d6f746531746880b883a1f732000404010101010001010202030100000028d11907555555555555d53f';

const READINGS: Reading[] = [
  { kind: 'machine', id: 'M_1', at: T0, values: { temperature: 65.5, vibration: -1.234567, pressure: 45 } },
  { kind: 'machine', id: 'M_1', at: T0 - 900_000, values: { vibration: 1 / 3, temperature: 1e-300 }, seq: 7 },
  { kind: 'mote', id: '1', at: 0, values: { humidity: 2 ** 53, light: -(2 ** 31), v: 134_217_728, w: 134_217_727 } },
  { kind: 'mote', id: '2', at: T0 + 1, values: { x: 0 }, sensor: 'sënsor 😀', unit: '°C', untimed: true },
  {
    kind: 'battery',
    id: 'B.1-x',
    at: T0,
    values: { voltage: 3.7 },
    key: 'own-key',
    seq: -3,
    attributes: { site: 'Straße', level: 2, on: true },
  },
  { kind: 'battery', id: 'B.1-x', at: T0, values: { voltage: 0.1 + 0.2 }, seq: 2 ** 53 - 1 },
  { kind: 'battery', id: 'B.1-x', at: T0, values: { voltage: Number.MIN_VALUE }, seq: 1.5 },
];

describe('the encoding of a batch', () => {
  it('gives back every reading bit for bit, with the order of its metrics', () => {
    const batch = decodeBatch(encodeBatch({ receivedAt: T0, readings: READINGS, trace: '00-abc-def-01' }));
    expect(batch).toEqual({ receivedAt: T0, readings: READINGS, trace: '00-abc-def-01' });
    // toEqual does not look at the order of keys
    expect(JSON.stringify(batch.readings)).toBe(JSON.stringify(READINGS));
    expect(decodeBatch(encodeBatch({ receivedAt: 5, readings: [] }))).toEqual({ receivedAt: 5, readings: [] });
  });

  it('gives back any number bit for bit', () => {
    const random = seededRandom(11);
    const words = new Uint32Array(2);
    const double = new Float64Array(words.buffer);
    const readings: Reading[] = [];
    for (let i = 0; i < 5_000; i++) {
      do {
        words[0] = random() * 2 ** 32;
        words[1] = random() * 2 ** 32;
      } while (!Number.isFinite(double[0]));
      const decimals = 10 ** Math.floor(random() * 9);
      const rounded = Math.round((random() - 0.5) * 10 ** Math.floor(random() * 10)) / decimals + 0;
      readings.push({
        kind: 'mote',
        id: `${i % 7}`,
        at: T0 + i,
        values: { a: double[0], b: rounded === 0 ? 0 : rounded },
      });
    }
    const { readings: back } = decodeBatch(encodeBatch({ receivedAt: T0, readings }));
    for (const [i, reading] of back.entries()) {
      for (const name of ['a', 'b']) {
        if (!Object.is(reading.values[name], readings[i].values[name]))
          expect.fail(`${readings[i].values[name]} became ${reading.values[name]}`);
      }
    }
  });

  it('is read again as it was written in version 1', () => {
    const bytes = encodeBatch({
      receivedAt: T0,
      readings: [{ kind: 'mote', id: '1', at: T0 + 20, values: { t: 20.5, h: 1 / 3 } }],
    });
    expect(Buffer.from(bytes).toString('hex')).toBe(VERSION_1);
    expect(decodeBatch(Buffer.from(VERSION_1, 'hex')).readings).toEqual([
      { kind: 'mote', id: '1', at: T0 + 20, values: { t: 20.5, h: 1 / 3 } },
    ]);
  });

  it('refuses any damage with a clear error, or reads valid readings; nothing else comes out', () => {
    const random = seededRandom(3);
    const good = encodeBatch({ receivedAt: T0, readings: READINGS });
    let refused = 0;
    for (let i = 0; i < 20_000; i++) {
      let bytes = Uint8Array.from(good);
      const kind = i % 3;
      if (kind === 0) bytes = bytes.slice(0, Math.floor(random() * bytes.length));
      else if (kind === 1) bytes[Math.floor(random() * bytes.length)] = random() * 256;
      else bytes = Uint8Array.from({ length: 1 + random() * 60 }, (_, n) => (n === 0 ? 1 : random() * 256));
      try {
        const { readings } = decodeBatch(bytes);
        for (const reading of readings) {
          expect(Number.isInteger(reading.at)).toBe(true);
          expect(Object.values(reading.values).every((value) => Number.isFinite(value))).toBe(true);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(Corrupt);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(12_000);
  });

  it('refuses ids outside the allow-list, numbers that are not finite and another version', () => {
    const hostile = (reading: Partial<Reading>) => () =>
      decodeBatch(
        encodeBatch({ receivedAt: T0, readings: [{ kind: 'mote', id: '1', at: T0, values: { t: 1 }, ...reading }] }),
      );
    expect(hostile({})).not.toThrow();
    expect(hostile({ id: '1\r\nPUB x 0' })).toThrow(Corrupt);
    expect(hostile({ kind: 'Mote' })).toThrow(Corrupt);
    expect(hostile({ values: JSON.parse('{"__proto__":1}') })).toThrow(Corrupt);
    expect(hostile({ values: { t: Number.NaN } })).toThrow(Corrupt);
    expect(hostile({ values: { t: -0 } })).toThrow(Corrupt);
    expect(hostile({ values: {} })).toThrow(Corrupt);
    expect(hostile({ attributes: { a: { b: 1 } } as never })).toThrow(Corrupt);
    expect(() => decodeBatch(Uint8Array.of(2, 0))).toThrow(/version 2/);
    expect(() => decodeBatch(Buffer.from('{"readings":[]}'))).toThrow(Corrupt);
  });

  it('refuses a twin of another shard', () => {
    const bytes = encodeBatch({ receivedAt: T0, readings: READINGS.slice(0, 1) });
    const shard = shardOf('machine:M_1', 16);
    expect(decodeBatch(bytes, { shard, shards: 16 }).readings).toHaveLength(1);
    expect(() => decodeBatch(bytes, { shard: (shard + 1) % 16, shards: 16 })).toThrow(/not of this shard/);
  });
});
