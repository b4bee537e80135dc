/**
 * Figures that docs/SCALE.md computes with: each with the command that gives it. Null: not measured yet, and what follows from
 * it is not computed. `node bench/scale.ts --write` writes the document anew after one has changed.
 */
export interface Measured {
  what: string;
  unit: string;
  value: number | null;
  command: string;
  /** Which line of its output, or what to know about it. */
  where: string;
}

export const MEASURED = {
  drainPerS: {
    what: 'readings that one host commits from a filled log, all servers on the same 2 cores',
    unit: 'readings/s',
    value: 76_802,
    command: 'npm run bench -- jetstream-pipeline',
    where: 'a filled log drained by one host',
  },
  rawPerS: {
    what: 'the same rows inserted raw',
    unit: 'rows/s',
    value: 259_560,
    command: 'npm run bench -- jetstream-pipeline',
    where: 'its ceiling',
  },
  hostCpuUs: {
    what: 'CPU of a reading in the host, a twin speaking every 10 s',
    unit: 'µs',
    value: 78.4,
    command: 'TWINS=200000 NODES=1 npm run bench -- nodes-cpu',
    where: 'nodes, in the note: seconds a million readings are µs a reading',
  },
  databaseCpuUs: {
    what: 'CPU of a reading in PostgreSQL, a twin speaking every 10 s',
    unit: 'µs',
    value: 23.7,
    command: 'TWINS=200000 NODES=1 npm run bench -- nodes-cpu',
    where: 'database, in the note',
  },
  natsCpuUs: {
    what: 'CPU of a reading in NATS, written and read once, one copy',
    unit: 'µs',
    value: 3.1,
    command: 'TWINS=200000 NODES=1 npm run bench -- nodes-cpu',
    where: 'NATS, in the note',
  },
  fourNodes: {
    what: 'CPU of the same readings on 4 nodes, of what it is on 1',
    unit: 'times',
    value: 1.06,
    command: 'npm run bench -- nodes-cpu',
    where: 'in the note of 4 nodes',
  },
  walBytes: {
    what: 'write-ahead log of a reading, a twin speaking every 10 s',
    unit: 'bytes',
    value: 1_703,
    command: 'TWINS=200000 NODES=1 npm run bench -- nodes-cpu',
    where: 'in the note; full pages after checkpoints are in it as far as one fell into the run',
  },
  historyBytes: {
    what: 'a reading in history, with its index',
    unit: 'bytes',
    value: 165,
    command: 'npm run bench -- jetstream-pipeline',
    where: 'a reading in history, with its index',
  },
  logBytes: {
    what: 'a reading in the log',
    unit: 'bytes',
    value: 18.2,
    command: 'npm run bench -- jetstream-pipeline',
    where: 'a reading in the log: messages of about 100 readings, one copy',
  },
  residentBytes: {
    what: 'a twin in memory (mote)',
    unit: 'bytes',
    value: 8_220,
    command: 'TWINS=300000 npm run bench -- million-twins',
    where: 'memory of a resident mote, after a reading or two',
  },
  passiveBytes: {
    what: 'a twin in the database, its row and latest snapshot',
    unit: 'bytes',
    value: 3_112,
    command: 'TWINS=300000 npm run bench -- million-twins',
    where: 'a passive mote in the database',
  },
  activationsPerS: {
    what: 'twins that come into memory, 2 hosts and all servers on the same 2 cores',
    unit: 'twins/s',
    value: 10_396,
    command: 'TWINS=300000 npm run bench -- million-twins',
    where: 'first activations',
  },
  ingestPerS: {
    what: 'MQTT QoS 1 messages that one ingest decodes and hands on, database behind it',
    unit: 'messages/s',
    value: 44_993,
    command: 'npm run bench -- mosquitto',
    where: 'QoS 1 → committed, one subscriber',
  },
  failoverS: {
    what: 'a killed host replaced, p95 with a ttl of 2 s',
    unit: 's',
    value: 5.22,
    command: 'npm run bench -- failover',
    where: 'p95',
  },
} satisfies Record<string, Measured>;

export type MeasuredName = keyof typeof MEASURED;
