/** What the log has done since it was opened, and how it stands. */
export interface LogCounters {
  /** Messages that the stream took. */
  published: number;
  /** Messages that it had already. */
  duplicates: number;
  /** Messages that arrived here to be read. */
  fetched: number;
  /** Consumers made anew because nothing came although there was something. */
  stalls: number;
  /** Consumers made anew because a delivery was missing. */
  gaps: number;
  /** Messages that could not be read and were skipped. */
  undecodable: number;
  reconnects: number;
  /** Commits learnt from the database, because the note of the host did not come. */
  lostNotes: number;
  /** Readings of the messages that were taken. */
  readings: number;
}

export interface LogStatus extends LogCounters {
  connected: boolean;
  readers: number;
  bufferedBytes: number;
  /** Messages of the shards that are read here and were not taken, as of the newest delivery of each. */
  behind: number;
  inFlightBytes: number;
  /** Appends that wait for their commit. */
  waiting: number;
}

export function newCounters(): LogCounters {
  return {
    published: 0,
    duplicates: 0,
    fetched: 0,
    stalls: 0,
    gaps: 0,
    undecodable: 0,
    reconnects: 0,
    lostNotes: 0,
    readings: 0,
  };
}
