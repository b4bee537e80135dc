import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import device from '../../../actors/kinds/device.ts';
import machine from '../../../actors/kinds/machine.ts';
import mote from '../../../actors/kinds/mote.ts';
import type { SimulatedAsset } from '../../../actors/protocol/kind.ts';

const KINDS = [battery, device, machine, mote];
const T0 = Date.UTC(2026, 2, 1);
const DAY_MS = 24 * 3_600_000;
const STEPS = 400;

describe.each(KINDS)('a simulated $kind that goes on where it was', ({ simulator }) => {
  const { intervalMs, scenarios, create } = simulator!;
  const runs = [null, ...Object.keys(scenarios)];

  function saying(asset: SimulatedAsset, from: number, count: number): unknown[] {
    return Array.from({ length: count }, (_, i) => [asset.next(from + i * intervalMs), asset.truth()]);
  }

  /** An asset with a past, saved in the middle of it; the scenario has taken hold and is not over when it goes on. */
  function livedIn(index: number, scenario: string | null): { asset: SimulatedAsset; at: number } {
    const asset = create({ seed: 9, index });
    saying(asset, T0, 50);
    if (scenario !== null) asset.inject(scenario, 0.6);
    saying(asset, T0 + 50 * intervalMs, 60);
    return { asset, at: T0 + 110 * intervalMs };
  }

  const savedOf = (asset: SimulatedAsset) => JSON.parse(JSON.stringify(asset.save!()));
  const again = (index: number, saved: Record<string, unknown>, stoodMs: number) => {
    const asset = create({ seed: 9, index });
    asset.resume!(saved, stoodMs);
    return asset;
  };

  it.each(runs)('says what it would have said, to the byte (%s)', (scenario) => {
    for (let index = 0; index < 3; index++) {
      const { asset, at } = livedIn(index, scenario);
      const resumed = again(index, savedOf(asset), 0);
      expect(saying(resumed, at, STEPS)).toEqual(saying(asset, at, STEPS));
    }
  });

  it.each(runs)('does not notice that it stood still for a day (%s)', (scenario) => {
    const { asset, at } = livedIn(1, scenario);
    const resumed = again(1, savedOf(asset), DAY_MS);
    const undated = (said: unknown[]) => JSON.stringify(said).replaceAll(/"timestamp":"[^"]*"/g, '');
    expect(undated(saying(resumed, at + DAY_MS, STEPS))).toBe(undated(saying(asset, at, STEPS)));
  });

  it('saves the same members whatever has happened to it, and a scenario that is about to start', () => {
    const members = Object.keys(create({ seed: 9, index: 0 }).save!());
    for (const scenario of runs) expect(Object.keys(livedIn(0, scenario).asset.save!())).toEqual(members);
    const { asset, at } = livedIn(0, null);
    asset.inject(Object.keys(scenarios)[0], 1);
    const resumed = again(0, savedOf(asset), 0);
    expect(saying(resumed, at, STEPS)).toEqual(saying(asset, at, STEPS));
  });
});
