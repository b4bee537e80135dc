import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import { featureReader, featuresOf } from '../../../actors/runtime/features.ts';
import { H } from '../../../actors/runtime/layout.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import { exportRows } from '../../../models/training/export.ts';
import { Rows, readNpy, writeNpy } from '../../../models/training/rows.ts';
import { checkSpec, type ExportSpec } from '../../../models/training/spec.ts';

const folder = mkdtempSync(join(tmpdir(), 'twinmesh-export-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const INPUTS = ['temperature', 'temperature.5m.mean', 'soc.1m.slope', 'voltage.5m.panes'];
const SIMULATED: ExportSpec = {
  kind: 'battery',
  inputs: INPUTS,
  sample: { everyMs: 60_000, fromMs: 30_000 },
  ahead: { horizonMs: 120_000, metrics: ['temperature'] },
  simulator: [
    {
      runs: 4,
      seed: 5,
      durationMs: 600_000,
      noise: { voltage: 0.02 },
      scenarios: { names: ['overheating'], share: 1, severity: 1, afterMs: 200_000 },
    },
  ],
};

describe('simulated rows', () => {
  it('are the same from the same spec, and a run is the same whatever runs beside it', async () => {
    const all = (await exportRows(SIMULATED)).rows;
    expect((await exportRows(SIMULATED)).rows.features).toEqual(all.features);
    const first = (await exportRows({ ...SIMULATED, simulator: [{ ...SIMULATED.simulator![0], runs: 1 }] })).rows;
    const run = all.column('run');
    expect(first.features).toEqual(all.where((row) => run[row] === 0).features);
    expect(all.count).toBeGreaterThan(30);
  });

  it('carry the truth: the scenario from its start on, what lies ahead without the noise', async () => {
    const { rows } = await exportRows(SIMULATED);
    const since = rows.column('since');
    const elapsed = rows.column('elapsed');
    const scenario = rows.column('scenario');
    const temperature = rows.feature('temperature');
    const ahead = rows.column('ahead.temperature');
    const index = Object.keys(battery.simulator!.scenarios).indexOf('overheating');
    for (let i = 0; i < rows.count; i++) {
      expect(scenario[i]).toBe(elapsed[i] >= 200_000 ? index : -1);
      if (scenario[i] >= 0) expect(elapsed[i] - since[i]).toBeLessThan(202_001);
      // rows come every minute: two rows later is what was ahead
      const later = elapsed[i + 2] - elapsed[i];
      if (later === 120_000) expect(temperature[i + 2]).toBeCloseTo(ahead[i], 3);
      if (elapsed[i] > 480_000) expect(ahead[i]).toBeNaN();
    }
  });

  it('tell of the same assets less, in other units of size and in steps', async () => {
    const inputs = ['soc', 'soh', 'voltage', 'current', 'power', 'temperature', 'resistance_5m'];
    const population = { runs: 3, seed: 5, durationMs: 900_000, stepMs: 5_000 };
    const spec = { kind: 'battery', inputs, sample: { everyMs: 60_000, fromMs: 300_000 }, simulator: [population] };
    const { rows: plain } = await exportRows(spec);
    const other = {
      ...population,
      without: { soh: 1 },
      times: { metrics: ['current', 'power'], factor: 0.5 },
      resolution: { temperature: 1, soc: 0 },
    };
    const { rows } = await exportRows({ ...spec, simulator: [other] });
    expect(rows.count).toBe(plain.count);
    expect(rows.feature('voltage')).toEqual(plain.feature('voltage'));
    expect(rows.feature('soc')).toEqual(plain.feature('soc'));
    expect(rows.feature('soh').every(Number.isNaN)).toBe(true);
    expect(rows.feature('temperature')).toEqual(plain.feature('temperature').map(Math.round));
    for (const metric of ['current', 'power'])
      expect(rows.feature(metric)).toEqual(plain.feature(metric).map((value) => value / 2));
    const [ohms, whole] = [rows, plain].map((of) => of.feature('resistance_5m'));
    expect(whole.filter(Number.isFinite).length).toBeGreaterThan(10);
    for (const [i, ohm] of ohms.entries()) if (Number.isFinite(ohm)) expect(ohm / whole[i]).toBeCloseTo(2, 2);
  });

  it('are what the fold and the reader of the runtime make of the readings', async () => {
    const path = join(folder, 'pack.csv');
    const lines = ['t_s,soc_pct,pack_v,pack_a,batt_temp_c'];
    for (let i = 0; i < 400; i++)
      lines.push(`${i},${80 - i / 100},${380 + Math.sin(i)},${-20 - (i % 7)},${20 + i / 50}`);
    writeFileSync(path, lines.join('\n'));
    const spec: ExportSpec = {
      kind: 'battery',
      inputs: INPUTS,
      sample: { everyReadings: 50 },
      files: [{ path: 'pack.csv', map: 'bmw-i3' }],
    };
    const { rows } = await exportRows(spec, { dataDir: folder });
    expect(rows.count).toBe(8);
    const reader = featureReader(battery, INPUTS);
    const state = newState(battery, 'battery:pack');
    const expected = new Float32Array(8 * reader.width);
    const start = rows.column('at')[0] - 49_000;
    for (let i = 0; i < 400; i++) {
      const [t, soc, voltage, current, temperature] = lines[i + 1].split(',').map(Number);
      const power = Number((-voltage * current).toFixed(4));
      const reading = {
        kind: 'battery',
        id: 'pack',
        at: start + t * 1000,
        values: { soc, voltage, current, temperature, power },
      };
      fold(state, { type: 'reading', revision: state.n[H.REVISION] + 1, receivedAt: reading.at, reading }, []);
      if (i % 50 === 49) featuresOf(state, reader, expected, ((i - 49) / 50) * reader.width);
    }
    expect(rows.features).toEqual(expected);
  });

  it('count charge, find labels and sample crossings', async () => {
    writeFileSync(
      join(folder, 'cell.csv'),
      `seq,n,t_s,v,a,temp_c\n${[0, 1].flatMap((seq) => Array.from({ length: 60 }, (_, i) => `${seq},1,${i * 60},${4 - i * 0.02},-2,24`)).join('\n')}`,
    );
    writeFileSync(join(folder, 'labels.csv'), 'cell,seq,capacity_ah\ncell,0,1.5\ncell,1.0,1.25\nother,1,9\n');
    const { rows } = await exportRows(
      {
        kind: 'battery',
        inputs: ['soc', 'voltage'],
        sample: { crossing: { metric: 'voltage', below: 288, quietMs: 3_600_000 } },
        files: [
          {
            path: 'cell.csv',
            map: './nasa-pack.json',
            chargeCount: { capacityAh: 94, restartOn: 'seq' },
            labels: { path: 'labels.csv', on: { twin: 'cell', seq: 'seq' }, columns: ['capacity_ah'] },
          },
        ],
      },
      { dataDir: folder },
    );
    expect([...rows.column('label.capacity_ah')]).toEqual([1.5, 1.25]);
    // 50 minutes at 2 A of the cell's 2 Ah
    for (const soc of rows.feature('soc')) expect(soc).toBeCloseTo(100 - (100 * 50) / 60, 1);
    for (const voltage of rows.feature('voltage')) expect(voltage).toBeCloseTo(288, 3);
  });

  it('are those that a twin would be asked about', async () => {
    const cell = (seq: number, i: number) => `${seq},1,${i * 10},${3.1 - i * 0.002},-2,24`;
    const lines = [0, 1].flatMap((seq) => Array.from({ length: 120 }, (_, i) => cell(seq, i)));
    writeFileSync(join(folder, 'asked.csv'), `seq,n,t_s,v,a,temp_c\n${lines.join('\n')}`);
    const chargeCount = { capacityAh: 94, restartOn: 'seq' };
    const files = [{ path: 'asked.csv', map: './nasa-pack.json', chargeCount }];
    const spec: ExportSpec = { kind: 'battery', inputs: ['voltage'], sample: { due: 'soh' }, files };
    const { rows } = await exportRows(spec, { dataDir: folder });
    // from 3.0 V a cell to 280 V of the pack, a reading each 10 s
    expect(rows.count).toBe(2 * 42);
    for (const voltage of rows.feature('voltage')) expect(voltage > 279.9 && voltage < 288.1).toBe(true);
    const none = exportRows({ ...spec, sample: { due: 'wear' } }, { dataDir: folder });
    await expect(none).rejects.toThrow('has no prediction "wear"');
  });

  it('say which data is missing', async () => {
    const spec: ExportSpec = {
      kind: 'battery',
      inputs: ['soc'],
      sample: { last: true },
      files: [{ path: 'none.csv', map: 'bmw-i3' }],
    };
    await expect(exportRows(spec, { dataDir: folder })).rejects.toMatchObject({ code: 'not_found' });
    await expect(exportRows(spec, { dataDir: null })).rejects.toThrow(/TWINMESH_DATA/);
  });
});

describe('a spec', () => {
  it.each([
    [{ ...SIMULATED, simulator: undefined }, /simulator and files/],
    [{ ...SIMULATED, sample: { last: true, everyMs: 5 } }, /sample takes one/],
    [{ ...SIMULATED, inputs: [1] }, /inputs/],
    [{ ...SIMULATED, simulator: [{ runs: 0, seed: 1, durationMs: 1 }] }, /runs/],
  ])('that is faulty is refused', (spec, fault) => {
    expect(() => checkSpec(spec as ExportSpec)).toThrow(fault);
  });
});

describe('matrices on disk', () => {
  it('are read back as written, and begin as NumPy wants them', () => {
    const rows = new Rows(['a', 'b'], ['t'], 1);
    for (let i = 0; i < 5; i++)
      rows.tell(
        rows.add((into, at) => into.set([i, -i], at)),
        0,
        i * Math.PI,
      );
    for (const values of [rows.features, rows.truth]) {
      const path = join(folder, 'm.npy');
      writeNpy(path, values, values.length / 5);
      expect(readNpy(path)).toEqual({ values, width: values.length / 5 });
      const bytes = readFileSync(path);
      expect(bytes.toString('latin1', 0, 6)).toBe('\x93NUMPY');
      expect((10 + bytes.readUInt16LE(8)) % 64).toBe(0);
    }
  });
});
