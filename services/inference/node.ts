import type { LoadedModels, RefusedModel } from '../../models/registry.ts';

/** What a node with the role inference has loaded, as it tells the others. */
export interface InferenceNode {
  node: string;
  loaded: LoadedModels[];
  refused: RefusedModel[];
  /** Rows that wait for their turn. */
  waitingRows: number;
}
