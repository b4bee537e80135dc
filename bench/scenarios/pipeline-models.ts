import { systemClock } from '../../actors/protocol/clock.ts';
import { featureNames } from '../../actors/protocol/feature.ts';
import { defineTwin, type Kind, type ModelUse } from '../../actors/protocol/kind.ts';
import type { Predictor } from '../../actors/protocol/prediction.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { loadSettings } from '../../config/settings.ts';
import { Batcher } from '../../models/batcher.ts';
import { predictWith } from '../../models/predictor.ts';
import { Asking } from '../../services/inference/asking.ts';
import { fromWire } from '../../services/inference/wire.ts';
import type { Models } from '../hot-path.ts';
import { autoencoder, boosted, type MeasuredModel, trainedOrMadeUp } from '../model-sizes.ts';
import { pipeline } from '../pipeline.ts';
import { sizeOf } from '../plant.ts';
import { median, type Scenario } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

/** Turns of both, one after the other: the machine is not the same from minute to minute. */
const TURNS = 2;

/** What the models of machines cost the durable pipeline, everything in one process: their rate beside the rate without. */
const scenario: Scenario = {
  name: 'pipeline-models',
  title: 'the durable pipeline with all models of machines on, and without, in turn',
  async run(say) {
    const twins = sizeOf('TWINS', 20_000);
    const readings = sizeOf('READINGS', 100_000);
    const folder = temporaryFolder('pipeline-models');
    const rates: Record<'on' | 'off', number[]> = { on: [], off: [] };
    let predicted = 0;
    let onS = 0;
    const { kind, measured } = await modelsOfMachines(folder.path);
    try {
      for (let turn = 0; turn < TURNS; turn++)
        for (const which of ['off', 'on'] as const) {
          const asked = which === 'on' ? asking(kind, measured, (rows) => (predicted += rows)) : undefined;
          const sql = await Pglite.open({ dataDir: `${folder.path}/${which}-${turn}` });
          const startedAt = performance.now();
          try {
            const [figure] = await pipeline({
              sql,
              twins,
              readings,
              perPayload: 500,
              atLeast: 0,
              say: (line) => say(`models ${which}: ${line}`),
              ...(asked && { models: asked }),
            });
            rates[which].push(figure.value);
          } finally {
            if (which === 'on') onS += (performance.now() - startedAt) / 1000;
            await sql.close();
          }
        }
      if (predicted === 0) throw new Error('no prediction was made');
      const on = median(rates.on);
      const off = median(rates.off);
      return [
        {
          what: `JSON → checkpoint, ${twins.toLocaleString('en-US')} machines, models on: ${measured.map(({ called }) => called).join(', ')}`,
          value: on,
          unit: 'readings/s',
          ceiling: { what: 'without models', value: off },
          note: `${Math.round(predicted / onS)} predictions a second beside it`,
        },
        { what: 'share of the rate without models', value: on / off, unit: '', atLeast: 0.7 },
      ];
    } finally {
      for (const { model } of measured) await model.retire();
      folder.remove();
    }
  },
};
export default scenario;

/** Machines with the models their kind names; while it names none, with an anomaly score and a remaining life made up. */
async function modelsOfMachines(folder: string): Promise<{ kind: Kind; measured: MeasuredModel[] }> {
  const found = (await loadKinds()).get('machine');
  const statistics = found.metricNames.flatMap((metric) =>
    ['mean', 'std', 'slope'].flatMap((statistic) =>
      found.windowNames.slice(0, 2).map((window) => `${metric}.${window}.${statistic}`),
    ),
  );
  const standIns: Record<string, ModelUse> = {
    anomaly: { model: 'machine-anomaly', inputs: statistics, everyMs: 1_000 },
    rul: { model: 'machine-rul', inputs: statistics, everyMs: 5_000 },
  };
  const kind = found.models ? found : defineTwin({ ...found, models: standIns });
  const uses = Object.values<ModelUse>(kind.models ?? {});
  const measured: MeasuredModel[] = [];
  for (const { model, inputs } of uses) {
    const width = featureNames(kind, inputs).length;
    const make = () =>
      model.includes('anomaly') ? autoencoder(width, [32, 8, 32], kind.metricNames) : boosted(300, 5, width);
    measured.push(await trainedOrMadeUp(model, folder, make));
  }
  return { kind, measured };
}

/** Asking as a node has it: through wire, queue and models; only the broker between them is left out. */
function asking(kind: Kind, measured: readonly MeasuredModel[], onRows: (rows: number) => void): Models {
  const { inferenceDeadlineMs, inferenceMaxPerSecond } = loadSettings({});
  const models = new Map(measured.map(({ model }) => [model.card.name, model]));
  const batcher = new Batcher({
    clock: systemClock,
    run: (request, explain) => {
      onRows(request.rows);
      const model = models.get(request.model);
      if (model === undefined) throw new Error(`no model ${request.model}`);
      return predictWith(model, request, { explain });
    },
  });
  const predictor: Predictor = new Asking({
    clock: systemClock,
    deadlineMs: inferenceDeadlineMs,
    async call(wire) {
      const { request, deadlineMs, explain } = fromWire(wire);
      return { predictions: await batcher.ask(request, deadlineMs, explain) };
    },
  });
  return { predictor, predictionsPerSecond: inferenceMaxPerSecond, kinds: [kind] };
}
