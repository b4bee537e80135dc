import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { defineTwin } from '../../../actors/protocol/kind.ts';
import { twinIdOf } from '../../../actors/protocol/twin-id.ts';
import { featureReader, featuresOf } from '../../../actors/runtime/features.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import type { EvaluationScore } from '../evaluation.ts';

/**
 * The Numenta Anomaly Benchmark: its scoring, after `nab/sweeper.py` and `nab/scorer.py` of numenta/NAB (Lavin, Ahmad,
 * ICMLA 2015). Standard profile; the first detection in a window counts, the earlier the more; a detection outside costs,
 * the less the sooner it comes after a window; a missed window costs. 0 is a detector that says nothing, 100 a perfect one.
 */
const STANDARD = { hit: 1, falseAlarm: 0.11, miss: 1 };
/** The first 15 % of a series, of its first 5,000 rows at most, are for learning: nothing in them counts. */
const LEARNING = { share: 0.15, rows: 5_000 };

export interface LabelledSeries {
  name: string;
  at: number[];
  values: number[];
  /** Windows of anomalies as `[first, last]` row. */
  windows: [number, number][];
}

export function readNab(dataDir: string, name: string): LabelledSeries {
  const folder = join(dataDir, 'nab');
  const lines = gunzipSync(readFileSync(join(folder, `${name}.csv.gz`)))
    .toString('utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','));
  const at = lines.map(([time]) => Date.parse(`${time.replace(' ', 'T')}Z`));
  const told = JSON.parse(readFileSync(join(folder, `${name}.labels.json`), 'utf8')) as { windows: [string, string][] };
  const rowOf = (time: string) => at.findIndex((t) => t >= Date.parse(`${time.slice(0, 19).replace(' ', 'T')}Z`));
  return {
    name,
    at,
    values: lines.map(([, value]) => Number(value)),
    windows: told.windows.map(([first, last]) => [rowOf(first), rowOf(last)]),
  };
}

const sigmoid = (x: number) => (x > 3 ? -1 : 2 / (1 + Math.exp(5 * x)) - 1);

/** Unnormalised score of the rows that are flagged. */
export function rawScore(series: LabelledSeries, flagged: (row: number) => boolean): number {
  const rows = series.values.length;
  const learning = Math.floor(LEARNING.share * Math.min(rows, LEARNING.rows));
  const best = series.windows.map(() => 0);
  let score = 0;
  for (let row = learning; row < rows; row++) {
    if (!flagged(row)) continue;
    const inside = series.windows.findIndex(([first, last]) => first <= row && row <= last);
    if (inside >= 0) {
      const [first, last] = series.windows[inside];
      best[inside] = Math.max(best[inside], sigmoid(-(last - row + 1) / (last - first + 1)) / sigmoid(-1));
      continue;
    }
    const before = series.windows.filter(([, last]) => last < row).at(-1);
    score += STANDARD.falseAlarm * (before ? sigmoid((row - before[1]) / (before[1] - before[0])) : -1);
  }
  for (const hit of best) score += hit > 0 ? STANDARD.hit * hit : -STANDARD.miss;
  return score;
}

/** After it has said something, the detector says nothing more for so long: an event is told once. */
const QUIET_MS = 48 * 3_600_000;

function told(series: LabelledSeries, scores: Float64Array, threshold: number): Uint8Array {
  let quietUntil = Number.NEGATIVE_INFINITY;
  return Uint8Array.from(scores, (score, row) => {
    if (score < threshold || series.at[row] < quietUntil) return 0;
    quietUntil = series.at[row] + QUIET_MS;
    return 1;
  });
}

/** Normalised score over series, at the threshold that is best for all of them: as the benchmark does. */
export function nabScore(series: readonly LabelledSeries[], scores: readonly Float64Array[]): number {
  const windows = series.reduce((sum, one) => sum + one.windows.length, 0);
  let best = 0;
  for (let threshold = 0.25; threshold <= 8; threshold += 0.25) {
    const sum = series.reduce((total, one, k) => {
      const flags = told(one, scores[k], threshold);
      return total + rawScore(one, (row) => flags[row] === 1);
    }, 0);
    best = Math.max(best, (100 * (sum + STANDARD.miss * windows)) / (windows * (STANDARD.hit + STANDARD.miss)));
  }
  return best;
}

const HOUR_MS = 3_600_000;
const NAMES = ['ambient_temperature_system_failure', 'cpu_utilization_asg_misconfiguration'];

/** One signal with windows of a day and two weeks: the detector of these series, for this yardstick only. */
const SIGNAL = defineTwin({
  kind: 'signal',
  version: 1,
  title: 'Signal',
  description: 'One signal of the Numenta Anomaly Benchmark.',
  metrics: { value: { unit: '', min: -1e9, max: 1e9 } },
  formats: [{ name: 'signal', decode: (message) => ({ id: message.id, at: message.at, values: {} }), example: {} }],
  windows: { '1d': { spanMs: 24 * HOUR_MS, panes: 24 }, '14d': { spanMs: 14 * 24 * HOUR_MS, panes: 28 } },
  detectors: {},
  rules: [],
  silentAfterMs: HOUR_MS,
  graph: { type: 'signal' },
  digest: () => 'A signal.',
});
const INPUTS = ['value.1d.mean', 'value.14d.mean', 'value.14d.std'];

/** Distance of the mean of a day from that of two weeks, in standard deviations: through the fold of the runtime. */
function distances(series: LabelledSeries): Float64Array {
  const state = newState(SIGNAL, twinIdOf('signal', series.name));
  const reader = featureReader(SIGNAL, INPUTS);
  const features = new Float64Array(reader.width);
  return Float64Array.from(series.values, (value, row) => {
    const at = series.at[row];
    const reading = { kind: 'signal', id: series.name, at, values: { value }, key: String(row) };
    fold(state, { type: 'reading', revision: row + 1, receivedAt: at, reading }, []);
    featuresOf(state, reader, features, 0);
    const distance = Math.abs(features[0] - features[1]) / features[2];
    return Number.isFinite(distance) ? distance : 0;
  });
}

/** A detector of one signal without training, on the two series that are there; the whole benchmark has 58. */
export function scoreNab(dataDir: string): EvaluationScore {
  const series = NAMES.map((name) => readNab(dataDir, name));
  const value = nabScore(series, series.map(distances));
  return {
    name: 'NAB score, standard profile, of a statistical detector of one signal (not the model)',
    data: 'nab (2 of its 58 series)',
    split:
      'no training; one threshold for both series, chosen on them as the benchmark does; the window of a day was chosen on them too',
    value,
    floor: { name: 'a detector that says nothing', value: 0 },
  };
}
