import type { Random } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { PredictAnswer, Predictor, PredictRequest } from '../../actors/protocol/prediction.ts';
import type { Process } from './clock.ts';
import { Lost, type Network } from './network.ts';

/** Numbers a row of each use, as the kinds of the simulation name their inputs; the first is the metric that is judged. */
export const WEAR_LIFE = 100;
export const ODD_LOAD = 200;
export const ODD_THRESHOLD = 1;

/** What a simulated model makes of the values of its first inputs: plain enough for the oracle to know it. */
export function wearOf(value: number): number {
  return WEAR_LIFE - Math.fround(value);
}

/** How far the load is from where it should be, against how far it may be. */
export function oddityOf(temperature: number, load: number): { score: number; contributions: Record<string, number> } {
  const byLoad = Math.abs(Math.fround(load) - ODD_LOAD) / 150;
  const byHeat = Math.max(0, Math.fround(temperature) - 60) / 40;
  const sum = byLoad + byHeat;
  const contributions = sum > 0 ? { load: byLoad / sum, temperature: byHeat / sum } : { load: 0.5, temperature: 0.5 };
  return { score: sum, contributions };
}

export type Mode = 'fine' | 'down' | 'hangs' | 'slow' | 'babbles' | 'refuses';

/** The inference of a simulation, behind the network: it can be slow, hang, fail, or answer what is no answer. */
export class ModelServer {
  mode: Mode = 'fine';
  slowMs = 0;
  readonly #network: Network;
  readonly #random: Random;

  constructor(network: Network, random: Random) {
    this.#network = network;
    this.#random = random;
  }

  /** One process's way to it. */
  connect(process: Process): Predictor {
    const { scheduler } = this.#network;
    return {
      predict: async (request) => {
        const copy = structuredClone(request) as PredictRequest;
        if (this.mode === 'hangs' && this.#random() < 0.9) return new Promise<never>(() => {});
        if (this.mode === 'slow') {
          await new Promise<void>((resolve) => scheduler.after(this.slowMs, () => process.run(resolve)));
        }
        try {
          return await this.#network.request(process, 'inference', () => this.#answer(copy), 6_000);
        } catch (error) {
          throw error instanceof Lost ? new TwinmeshError('inference_down', error.message) : error;
        }
      },
    };
  }

  #answer({ model, inputs, rows, at }: PredictRequest): PredictAnswer {
    if (this.mode === 'down') throw new TwinmeshError('inference_down', 'the models are away');
    const width = inputs.length / rows;
    const predictions: unknown[] = [];
    for (let i = 0; i < rows; i++) predictions.push(sayOf(model, inputs.subarray(i * width, (i + 1) * width), at[i]));
    if (this.mode === 'babbles') this.#babble(predictions);
    if (this.mode === 'refuses') for (let i = 0; i < rows; i++) if (this.#random() < 0.5) predictions[i] = null;
    return { predictions } as PredictAnswer;
  }

  /** Answers that are none: too few, not finite, of another model, of another shape. */
  #babble(predictions: unknown[]): void {
    const draw = this.#random();
    if (draw < 0.2) predictions.pop();
    else if (draw < 0.8)
      for (let i = 0; i < predictions.length; i++)
        if (this.#random() < 0.5) predictions[i] = NONSENSE[Math.floor(this.#random() * NONSENSE.length)];
  }
}

const NONSENSE: readonly unknown[] = [
  undefined,
  'fine',
  { model: 'another@1.0.0', value: 1, score: 9, threshold: 1 },
  { model: 'gauge-wear@1.0.0', value: Number.NaN },
  { model: 'gauge-oddity@1.0.0', score: 5, threshold: 0 },
];

function sayOf(model: string, row: Float32Array, at: number) {
  // times of the answer are the host's to know
  const head = { model: `${model}@1.0.0`, at: at + 1 };
  if (model === 'gauge-wear') {
    const value = wearOf(row[0]);
    return { ...head, value, unit: 'h', interval: [value - 10, value + 10] };
  }
  return { ...head, ...oddityOf(row[0], row[1]), threshold: ODD_THRESHOLD };
}
