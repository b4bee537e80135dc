import { describe, expect, it } from 'vitest';
import turbofan from '../../../actors/kinds/turbofan.ts';
import type { Reading } from '../../../actors/protocol/reading.ts';
import { twinIdOf } from '../../../actors/protocol/twin-id.ts';
import { featureReader, featuresOf } from '../../../actors/runtime/features.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { cellsOf } from '../../../services/load/csv-line.ts';
import { loadMap } from '../../../services/load/map.ts';

const HOUR = 3_600_000;
const T0 = Date.UTC(2026, 0, 1);
/** The first line of test_FD001. */
const LINE =
  '1 1 0.0023 0.0003 100.0 518.67 643.02 1585.29 1398.21 14.62 21.61 553.90 2388.04 9050.17 1.30 47.20 521.72 2388.03 8125.55 8.4052 0.03 392 2388 100.00 38.86 23.3735  ';

describe('a turbofan', () => {
  it('has a metric for every setting and sensor of C-MAPSS, and ranges that real flights lie in', () => {
    const map = loadMap('cmapss');
    expect(Object.keys(map.metrics).sort()).toEqual([...turbofan.metricNames].sort());
    expect(new Set(Object.values(map.metrics)).size).toBe(24);
    const cells = cellsOf(LINE, 'space')!.filter((cell) => cell !== '');
    expect(cells).toHaveLength(map.columns!.length);
    for (const [metric, column] of Object.entries(map.metrics)) {
      const value = Number(cells[map.columns!.indexOf(column as string)]);
      expect(value, metric).toBeGreaterThanOrEqual(turbofan.metrics[metric].min);
      expect(value, metric).toBeLessThanOrEqual(turbofan.metrics[metric].max);
    }
    const at = (metric: string) => Number(cells[map.columns!.indexOf(map.metrics[metric] as string)]);
    expect([at('t30'), at('nc'), at('ps30'), at('w32')]).toEqual([1585.29, 9050.17, 47.2, 23.3735]);
  });

  it('counts a flight as an hour: its windows are of so many flights', () => {
    const state = newState(turbofan, twinIdOf('turbofan', 'E1'));
    for (let cycle = 1; cycle <= 200; cycle++) {
      const at = T0 + (cycle - 1) * HOUR;
      const reading: Reading = { kind: 'turbofan', id: 'E1', at, values: { t24: 600 + cycle }, key: `c${cycle}` };
      fold(state, { type: 'reading', revision: cycle, receivedAt: at, reading }, []);
    }
    const reader = featureReader(turbofan, ['t24.5h.mean', 't24.5h.count', 't24.120h.count', 't24.120h.slope']);
    const out = new Float64Array(reader.width);
    featuresOf(state, reader, out, 0);
    expect(out[0]).toBeCloseTo(798, 9);
    expect(out[1]).toBe(5);
    expect(out[2]).toBeGreaterThan(110);
    expect(out[2]).toBeLessThanOrEqual(120);
    expect(out[3] * 3_600).toBeCloseTo(1, 9);
    expect(turbofan.models!.rul.maintenance!.hoursPerUnit).toBe(1);
    expect(featureReader(turbofan, turbofan.models!.rul.inputs).width).toBe(99);
  });

  it('decodes what it documents, and counts what it does not know', () => {
    const { decode, example } = turbofan.formats[0];
    const raw = decode({ ...example, mood: 'bad' }, undefined);
    expect(raw).toMatchObject({ id: 'ENGINE_001', seq: 1, ignored: 1, attributes: { fleet: 'FD001' } });
    expect(raw.values).toMatchObject({ t24: 643.02, ps30: 47.2 });
    expect(Object.keys(raw.values).sort()).toEqual([...turbofan.metricNames].sort());
    expect(decode({ readings: 7 }, 'E9')).toMatchObject({ id: 'E9', values: {} });
  });
});
