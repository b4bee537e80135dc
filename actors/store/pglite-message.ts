/** What the adapter and the thread of PGlite say to each other. */
export interface PgliteSettings {
  /** Folder of the cluster; null: in memory. */
  dir: string | null;
  /** fsync the WAL at every commit, so that what was answered survives power loss, not only the death of the process. */
  durable: boolean;
  /** Further server parameters, `name=value`. */
  parameters: string[];
  /** Write-ahead log between two checkpoints; null: the default of upkeep. */
  checkpointBytes: number | null;
  /** How long nothing has to happen before upkeep looks around. */
  idleMs: number;
}

export type PgliteRequest =
  | { id: number; type: 'query'; text: string; params: readonly unknown[]; priority: boolean; name?: string }
  | { id: number; type: 'exec'; text: string }
  | { id: number; type: 'close' };

/** Id 0 reports the start. `fatal`: the database is gone and the thread ends. */
export type PgliteReply =
  | { id: number; rows: unknown[]; error?: undefined }
  | { id: number; error: { message: string; sqlState: string | undefined; fatal: boolean } };
