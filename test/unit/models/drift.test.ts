import { describe, expect, it } from 'vitest';
import { gaussian, seededRandom } from '../../../actors/protocol/clock.ts';
import { addCounts, binOf, chanceIndex, InputCounter, stabilityIndex } from '../../../models/drift.ts';

const edges = [-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28];
const shares = new Array<number>(10).fill(0.1);
const input = { name: 'x', unit: '', min: -9, max: 9, missing: 'impute' as const, reference: { edges, shares } };

function counted(draw: () => number, rows: number): number[] {
  const counter = new InputCounter([input]);
  for (let at = 0; at < rows; at += 50) counter.observe(Float32Array.from({ length: 50 }, draw), 50);
  return counter.take()!.counts[0].bins;
}

describe('the population stability index', () => {
  it('is what its definition says', () => {
    const bins = [600, 400];
    const wanted = (0.6 - 0.5) * Math.log(0.6 / 0.5) + (0.4 - 0.5) * Math.log(0.4 / 0.5);
    expect(stabilityIndex([0.5, 0.5], bins)).toBeCloseTo(wanted, 12);
  });

  it('is small where nothing has moved, and grows with what has', () => {
    const random = seededRandom(3);
    const of = (shift: number) =>
      stabilityIndex(
        shares,
        counted(() => gaussian(random) + shift, 20_000),
      )!;
    const [none, some, much] = [of(0), of(0.4), of(1)];
    expect(none).toBeLessThan(0.03);
    expect(some).toBeGreaterThan(0.1);
    expect(much).toBeGreaterThan(3 * some);
  });

  it('says nothing about few values', () => {
    expect(stabilityIndex([0.5, 0.5], [300, 100])).toBeNull();
    expect(stabilityIndex([0.5, 0.5], [300, 300, 300])).toBeNull();
  });

  it('stays finite where a bin is empty', () => {
    const index = stabilityIndex([0.5, 0.5], [1_000, 0])!;
    expect(index).toBeGreaterThan(1);
    expect(Number.isFinite(index)).toBe(true);
  });
});

describe('what chance makes of few assets', () => {
  const share = (assets: number, fleets: number, draw: (random: () => number) => number): number => {
    const random = seededRandom(20_260_101);
    const limit = chanceIndex(shares, assets);
    let passed = 0;
    for (let fleet = 0; fleet < fleets; fleet++) {
      const bins = shares.map(() => 0);
      // a hundred readings of each asset, all alike
      for (let asset = 0; asset < assets; asset++) bins[draw(random)] += 500;
      if (stabilityIndex(shares, bins)! > limit) passed++;
    }
    return passed / fleets;
  };

  it('is passed by about one in a hundred fleets of the very population of the reference', () => {
    for (const assets of [3, 8, 40, 299, 300, 1_000])
      expect(share(assets, 1_000, (random) => Math.floor(random() * 10))).toBeLessThan(0.03);
  });

  it('is passed by fleets that have moved', () => {
    // eight machines that all lie above what training saw
    expect(share(8, 50, () => 9)).toBe(1);
    // forty of which most do
    expect(share(40, 50, (random) => (random() < 0.7 ? 9 : Math.floor(random() * 10)))).toBe(1);
  });

  it('is the 99 % quantile of chi squared over the number of many', () => {
    // 21.666 for nine degrees of freedom (NIST, Critical Values of the Chi-Square Distribution)
    expect(chanceIndex(shares, 1_000)).toBeCloseTo(21.666 / 1_000, 4);
    expect(chanceIndex(shares, 10_000)).toBeLessThan(0.003);
  });
});

describe('the counter', () => {
  it('puts a value on an edge above it, as the reference was made', () => {
    expect([-2, 0, 0.5, 1, 7].map((x) => binOf([0, 1], x))).toEqual([0, 1, 1, 2, 2]);
    expect(binOf([], 5)).toBe(0);
  });

  it('counts a missing value apart, and begins anew when taken', () => {
    const counter = new InputCounter([input]);
    counter.observe(Float32Array.of(0, Number.NaN, Number.POSITIVE_INFINITY), 3);
    const taken = counter.take()!;
    expect(taken.rows).toBe(3);
    expect(taken.counts[0].missing).toBe(2);
    expect(taken.counts[0].bins.reduce((a, b) => a + b)).toBe(1);
    expect(counter.take()).toBeNull();
  });

  it('looks at so many rows of a large call', () => {
    const counter = new InputCounter([input]);
    counter.observe(new Float32Array(10_000), 10_000, 64);
    const { rows } = counter.take()!;
    expect(rows).toBeGreaterThan(60);
    expect(rows).toBeLessThanOrEqual(64);
  });

  it('adds up', () => {
    const one = [{ bins: [1, 2], missing: 1 }];
    expect(addCounts(one, [{ bins: [3, 4], missing: 0 }])).toEqual([{ bins: [4, 6], missing: 1 }]);
    expect(addCounts([], one)).toEqual(one);
  });
});
