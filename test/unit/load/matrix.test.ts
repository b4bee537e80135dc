import { afterAll, describe, expect, it } from 'vitest';
import { openBlocks } from '../../../services/load/layout.ts';
import { loadMap } from '../../../services/load/map.ts';
import { drain, folder, planOf, readAll } from './bytes.ts';

const files = folder();
afterAll(() => files.clean());
const START = Date.UTC(2026, 0, 1);
const HALF_HOUR = 1_800_000;
const plan = planOf('mote', loadMap('intel-30min'), START);

describe('matrices', () => {
  const temperature = files.write('labTemperature.csv', '1.83E+01,1.82E+01,\n2.00E+01,NaN,2.02E+01');
  const humidity = files.write('labHumidity.csv', '40,,\r\n42,43,44\r\n');

  it('given together make one reading of each cell, with the metrics that are there', async () => {
    const { readings, lines } = await readAll([temperature, humidity], plan);
    expect(lines).toBe(2);
    expect(readings).toEqual([
      { id: 'lab-1', at: START, values: { temperature: 18.3, humidity: 40 } },
      { id: 'lab-1', at: START + HALF_HOUR, values: { temperature: 18.2 } },
      { id: 'lab-2', at: START, values: { temperature: 20, humidity: 42 } },
      { id: 'lab-2', at: START + HALF_HOUR, values: { temperature: Number.NaN, humidity: 43 } },
      { id: 'lab-2', at: START + 2 * HALF_HOUR, values: { temperature: 20.2, humidity: 44 } },
    ]);
  });

  it('given alone make readings of one metric', async () => {
    const { readings } = await readAll([humidity], plan);
    expect(readings.map(({ id, values }) => [id, values])).toEqual([
      ['lab-1', { humidity: 40 }],
      ['lab-2', { humidity: 42 }],
      ['lab-2', { humidity: 43 }],
      ['lab-2', { humidity: 44 }],
    ]);
  });

  it('need names that say which metric they carry', async () => {
    const other = files.write('lab.csv', '1,2\n');
    const twice = files.write('otherTemperature.csv', '1,2\n');
    await expect(readAll([other], plan)).rejects.toThrow('The name of lab.csv fits no metric of map intel-30min.');
    await expect(readAll([temperature, twice], plan)).rejects.toThrow('Two of the files carry the same metric');
  });

  it('skip rows that differ in columns, and end where a file has no more rows', async () => {
    const a = files.write('aTemperature.csv', '1,2\n3,4\n5,6\n');
    const b = files.write('aHumidity.csv', '1,2\n3\n');
    const { readings, skipped, fault } = await readAll([a, b], plan);
    expect(readings).toHaveLength(2);
    expect(skipped).toEqual({ column_count: 1 });
    expect(fault).toBe('Row 3: the files have different numbers of rows; what lies beyond the shortest is left.');
  });

  it('go on behind any block as if they had not stopped', async () => {
    const wide = (row: number) => Array.from({ length: 500 }, (_, i) => row + i / 1000).join(',');
    const path = files.write('wideTemperature.csv', Array.from({ length: 30 }, (_, row) => wide(row)).join('\n'));
    const whole = await drain((await openBlocks([path], plan))[0]);
    expect(whole.blocks.length).toBeGreaterThan(2);
    expect(whole.readings).toHaveLength(15_000);
    let before = 0;
    for (const block of whole.blocks) {
      before += block.readings.length;
      const rest = await drain((await openBlocks([path], plan))[0], block.end);
      expect(rest.readings).toEqual(whole.readings.slice(before));
    }
  });
});
