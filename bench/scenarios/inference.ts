import { seededRandom, systemClock } from '../../actors/protocol/clock.ts';
import { Batcher, type BatcherOptions } from '../../models/batcher.ts';
import { findModels, readLimited } from '../../models/folder.ts';
import { Model } from '../../models/model.ts';
import { openOnnx } from '../../models/onnx.ts';
import { predictWith } from '../../models/predictor.ts';
import { ownCpuS } from '../cpu.ts';
import { autoencoder, boosted, type MeasuredModel, MODELS, trainedOrMadeUp } from '../model-sizes.ts';
import { type Figure, median, percentile, type Scenario, seconds } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const BATCHES = [1, 32, 512];
/** Models that hosts ask for contributions by occlusion, besides battery-rul; measured where they are trained. */
const EXPLAINED = ['battery-soh', 'battery-failure', 'machine-rul'];
const ROUNDS = 5;
const ROUND_S = 0.5;
const PACED_PER_S = 1_000;
const PACED_S = 8;

/** Predictions a second of one model on one core, from rows to predictions; and how long one takes at a calm rate. */
const scenario: Scenario = {
  name: 'inference',
  title: 'rows → predictions, one core, batch by batch; beside it session.run alone',
  async run(say) {
    const folder = temporaryFolder('inference');
    const figures: Figure[] = [];
    try {
      const measured = [
        await trainedOrMadeUp('battery-rul', folder.path, () => boosted(300, 5, 12)),
        await trainedOrMadeUp('machine-anomaly', folder.path, () => autoencoder(24, [32, 8, 32], ['t', 'v', 'p', 'w'])),
      ];
      for (const { model, called } of measured) {
        const explains = model.card.output.explain?.method === 'occlusion';
        for (const batch of BATCHES) figures.push(await rateOf(model, called, batch, false, say));
        if (explains) figures.push(await rateOf(model, called, BATCHES.at(-1) as number, true, say));
        figures.push(...(await paced(model, called)));
      }
      for (const { model } of measured as MeasuredModel[]) await model.retire();
      for (const [name, versions] of await findModels([MODELS])) {
        const newest = versions.at(-1);
        if (newest === undefined || !EXPLAINED.includes(name)) continue;
        const model = await Model.load(newest.path);
        figures.push(await rateOf(model, model.id, BATCHES.at(-1) as number, true, say));
        await model.retire();
      }
      return figures;
    } finally {
      folder.remove();
    }
  },
};
export default scenario;

function rowsOf(model: Model, rows: number): Float32Array {
  const random = seededRandom(rows);
  const { inputs } = model.card;
  return Float32Array.from({ length: rows * inputs.length }, (_, i) => {
    const { min, max, reference } = inputs[i % inputs.length];
    const edges = reference?.edges;
    if (edges !== undefined && edges.length > 1) return edges[0] + random() * (edges[edges.length - 1] - edges[0]);
    return Math.abs(max - min) > 1e5 ? random() * 2 - 1 : min + random() * (max - min);
  });
}

/** Rate of predictions with batches of one size; its ceiling is the session alone, in turn with it. */
async function rateOf(
  model: Model,
  called: string,
  batch: number,
  explain: boolean,
  say: (line: string) => void,
): Promise<Figure> {
  const inputs = rowsOf(model, batch);
  const at = Array.from({ length: batch }, (_, i) => i);
  const session = await openOnnx(await readLimited(model.path, 'model.onnx', 4_000_000));
  const names = [...model.outputs.keys()];
  let nulls = 0;
  const whole = async () => {
    const { predictions } = await predictWith(model, { inputs, rows: batch, at }, { explain });
    nulls += predictions.filter((p) => p === null).length;
  };
  const raw = async () => void (await session.run(inputs, batch, names));
  const rates: number[] = [];
  const raws: number[] = [];
  const cpus: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const before = ownCpuS();
    const done = await repeat(whole);
    cpus.push(((ownCpuS() - before) * 1e6) / (done.times * batch));
    rates.push((done.times * batch) / done.tookS);
    const alone = await repeat(raw);
    raws.push((alone.times * batch) / alone.tookS);
  }
  await session.close();
  // the first round warms up
  const value = median(rates.slice(1));
  const cpu = median(cpus.slice(1));
  say(
    `${called}, batch ${batch}: ${Math.round(value)} /s, ${cpu.toFixed(1)} µs of CPU each, ${nulls} without an answer`,
  );
  return {
    what: `${called}, batch ${batch}${explain ? ', contributions by occlusion' : ''}`,
    value,
    unit: 'predictions/s',
    ceiling: { what: 'session.run alone', value: median(raws.slice(1)) },
    ...(batch === BATCHES.at(-1) ? { atLeast: 20_000 } : {}),
    note: `${cpu.toFixed(1)} µs of CPU a prediction`,
  };
}

async function repeat(work: () => Promise<void>): Promise<{ times: number; tookS: number }> {
  let times = 0;
  const until = performance.now() + ROUND_S * 1000;
  const tookS = await seconds(async () => {
    while (performance.now() < until) {
      await work();
      times++;
    }
  });
  return { times, tookS };
}

/** Questions of one row, 1,000 a second, through the queue that the service has: from asking to the answer. */
async function paced(model: Model, called: string): Promise<Figure[]> {
  const idle = await pacedMs(model, async ({ at }) => ({ predictions: at.map(() => null) }));
  const tookMs = await pacedMs(model, (request, explain) => predictWith(model, request, { explain }));
  return [0.5, 0.99].map((share) => ({
    what: `${called}, one by one at 1,000 a second, p${share * 100}`,
    value: percentile(tookMs, share),
    unit: 'ms',
    ceiling: { what: 'the same without a model', value: percentile(idle, share) },
    ...(share === 0.99 ? { atMost: 10 } : {}),
  }));
}

async function pacedMs(model: Model, run: BatcherOptions['run']): Promise<number[]> {
  const batcher = new Batcher({ clock: systemClock, run });
  const inputs = rowsOf(model, 1);
  const tookMs: number[] = [];
  const asked: Promise<void>[] = [];
  const start = performance.now();
  for (let k = 0; k < PACED_PER_S * PACED_S; ) {
    const due = Math.floor(((performance.now() - start) / 1000) * PACED_PER_S);
    for (; k < Math.min(due, PACED_PER_S * PACED_S); k++) {
      const from = start + (k / PACED_PER_S) * 1000;
      asked.push(
        batcher.ask({ model: model.card.name, inputs, rows: 1, at: [k] }, 5_000).then(() => {
          // from when it was due, so that a queue that grows shows
          tookMs.push(performance.now() - from);
        }),
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(asked);
  return tookMs;
}
