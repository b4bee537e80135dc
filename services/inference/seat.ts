import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { PredictAnswer, Predictor, PredictRequest } from '../../actors/protocol/prediction.ts';

/** How asking goes, for health and metrics. */
export interface AskingStatus {
  /** `absent`: nobody has taken the seat, as in tools that open parts without services. */
  breaker: 'absent' | 'closed' | 'open' | 'half_open';
  asked: number;
  rows: number;
  /** Questions that had no answer, by code. */
  failures: Readonly<Record<string, number>>;
  /** Why the last question had no answer, and since when, ISO 8601; null while they are answered. */
  down: { reason: string; since: string } | null;
}

export interface SeatedPredictor extends Predictor {
  status(): AskingStatus;
}

/**
 * Where the predictor of a node will sit: a host is made before the broker through which it asks. Until somebody has taken
 * the seat, and in tools that have no broker, nobody answers.
 */
export class PredictorSeat implements SeatedPredictor {
  #taken: SeatedPredictor | null = null;
  #aside: SeatedPredictor | null = null;
  #isOver = false;
  /** For people and what they try out: what becomes of their questions, however many, is nothing to those of twins. */
  readonly aside: Predictor = { predict: (request) => this.#predict(this.#aside, request) };

  take(predictor: SeatedPredictor, aside: SeatedPredictor = predictor): void {
    this.#taken = predictor;
    this.#aside = aside;
    this.#isOver = false;
  }

  /** Only by whoever sits: a later one stays. The node stops: what is asked from now on has no answer, and is no fault. */
  leave(predictor: SeatedPredictor): void {
    if (this.#taken !== predictor) return;
    this.#taken = this.#aside = null;
    this.#isOver = true;
  }

  predict(request: PredictRequest): Promise<PredictAnswer> {
    return this.#predict(this.#taken, request);
  }

  async #predict(taken: SeatedPredictor | null, request: PredictRequest): Promise<PredictAnswer> {
    if (this.#isOver) return new Promise(() => {});
    if (taken === null) throw new TwinmeshError('inference_down', 'Nobody answers for models on this node yet.');
    return taken.predict(request);
  }

  /** Counts of both; how it goes is said by the questions of twins, where there are any. */
  status(): AskingStatus {
    const main = this.#taken?.status();
    if (main === undefined) return { breaker: 'absent', asked: 0, rows: 0, failures: {}, down: null };
    if (this.#aside === null || this.#aside === this.#taken) return main;
    const aside = this.#aside.status();
    const failures = { ...main.failures };
    for (const [code, count] of Object.entries(aside.failures)) failures[code] = (failures[code] ?? 0) + count;
    const { breaker, down } = main.asked > 0 ? main : aside;
    return { breaker, down, asked: main.asked + aside.asked, rows: main.rows + aside.rows, failures };
  }
}
