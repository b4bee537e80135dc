import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addToWindow,
  readMoments,
  readWindow,
  viewWindow,
  type WindowPlan,
  windowSlots,
} from '../../../actors/rolling/window.ts';

const T0 = 1_750_000_000_000;

const plan: WindowPlan = { name: 'w', spanMs: 60_000, paneMs: 10_000, panes: 6, offset: 0, elapsedMs: 0, weight: 0 };

interface Sample {
  at: number;
  x: number;
}

function feed(samples: readonly Sample[]): { a: Float64Array; last: number } {
  const a = new Float64Array(windowSlots(plan.panes));
  let previousAt = Number.NaN;
  let last = Number.NaN;
  for (const { at, x } of samples) {
    addToWindow(a, 0, plan, x, at, previousAt);
    if (Number.isNaN(previousAt) || at >= previousAt) {
      previousAt = at;
      last = x;
    }
  }
  return { a, last };
}

/** What the window should hold, from its definition: the pane of the newest reading and the five before it. */
function covered(samples: readonly Sample[]): Sample[] {
  let newest = Number.NEGATIVE_INFINITY;
  const kept: Sample[] = [];
  for (const sample of samples) {
    newest = Math.max(newest, Math.floor(sample.at / plan.paneMs));
    // a reading too old when it came never counts
    if (Math.floor(sample.at / plan.paneMs) > newest - plan.panes) kept.push(sample);
  }
  return kept.filter(({ at }) => Math.floor(at / plan.paneMs) > newest - plan.panes);
}

function naive(samples: readonly Sample[]) {
  const n = samples.length;
  samples = samples.map(({ at, x }) => ({ at: at - T0, x }));
  const mean = samples.reduce((s, { x }) => s + x, 0) / n;
  const meanT = samples.reduce((s, { at }) => s + at, 0) / n;
  const m2 = samples.reduce((s, { x }) => s + (x - mean) ** 2, 0);
  const m2t = samples.reduce((s, { at }) => s + (at - meanT) ** 2, 0);
  const c = samples.reduce((s, { x, at }) => s + (x - mean) * (at - meanT), 0);
  return {
    n,
    mean,
    std: n > 1 ? Math.sqrt(m2 / (n - 1)) : null,
    min: Math.min(...samples.map(({ x }) => x)),
    max: Math.max(...samples.map(({ x }) => x)),
    range: Math.max(...samples.map(({ x }) => x)) - Math.min(...samples.map(({ x }) => x)),
    spreadMs: Math.max(...samples.map(({ at }) => at)) - Math.min(...samples.map(({ at }) => at)),
    slope: n > 1 && m2t > 0 ? (c / m2t) * 1000 : null,
  };
}

const samples = fc.array(
  fc.record({
    at: fc.integer({ min: T0, max: T0 + 300_000 }),
    x: fc.double({ min: -1000, max: 1000, noNaN: true }),
  }),
  { minLength: 1, maxLength: 80 },
);

describe('a window', () => {
  it('equals the naive computation over the panes it covers, in order or not', () => {
    fc.assert(
      fc.property(samples, (s) => {
        const { a, last } = feed(s);
        const view = viewWindow(a, 0, plan, last);
        const truth = naive(covered(s));
        expect(view.count).toBe(truth.n);
        expect(view.mean).toBeCloseTo(truth.mean, 8);
        expect(view.min).toBe(truth.min);
        expect(view.max).toBe(truth.max);
        if (truth.std === null) expect(view.std).toBeNull();
        else expect(view.std).toBeCloseTo(truth.std, 7);
        if (truth.slope !== null) {
          // the mean of event times, integers of 13 digits, is exact to a quarter of a microsecond: the nearer they lie, the more that is
          const blur = 1e-5 + 1e-3 / truth.spreadMs;
          const steepest = Math.max(Math.abs(truth.slope), truth.range, (1000 * truth.range) / truth.spreadMs);
          expect(Math.abs(view.slope! - truth.slope)).toBeLessThan(1e-6 + blur * steepest);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('goes on bit for bit from a copy of its numbers', () => {
    fc.assert(
      fc.property(samples, samples, (before, after) => {
        const whole = feed([...before, ...after]);
        const { a } = feed(before);
        const copy = Float64Array.from(a);
        let previousAt = Math.max(...before.map(({ at }) => at));
        for (const { at, x } of after) {
          addToWindow(copy, 0, plan, x, at, previousAt);
          previousAt = Math.max(previousAt, at);
        }
        expect(new BigUint64Array(copy.buffer)).toEqual(new BigUint64Array(whole.a.buffer));
      }),
    );
  });

  it('never has a negative variance at a large offset', () => {
    const { a, last } = feed(Array.from({ length: 500 }, (_, i) => ({ at: T0 + i * 100, x: 1e9 + (i % 2) * 1e-6 })));
    const view = viewWindow(a, 0, plan, last);
    expect(view.std).toBeGreaterThanOrEqual(0);
    expect(view.std).toBeLessThan(1e-5);
  });

  it('measures the newest against the window without it', () => {
    const values = [10, 11, 9, 10, 11, 9, 20];
    const { a, last } = feed(values.map((x, i) => ({ at: T0 + i * 1000, x })));
    const before = naive(values.slice(0, -1).map((x, i) => ({ at: i, x })));
    expect(viewWindow(a, 0, plan, last).z!).toBeCloseTo((20 - before.mean) / before.std!, 9);
  });

  it('weighs the EWMA by elapsed event time and ignores late readings for it', () => {
    const { a, last } = feed([
      { at: T0, x: 0 },
      { at: T0 + 60_000, x: 1 },
      { at: T0 + 30_000, x: 50 },
    ]);
    expect(viewWindow(a, 0, plan, last).ewma!).toBeCloseTo(1 - Math.exp(-1), 12);
  });
});

describe('the moments that detectors ask for', () => {
  it('are those of the whole window, bit for bit', () => {
    const sample = fc.record({
      at: fc.integer({ min: T0, max: T0 + 300_000 }),
      x: fc.double({ noNaN: true, min: -1e9, max: 1e9 }),
    });
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 60 }), (samples) => {
        const { a } = feed(samples);
        const whole = new Float64Array(8);
        const moments = new Float64Array(8);
        readWindow(a, 0, plan, whole);
        readMoments(a, 0, plan, moments);
        expect([...moments.subarray(0, 3)]).toEqual([...whole.subarray(0, 3)]);
      }),
    );
  });
});
