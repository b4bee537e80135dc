import { Counter, Gauge, type Registry } from 'prom-client';
import type { LogStatus } from '../../actors/log/jetstream-status.ts';

/** The JetStream log as this node sees it. */
const COUNTERS = {
  published: ['twinmesh_log_published_total', 'Messages that the log took from this node.'],
  duplicates: ['twinmesh_log_duplicates_total', 'Messages that the log had already.'],
  fetched: ['twinmesh_log_fetched_total', 'Messages that arrived here to be folded.'],
  stalls: ['twinmesh_log_stalls_total', 'Readers made anew because nothing came although there was something.'],
  gaps: ['twinmesh_log_gaps_total', 'Readers made anew because a delivery was missing.'],
  undecodable: ['twinmesh_log_undecodable_total', 'Messages that could not be read; they are in the dead letters.'],
  reconnects: ['twinmesh_log_reconnects_total', 'Times that the connection to the log came back.'],
  lostNotes: ['twinmesh_log_lost_notes_total', 'Commits learnt from the database, because the note did not come.'],
} as const satisfies Partial<Record<keyof LogStatus, readonly [string, string]>>;

export function watchLog(registry: Registry, status: () => LogStatus): void {
  const registers = [registry];
  for (const [member, [name, help]] of Object.entries(COUNTERS)) {
    const counter: Counter = new Counter({
      name,
      help,
      registers,
      collect() {
        counter.reset();
        counter.inc(status()[member as keyof typeof COUNTERS]);
      },
    });
  }
  const gauge = (name: string, help: string, read: (status: LogStatus) => number): void => {
    const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(read(status())) });
  };
  gauge('twinmesh_log_lag_messages', 'Messages of the shards of this node that it has not taken.', (s) => s.behind);
  gauge(
    'twinmesh_log_lag_readings',
    'Readings in those messages, by the mean of the messages that were taken.',
    ({ behind, readings, fetched }) =>
      fetched === 0 ? behind : Math.round((behind * Math.max(readings, fetched)) / fetched),
  );
  gauge('twinmesh_nats_connected', '1 while the log is connected.', ({ connected }) => Number(connected));
  gauge('twinmesh_log_buffered_bytes', 'Messages that have arrived and wait to be folded.', (s) => s.bufferedBytes);
  gauge('twinmesh_log_in_flight_bytes', 'Messages sent to the log and not yet taken by it.', (s) => s.inFlightBytes);
  gauge('twinmesh_log_waiting', 'Appends that wait for their commit.', ({ waiting }) => waiting);
}
