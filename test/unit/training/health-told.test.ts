import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Model } from '../../../models/model.ts';
import { dataFolder } from '../../../models/training/data-folder.ts';
import { exportRows } from '../../../models/training/export.ts';
import { missingFiles } from '../../../models/training/replayed.ts';
import { mae, r2 } from '../../../models/training/scores.ts';
import type { ExportSpec } from '../../../models/training/spec.ts';
import { committedCard } from '../../../models/training/training.ts';

/** What twins of real cells are told of their health: folded and asked as the host does, against the capacity measured. */
const { folder } = committedCard('battery-soh')!;
const { cells } = JSON.parse(readFileSync(join(folder, 'held-out.json'), 'utf8')) as { cells: ExportSpec };
const dataDir = dataFolder();
const due = { due: 'soh' };

it('is the health of cells that training has not seen', async (context) => {
  const files = cells.files!.filter(({ path }) => /B0026|B0030|B0050/.test(path));
  const missing = missingFiles({ ...cells, files }, dataDir);
  context.skip(missing.length > 0, `the data folder lacks ${missing.join(', ')}`);
  const { rows } = await exportRows({ ...cells, files, sample: due }, { dataDir });
  const capacity = rows.column('label.capacity_ah');
  const [file, cycle] = [rows.column('file'), rows.column('attribute.seq')];
  const last = new Map<string, number>();
  for (let row = 0; row < rows.count; row++)
    if (Number.isFinite(capacity[row])) last.set(`${file[row]} ${cycle[row]}`, row);
  const model = await Model.load(folder);
  try {
    const { value } = await model.run(rows.features, rows.count);
    const told = [...last.values()];
    const truth = told.map((row) => (capacity[row] / 2) * 100);
    const said = told.map((row) => value.data[row]);
    // 28, 40 and 21 discharges were measured
    expect(told.length).toBeGreaterThan(80);
    expect(r2(truth, said)).toBeGreaterThan(0.94);
    expect(mae(truth, said)).toBeLessThan(2);
  } finally {
    await model.retire();
  }
});

it('is nothing on drives that end long before the charge does', async (context) => {
  const trips = dataDir === null ? [] : namesIn(join(dataDir, 'bmw_i3_trips')).slice(0, 4);
  context.skip(trips.length === 0, 'there are no drives in the data folder');
  const files = trips.map((name) => ({ path: `bmw_i3_trips/${name}`, map: 'bmw-i3' }));
  const spec = { kind: 'battery', inputs: ['soc'], files };
  const asked = await exportRows({ ...spec, sample: due }, { dataDir });
  expect(asked.rows.count).toBe(0);
  // it is the condition that keeps it from being asked: others are
  expect((await exportRows({ ...spec, sample: { due: 'failure' } }, { dataDir })).rows.count).toBeGreaterThan(100);
});

function namesIn(path: string): string[] {
  try {
    return readdirSync(path).filter((name) => name.endsWith('.csv.gz'));
  } catch {
    return [];
  }
}
