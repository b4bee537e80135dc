import type { LoadedModels, RefusedModel } from '../../models/registry.ts';

/** What a node with the role inference has loaded, as it tells the others. */
export interface InferenceNode {
  node: string;
  loaded: LoadedModels[];
  refused: RefusedModel[];
  /** Rows that wait for their turn. */
  waitingRows: number;
}

/** Whether a node could use a version. */
export interface Probed {
  node: string;
  /** Null: it could. */
  reason: string | null;
}
