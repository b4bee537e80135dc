/** A node of the mesh, as it speaks of itself; its shards as the database has them. */
export interface NodeItem {
  node: string;
  roles: readonly string[];
  /** `silent`: it owns shards or is in the mesh and does not answer. */
  state: 'starting' | 'running' | 'draining' | 'drained' | 'stopped' | 'silent';
  /** Shards it owns, as the database has them. */
  shards: number;
  recovering: number;
  twins: number;
  readings: number;
  fenced: number;
  uptimeMs: number;
  memoryMb: number;
  version: string;
}
