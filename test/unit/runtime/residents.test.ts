import { describe, expect, it } from 'vitest';
import type { Activation } from '../../../actors/runtime/activation.ts';
import { Residents } from '../../../actors/runtime/residents.ts';

const named = (twinId: string) => ({ twinId }) as Activation;

describe('residents', () => {
  it('are found by kind and id as by their twin id, until they leave', () => {
    const residents = new Residents();
    const [pump, mote] = [named('pump:7'), named('mote:7')];
    residents.set('pump:7', pump).set('mote:7', mote);
    expect(residents.of('pump', '7')).toBe(pump);
    expect(residents.of('mote', '7')).toBe(mote);
    expect(residents.of('machine', '7')).toBeUndefined();
    const again = named('pump:7');
    residents.set('pump:7', again);
    expect(residents.of('pump', '7')).toBe(again);

    const before = residents.departures;
    expect(residents.delete('pump:7')).toBe(true);
    expect(residents.departures).toBeGreaterThan(before);
    expect(residents.of('pump', '7')).toBeUndefined();
    expect(residents.of('mote', '7')).toBe(mote);
    residents.clear();
    expect(residents.size).toBe(0);
    expect(residents.of('mote', '7')).toBeUndefined();
  });
});
