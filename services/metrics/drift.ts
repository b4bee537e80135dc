import { Gauge, type Registry } from 'prom-client';
import { LEAST_HOURS, type ModelDrift } from '../drift/report.ts';

/** `data_drift_score`: as many series as live models have inputs. */
export class DriftMetrics {
  readonly #score: Gauge<'kind' | 'model' | 'input'>;
  readonly #limit: Gauge<'kind' | 'model' | 'input'>;

  constructor(registry: Registry) {
    this.#score = new Gauge({
      name: 'data_drift_score',
      help: 'Population stability index of an input of a live model over the last day, against its training.',
      labelNames: ['kind', 'model', 'input'],
      registers: [registry],
    });
    this.#limit = new Gauge({
      name: 'data_drift_limit',
      help: 'Above this data_drift_score is drift: DRIFT_THRESHOLD, and what chance makes of so few assets.',
      labelNames: ['kind', 'model', 'input'],
      registers: [registry],
    });
  }

  show(report: readonly ModelDrift[], threshold: number): void {
    this.#score.reset();
    this.#limit.reset();
    for (const { kind, model, inputs } of report.filter(({ hours }) => hours >= LEAST_HOURS))
      for (const { input, psi, chance = 0 } of inputs) {
        if (psi === null) continue;
        this.#score.set({ kind, model, input }, psi);
        this.#limit.set({ kind, model, input }, threshold + chance);
      }
  }
}
