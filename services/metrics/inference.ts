import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { AskingStatus } from '../inference/seat.ts';

/** What models answer, on a node with the role inference. Labels are names of registered models, and closed lists. */
export class InferenceMetrics {
  readonly #predictions: Counter<'model' | 'version'>;
  readonly #refused: Counter<'model' | 'reason'>;
  readonly #batch: Histogram;
  readonly #latency: Histogram<'model'>;
  readonly #difference: Histogram<'model' | 'version'>;
  readonly #swaps: Counter<'model'>;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#predictions = new Counter({
      name: 'model_prediction_count',
      help: 'Predictions given, by model and version.',
      labelNames: ['model', 'version'],
      registers,
    });
    this.#refused = new Counter({
      name: 'twinmesh_inference_refused',
      help: 'Rows without a prediction: what the model said was none, or nobody had the time.',
      labelNames: ['model', 'reason'],
      registers,
    });
    this.#batch = new Histogram({
      name: 'twinmesh_inference_batch_size',
      help: 'Rows that went through a model together.',
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000],
      registers,
    });
    this.#latency = new Histogram({
      name: 'twinmesh_inference_latency_seconds',
      help: 'One batch through one model.',
      labelNames: ['model'],
      buckets: [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2],
      registers,
    });
    this.#difference = new Histogram({
      name: 'twinmesh_inference_shadow_difference',
      help: 'How far the shadow is from the live version: 0 alike, 1 as far as can be.',
      labelNames: ['model', 'version'],
      buckets: [0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1],
      registers,
    });
    this.#swaps = new Counter({
      name: 'twinmesh_inference_swaps_total',
      help: 'Changes of the version that answers.',
      labelNames: ['model'],
      registers,
    });
  }

  answered(model: string, version: string, predictions: number, seconds: number): void {
    this.#predictions.inc({ model, version }, predictions);
    this.#latency.observe({ model }, seconds);
  }

  refused(model: string, reason: string, rows: number): void {
    this.#refused.inc({ model, reason }, rows);
  }

  batch(rows: number): void {
    this.#batch.observe(rows);
  }

  compared(model: string, version: string, differences: readonly number[]): void {
    for (const difference of differences) this.#difference.observe({ model, version }, difference);
  }

  swapped(model: string): void {
    this.#swaps.inc({ model });
  }
}

/** How asking goes, on every node. */
export function watchAsking(registry: Registry, status: () => AskingStatus): void {
  const registers = [registry];
  const breaker: Gauge = new Gauge({
    name: 'twinmesh_inference_breaker_open',
    help: '1 while nobody is asked for predictions because too many questions in a row had no answer.',
    registers,
    collect: () => breaker.set(status().breaker === 'open' ? 1 : 0),
  });
  const asked: Counter = new Counter({
    name: 'twinmesh_inference_asked_total',
    help: 'Questions to models, many rows each.',
    registers,
    collect() {
      asked.reset();
      asked.inc(status().asked);
    },
  });
  const failed: Counter<'code'> = new Counter({
    name: 'twinmesh_inference_failures_total',
    help: 'Questions to models that had no answer.',
    labelNames: ['code'],
    registers,
    collect() {
      failed.reset();
      for (const [code, count] of Object.entries(status().failures)) failed.inc({ code }, count);
    },
  });
}
