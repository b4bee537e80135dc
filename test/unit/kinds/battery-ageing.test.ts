import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import { featureReader } from '../../../actors/runtime/features.ts';
import { H } from '../../../actors/runtime/layout.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';

const T0 = Date.UTC(2026, 0, 1, 8);
const DAY = 86_400_000;
const create = (parameters?: Record<string, number>) => battery.simulator!.create({ seed: 3, index: 0, parameters });

/** Folds what a pack says, every `stepMs` over `spanMs`; answers features by name. */
function twinOf(asset: ReturnType<typeof create>, spanMs: number, stepMs: number): (name: string) => number {
  const state = newState(battery, `battery:${asset.id}`);
  for (let at = T0; at <= T0 + spanMs; at += stepMs) {
    const { values } = battery.formats[0].decode(asset.next(at)!, undefined);
    const reading = { kind: 'battery', id: asset.id, at, values: values as Record<string, number> };
    fold(state, { type: 'reading', revision: state.n[H.REVISION] + 1, receivedAt: at, reading }, []);
  }
  return (name) => {
    const out = new Float64Array(1);
    featureReader(battery, [name]).read(state, out, 0);
    return out[0];
  };
}

describe('an ageing pack', () => {
  it('is worn out after as many cycles as its truth says', () => {
    const asset = create({ knee: 700, cycles: 650 });
    asset.next(T0);
    const { rul, cycles } = asset.truth();
    expect(rul).toBeGreaterThan(50);
    for (let at = T0; asset.truth().soh > 80; at += DAY / 4) asset.next(at);
    expect(Math.abs(asset.truth().cycles - cycles - rul)).toBeLessThan(0.03 * rul + 2);
  });

  it('loses more a cycle past its knee than before it, which a straight line does not see', () => {
    const lost = (from: number) => {
      const [young, old] = [from, from + 50].map((cycles) => {
        const asset = create({ knee: 700, cycles, usage: 600 });
        asset.next(T0);
        return asset.truth().soh;
      });
      return young - old;
    };
    expect(lost(750)).toBeGreaterThan(3 * lost(400));
  });

  it.each(['wear', '__proto__', 'toString'])('refuses the parameter %j', (name) => {
    expect(() => create(Object.fromEntries([[name, 1]]))).toThrow(expect.objectContaining({ code: 'bad_request' }));
  });
});

describe('features of a pack', () => {
  it('tell its resistance from means alone', () => {
    const asset = create();
    const feature = twinOf(asset, 1_200_000, 2_000);
    const { r } = asset.truth();
    expect(Math.abs(feature('resistance_5m') / r - 1)).toBeLessThan(0.15);
  });

  it('tell how it fades once there are cycles enough, and nothing before', () => {
    const asset = create({ knee: 800, cycles: 300 });
    expect(twinOf(create({ knee: 800, cycles: 300 }), DAY, 600_000)('fade')).toBeNaN();
    asset.next(T0 - 1);
    const before = asset.truth();
    const feature = twinOf(asset, 60 * DAY, 1_800_000);
    const after = asset.truth();
    const fade = (before.soh - after.soh) / (after.cycles - before.cycles);
    expect(Math.abs(feature('fade') / fade - 1)).toBeLessThan(0.1);
  });
});

describe('the kind', () => {
  it('warns of a developing fault by its prediction, and of wear by remaining life', () => {
    const rule = battery.rules.find(({ metric }) => metric === 'predictions.failure');
    expect(rule).toMatchObject({ name: 'failure_likely', severity: 'high' });
    const { inspectBelowH, scheduleBelowH, stopBelowH, hoursPerUnit } = battery.models!.rul.maintenance!;
    expect(inspectBelowH).toBeGreaterThan(scheduleBelowH);
    expect(scheduleBelowH).toBeGreaterThan(stopBelowH);
    // what the model says at most must not already ask for an inspection
    expect(300 * hoursPerUnit!).toBeGreaterThan(inspectBelowH);
  });
});
