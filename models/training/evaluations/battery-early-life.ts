import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Evaluation } from '../evaluation.ts';
import { coverage, mape } from '../scores.ts';

/** Cycle life of cells that training has not seen, from the curves as they are: the features are computed in the graph. */
const FOLDER = 'severson_cycle_life';

function table(path: string): Record<string, string>[] {
  const [head, ...lines] = gunzipSync(readFileSync(path)).toString('utf8').trim().split('\n');
  const columns = head.split(',');
  return lines.map((line) => {
    const cells = line.split(',');
    return Object.fromEntries(columns.map((name, i) => [name, cells[i]]));
  });
}

const evaluation: Evaluation = {
  async evaluate({ card, heldOut, dataDir, run, skip }) {
    const { cells, trained } = heldOut as { cells: string[]; trained: string[] };
    const files = ['q_of_v_cycle10_100.csv.gz', 'capacity_by_cycle.csv.gz'].map((f) => join(dataDir ?? '', FOLDER, f));
    if (dataDir === null || files.some((file) => !existsSync(file))) {
      skip(FOLDER, 'the data is not there');
      return [];
    }
    const curves = new Map(table(files[0]).map((row) => [`${row.cell} ${Number(row.cycle)}`, row]));
    const capacities = new Map(table(files[1]).map((row) => [row.cell, row]));
    const judge = async (which: readonly string[], split: string) => {
      const inputs = Float32Array.from(
        which.flatMap((cell) => [
          ...[10, 100].flatMap((n) =>
            Array.from({ length: 100 }, (_, i) => Number(curves.get(`${cell} ${n}`)![`p${i * 10}`])),
          ),
          ...Array.from({ length: 99 }, (_, i) => Number(capacities.get(cell)![`q${i + 2}`])),
        ]),
      );
      const truth = which.map((cell) => Number(capacities.get(cell)!.cycle_life));
      const { value, lo, hi } = await run(inputs, which.length);
      const of = { data: FOLDER, split };
      return [
        { ...of, name: 'cycle life MAPE', value: mape(truth, value) },
        { ...of, name: 'coverage of the interval', value: coverage(truth, lo, hi) },
      ];
    };
    const known = new Set([...cells, ...trained]);
    const further = [...capacities.keys()].filter((cell) => !known.has(cell));
    const here = cells.filter((cell) => capacities.has(cell));
    const split = card.scores.find(({ name }) => name === 'cycle life MAPE')?.split ?? '';
    return [
      ...(here.length === cells.length ? await judge(here, split) : []),
      ...(further.length > 0 ? await judge(further, `${further.length} further cells`) : []),
    ];
  },
};

export default evaluation;
