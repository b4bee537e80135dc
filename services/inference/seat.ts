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
  #isOver = false;

  take(predictor: SeatedPredictor): void {
    this.#taken = predictor;
    this.#isOver = false;
  }

  /** Only by whoever sits: a later one stays. The node stops: what is asked from now on has no answer, and is no fault. */
  leave(predictor: SeatedPredictor): void {
    if (this.#taken !== predictor) return;
    this.#taken = null;
    this.#isOver = true;
  }

  async predict(request: PredictRequest): Promise<PredictAnswer> {
    if (this.#isOver) return new Promise(() => {});
    if (this.#taken === null) throw new TwinmeshError('inference_down', 'Nobody answers for models on this node yet.');
    return this.#taken.predict(request);
  }

  status(): AskingStatus {
    return this.#taken?.status() ?? { breaker: 'absent', asked: 0, rows: 0, failures: {}, down: null };
  }
}
