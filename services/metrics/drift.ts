import { Gauge, type Registry } from 'prom-client';
import { LEAST_HOURS, type ModelDrift } from '../drift/report.ts';

/** `data_drift_score`: as many series as live models have inputs. */
export class DriftMetrics {
  readonly #score: Gauge<'kind' | 'model' | 'input'>;

  constructor(registry: Registry) {
    this.#score = new Gauge({
      name: 'data_drift_score',
      help: 'Population stability index of an input of a live model over the last day, against its training.',
      labelNames: ['kind', 'model', 'input'],
      registers: [registry],
    });
  }

  show(report: readonly ModelDrift[]): void {
    this.#score.reset();
    for (const { kind, model, inputs } of report.filter(({ hours }) => hours >= LEAST_HOURS))
      for (const { input, psi } of inputs) if (psi !== null) this.#score.set({ kind, model, input }, psi);
  }
}
