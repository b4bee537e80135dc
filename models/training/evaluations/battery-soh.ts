import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Evaluation, EvaluationScore } from '../evaluation.ts';
import { missingFiles } from '../replayed.ts';
import type { Rows } from '../rows.ts';
import { coverage, mae, r2 } from '../scores.ts';
import type { ExportSpec, FileSpec } from '../spec.ts';

/** State of health: of real cells that training has not seen, from their discharges; and of simulated packs. */
const NOMINAL_AH = 2;
/** Every so many-th reading finds each discharge: they have a hundred and more. */
const SPARSE = 20;

/** Cells in the data folder that are neither trained on nor in the set that the trainer held out. */
function furtherCells(dataDir: string | null, set: ExportSpec, trained: readonly string[]): ExportSpec | null {
  const folder = join(dataDir ?? '', 'nasa_battery');
  if (dataDir === null || !existsSync(folder)) return null;
  const known = new Set([...trained, ...set.files!.map((file) => cellOf(file))]);
  const cells = readdirSync(folder)
    .map((file) => /^(B\d{4})\.csv\.gz$/.exec(file)?.[1])
    .filter((cell) => cell !== undefined && !known.has(cell));
  if (cells.length === 0) return null;
  return { ...set, files: cells.map((cell) => ({ ...set.files![0], path: `nasa_battery/${cell}.csv.gz` })) };
}

function cellOf({ path }: FileSpec): string {
  return /(B\d{4})/.exec(path)?.[1] ?? path;
}

/** Discharges by number of the file and of the cycle; those whose capacity was not measured are left out. */
function dischargesOf(rows: Rows): { capacity: Float64Array; of: Map<string, number> } {
  const [capacity, file, cycle] = ['label.capacity_ah', 'file', 'attribute.seq'].map((name) => rows.column(name));
  const of = new Map<string, number>();
  for (let row = 0; row < rows.count; row++)
    if (Number.isFinite(capacity[row])) of.set(`${file[row]} ${cycle[row]}`, row);
  return { capacity, of };
}

const evaluation: Evaluation = {
  async evaluate({ card, heldOut, dataDir, rows, run, skip }) {
    const sets = heldOut as { cells: ExportSpec; packs: ExportSpec; trained: string[] };
    const scores: EvaluationScore[] = [];
    const splitOf = (data: string) => card.scores.find((score) => score.data === data)?.split ?? '';

    const judgeCells = async (spec: ExportSpec, split: string) => {
      const all = await rows(spec);
      const capacity = all.column('label.capacity_ah');
      const current = all.feature('current');
      const discharges = all.where((row) => Number.isFinite(capacity[row]) && current[row] < 0);
      const truth = discharges.column('label.capacity_ah').map((ah) => (ah / NOMINAL_AH) * 100);
      const { value, lo, hi } = await run(discharges.features, discharges.count);
      const counted = discharges.feature('soc').map((soc) => 100 - soc);
      const of = { data: 'nasa_battery', split };
      scores.push(
        {
          ...of,
          name: 'SoH R²',
          value: r2(truth, value),
          floor: { name: 'charge counted', value: r2(truth, counted) },
        },
        {
          ...of,
          name: 'SoH MAE',
          value: mae(truth, value),
          floor: { name: 'charge counted', value: mae(truth, counted) },
        },
        { ...of, name: 'coverage of the interval', value: coverage(truth, lo, hi) },
      );
    };
    /** What twins would say: asked whenever the kind lets them, each discharge judged by the last answer in it. */
    const judgeTold = async (spec: ExportSpec, split: string) => {
      const all = await rows({ ...spec, sample: { due: 'soh' } });
      const { capacity, of: last } = dischargesOf(all);
      const told = [...last.values()];
      const { value, lo, hi } = await run(all.features, all.count);
      const of = { data: 'nasa_battery', split };
      const truth = told.map((row) => (capacity[row] / NOMINAL_AH) * 100);
      const at = (output: Float32Array) => told.map((row) => output[row]);
      const { of: measured } = dischargesOf(await rows({ ...spec, sample: { everyReadings: SPARSE } }));
      scores.push(
        { ...of, name: 'SoH R², as twins are told', value: r2(truth, at(value)) },
        { ...of, name: 'SoH MAE, as twins are told', value: mae(truth, at(value)) },
        { ...of, name: 'coverage of the interval, as twins are told', value: coverage(truth, at(lo), at(hi)) },
        { ...of, name: 'share of discharges that twins have an answer of', value: told.length / measured.size },
      );
    };
    const missing = missingFiles(sets.cells, dataDir);
    if (missing.length === 0) {
      await judgeCells(sets.cells, splitOf('nasa_battery'));
      await judgeTold(sets.cells, splitOf('nasa_battery'));
    } else skip('nasa_battery', `${missing.length} files are not there, ${missing[0]} among them`);
    const further = furtherCells(dataDir, sets.cells, sets.trained);
    if (further !== null) {
      const split = `further cells: ${further.files!.map(cellOf).join(', ')}`;
      await judgeCells(further, split);
      await judgeTold(further, split);
    }

    const data = 'simulated packs, 2 % noise';
    const packs = await rows(sets.packs);
    const truth = packs.column('truth.soh');
    const reported = packs.feature('soh');
    const { value, lo, hi } = await run(packs.features, packs.count);
    const of = { data, split: splitOf(data) };
    scores.push(
      { ...of, name: 'SoH R²', value: r2(truth, value), floor: { name: 'as reported', value: r2(truth, reported) } },
      { ...of, name: 'SoH MAE', value: mae(truth, value), floor: { name: 'as reported', value: mae(truth, reported) } },
      { ...of, name: 'coverage of the interval', value: coverage(truth, lo, hi) },
    );
    return scores;
  },
};

export default evaluation;
