import type { Emitted } from '../../actors/protocol/event.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { H } from '../../actors/runtime/layout.ts';
import { newState } from '../../actors/runtime/state.ts';
import { fold } from '../../actors/runtime/turn.ts';
import { type Figure, median, type Scenario, seconds } from '../scenario.ts';

const TWINS = 1_000;
const READINGS = 1_000_000;
const T0 = 1_750_000_000_000;

/** Folding alone: the turn with three windows a metric, rules and detectors on, one core. */
const scenario: Scenario = {
  name: 'fold',
  title: `${READINGS.toLocaleString('en-US')} readings into ${TWINS.toLocaleString('en-US')} twins, windows, rules and detectors on`,
  async run() {
    const kinds = await loadKinds();
    const figures: Figure[] = [];
    for (const name of ['machine', 'mote', 'battery']) {
      const kind = kinds.get(name);
      const readings = prepare(kind);
      const rates: number[] = [];
      for (let round = 0; round < 4; round++) rates.push(READINGS / (await seconds(() => foldAll(kind, readings))));
      figures.push({
        what: `${name} (${kind.metricNames.length} metrics × ${kind.windowNames.length} windows)`,
        value: median(rates.slice(1)),
        unit: 'readings/s',
        ...(name === 'battery'
          ? { note: `seven metrics: ${Math.round((median(rates.slice(1)) * 7) / 1000)} k values/s` }
          : { atLeast: 500_000 }),
      });
    }
    return figures;
  },
};
export default scenario;

/** A slow wave around the middle of what is normal, a second apart. */
function prepare(kind: Kind): Reading[] {
  return Array.from({ length: READINGS }, (_, i) => {
    const values: Record<string, number> = {};
    for (const metric of kind.metricNames) {
      const { min, max, normal } = kind.metrics[metric];
      const [lo, hi] = normal ?? [min, max];
      values[metric] = (lo + hi) / 2 + ((hi - lo) / 50) * Math.sin(i * 0.37);
    }
    return { kind: kind.kind, id: 'x', at: T0 + Math.floor(i / TWINS) * 1000, values };
  });
}

function foldAll(kind: Kind, readings: readonly Reading[]): void {
  const states = Array.from({ length: TWINS }, (_, i) => newState(kind, `${kind.kind}:x${i}`));
  const out: Emitted[] = [];
  for (let i = 0; i < readings.length; i++) {
    const state = states[i % TWINS];
    const reading = readings[i];
    fold(state, { type: 'reading', revision: state.n[H.REVISION] + 1, receivedAt: reading.at, reading }, out);
    out.length = 0;
  }
}
