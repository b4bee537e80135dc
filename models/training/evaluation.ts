import type { ModelCard } from '../card.ts';
import type { Rows } from './rows.ts';
import type { ExportSpec } from './spec.ts';

/**
 * How one model is judged: a file models/training/evaluations/<model>.ts with this as its default export. It asks for rows
 * and answers, and gives scores; what they are of is told by the names of the card's own scores.
 */
export interface Evaluation {
  evaluate(context: EvaluationContext): Promise<EvaluationScore[]>;
}

export interface EvaluationContext {
  card: ModelCard;
  /** held-out.json of the model: what the trainer kept apart. */
  heldOut: Record<string, unknown>;
  /** Folder of real data; null where there is none. */
  dataDir: string | null;
  /** Rows of a spec, through the fold of the kind. Throws not_found where its files are not there. */
  rows(spec: ExportSpec): Promise<Rows>;
  /** What the ONNX file answers, in ONNX Runtime for Node: rows × width of each output. */
  run(inputs: Float32Array, rows: number): Promise<Record<string, Float32Array>>;
  /** Says that something is not judged, and why. */
  skip(what: string, why: string): void;
}

export interface EvaluationScore {
  /** Name, data and split as in the card, where the card has the same score. */
  name: string;
  data: string;
  split: string;
  value: number;
  floor?: { name: string; value: number };
}
