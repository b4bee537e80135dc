/**
 * What a model says of a twin, and the port through which a host asks. Plain JSON: a prediction is journaled as it is, and
 * replay folds it again without asking anybody.
 */
export interface Prediction {
  /** `name@version` of the model that said it. */
  model: string;
  /** Event time of the newest reading it is based on, milliseconds since the epoch. */
  at: number;
  /** Regression: the value, in `unit`. */
  value?: number;
  unit?: string;
  /** Where the truth lies with the coverage that the model card states, `[lo, hi]`, in `unit`. */
  interval?: [number, number];
  /** Anomaly score; above `threshold` it is one. */
  score?: number;
  threshold?: number;
  /** Share of each metric in the answer: none negative, sum 1. */
  contributions?: Record<string, number>;
  /** Classification: the likeliest class, and all of them with their probabilities, sum 1. */
  class?: string;
  probabilities?: Record<string, number>;
  /** Forecast: values of metrics `horizonMs` after `at`. */
  horizonMs?: number;
  forecast?: Record<string, number>;
  /** Where each of them lies with the coverage that the model card states. */
  forecastLo?: Record<string, number>;
  forecastHi?: Record<string, number>;
}

/** One question to one model for many twins. */
export interface PredictRequest {
  /** Name of the model, without version: which one is live is the registry's to say. */
  model: string;
  /** Rows × width of the inputs as the kind names them, in that order, unscaled; NaN where a twin has no value. */
  inputs: Float32Array;
  rows: number;
  /** Event times of the rows, ms: become `at` of the answers. */
  at: readonly number[];
}

export interface PredictAnswer {
  /** In order of the rows; null where the model's answer was refused (not finite, out of its stated range). */
  predictions: readonly (Prediction | null)[];
}

/** Whoever answers. A host asks it after commits, many twins at once, and never waits for it with telemetry. */
export interface Predictor {
  /** Throws TwinmeshError inference_down (no such model, breaker open, nobody there), deadline_exceeded, overloaded. */
  predict(request: PredictRequest): Promise<PredictAnswer>;
}
