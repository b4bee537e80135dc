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

  it('for failure and forecast where it reports no health and is far from the end of a discharge', () => {
    expect(askedOf('soc', 'voltage', 'current', 'temperature', 'power')).toEqual(['failure', 'forecast']);
  });

  it('for its health where it reports nothing else, for its life where it counts cycles too', () => {
    expect(askedOf('soh')).toEqual(['soh']);
    expect(askedOf('soh', 'cycles')).toEqual(['soh', 'rul']);
    expect(askedOf('cycles')).toEqual([]);
  });
});

describe('a pack that reports no health is asked for it', () => {
  /** Ten minutes of discharge, a reading every 10 s, that end at this state. */
  function isAsked(end: Record<string, number>, before: Record<string, number> = {}): boolean {
    const state = newState(battery, 'battery:EV-001');
    for (let i = 0; i <= 60; i++) {
      const at = T0 + i * 10_000;
      const told = {
        ...{ soc: 35, temperature: 24, current: -94, voltage: 318 - i / 2 },
        ...before,
        ...(i === 60 ? end : {}),
      };
      const values = Object.fromEntries(Object.entries(told).filter(([, value]) => !Number.isNaN(value)));
      const reading = { kind: 'battery', id: 'EV-001', at, values };
      fold(state, { type: 'reading', revision: i + 1, receivedAt: at, reading }, []);
    }
    return isDue(state, layoutOf(battery).predictions[0]);
  }

  it('where a discharge comes to its end', () => {
    expect(isAsked({ voltage: 288 })).toBe(true);
    expect(isAsked({ voltage: 280 })).toBe(true);
  });

  it.each([
    ['before that', { voltage: 288.1 }],
    ['far below: no discharge that was learned from is judged there', { voltage: 279.9 }],
    ['at rest, where the voltage says something else', { voltage: 285, current: -0.3 }],
    ['while it is charged', { voltage: 285, current: 47 }],
    ['with nothing left: it is as new, or counts its charge by what it holds today', { voltage: 285, soc: 4.9 }],
  ])('but not %s', (_, end) => {
    expect(isAsked(end)).toBe(false);
  });

  it('but not where the voltage sags for a moment only', () => {
    expect(isAsked({ voltage: 285, current: -400 }, { voltage: 350 })).toBe(false);
    expect(isAsked({ voltage: 285, current: -400 }, { current: 5 })).toBe(false);
  });

  it('but not where it tells no charge, or has only just been heard of', () => {
    expect(isAsked({ voltage: 285 }, { soc: Number.NaN })).toBe(false);
    const state = newState(battery, 'battery:EV-001');
    for (let i = 0; i < 4; i++) {
      const at = T0 + i * 1_000;
      const reading = { kind: 'battery', id: 'EV-001', at, values: { soc: 35, current: -94, voltage: 285 } };
      fold(state, { type: 'reading', revision: i + 1, receivedAt: at, reading }, []);
    }
    expect(isDue(state, layoutOf(battery).predictions[0])).toBe(false);
  });
});
