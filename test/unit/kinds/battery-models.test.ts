import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import { isDue } from '../../../actors/runtime/foretelling.ts';
import { layoutOf } from '../../../actors/runtime/layout.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';

/** Which models a pack is asked, by what it reports. */
const T0 = Date.UTC(2026, 0, 1);
const ALL = { soc: 80, voltage: 380, current: -20, temperature: 22, power: 7_600, soh: 93, cycles: 300 };

function askedOf(...metrics: (keyof typeof ALL)[]): string[] {
  const state = newState(battery, 'battery:EV-001');
  for (let i = 0; i < 25; i++) {
    const at = T0 + i * 1_000;
    const values = Object.fromEntries(metrics.map((metric) => [metric, ALL[metric]]));
    const reading = { kind: 'battery', id: 'EV-001', at, values };
    fold(state, { type: 'reading', revision: i + 1, receivedAt: at, reading }, []);
  }
  return layoutOf(battery)
    .predictions.filter((plan) => isDue(state, plan))
    .map(({ name }) => name);
}

describe('a pack is asked', () => {
  it('everything where it reports everything', () => {
    expect(askedOf('soc', 'voltage', 'current', 'temperature', 'power', 'soh', 'cycles')).toEqual([
      'soh',
      'rul',
      'failure',
      'forecast',
    ]);
  });

  it('for failure and forecast where it reports no health: what it held when new cannot be told from outside', () => {
    expect(askedOf('soc', 'voltage', 'current', 'temperature', 'power')).toEqual(['failure', 'forecast']);
  });

  it('for its health where it reports nothing else, for its life where it counts cycles too', () => {
    expect(askedOf('soh')).toEqual(['soh']);
    expect(askedOf('soh', 'cycles')).toEqual(['soh', 'rul']);
    expect(askedOf('cycles')).toEqual([]);
  });
});
