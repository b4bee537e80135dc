import { decodeBatch, encodeBatch } from '../actors/log/batch-encoding.ts';
import type { LogBatch } from '../actors/log/port.ts';
import { shardOf, twinIdOf } from '../actors/protocol/twin-id.ts';
import type { Sql } from '../actors/store/sql.ts';
import { ownCpuS, treeCpuS } from './cpu.ts';
import { type Models, openHotPath, SHARDS } from './hot-path.ts';
import { type Figure, median, seconds } from './scenario.ts';

const T0 = 1_750_000_000_000;
const RAW_ROWS = 300_000;
/** Readings that are on their way at a time. */
const IN_FLIGHT = 32_000;

export interface PipelineOptions {
  sql: Sql;
  twins: number;
  readings: number;
  /** Readings a payload, as a gateway or a loader would send them. */
  perPayload: number;
  atLeast: number;
  /** The readings come as a log has them, in its encoding and one batch a shard for a payload, instead of as JSON from sources. */
  batches?: boolean;
  /** Process of the database, where it is one of ours: its CPU is told beside the rate. */
  databasePid?: number | null;
  /** Models that the twins ask meanwhile. */
  models?: Models;
  say(line: string): void;
}

/**
 * The durable pipeline: JSON text → decode and validate → log → turn → checkpoint, timed from the first byte read to the
 * last commit; and beside it, in the same run, the same rows inserted raw into a table of the same columns and index.
 */
export async function pipeline(options: PipelineOptions): Promise<Figure[]> {
  const { sql, say } = options;
  const { ingress, log, host } = await openHotPath(sql, 16 * 2 ** 20, options.models);
  const rates: number[] = [];
  const raws: number[] = [];
  const rawCpus: number[] = [];
  const cpus: number[][] = [];
  let from = 0;
  for (let round = 0; round < 4; round++) {
    // made before the clock starts, as text or as batches
    const feeds = options.batches ? batchesOf(options, from) : payloadsOf(options, from);
    from += options.readings;
    const cpuBefore = cpuNow(options);
    const took = await seconds(async () => {
      let open = 0;
      let wake: (() => void) | null = null;
      const done = (): void => {
        open--;
        wake?.();
      };
      for (const feed of feeds) {
        open++;
        if (typeof feed === 'string') {
          const intake = ingress.read({ protocol: 'http', address: '/api/v1/telemetry', speaker: null }, feed);
          void ingress.store([intake], { wait: 'commit', patient: true }, (_, error) => {
            if (error) throw error;
            done();
          });
        } else
          void Promise.all(feed.map(({ bytes, ...of }) => log.append({ ...of, ...decodeBatch(bytes) }))).then(done);
        while (open * options.perPayload >= IN_FLIGHT) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
      while (open > 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    });
    const cpu = cpuNow(options).map((now, i) => ((now - cpuBefore[i]) * 1e6) / options.readings);
    cpus.push(cpu);
    rates.push(options.readings / took);
    const rawBefore = cpuNow(options)[1];
    raws.push(await raw(sql, options, from));
    rawCpus.push(((cpuNow(options)[1] - rawBefore) * 1e6) / Math.min(options.readings, RAW_ROWS));
    say(
      `round ${round}: ${Math.round(rates[round]).toLocaleString('en-US')} readings/s, raw ${Math.round(raws[round]).toLocaleString('en-US')} rows/s; CPU a reading: host ${cpu[0].toFixed(1)} µs, database ${cpu[1].toFixed(1)} µs; raw: database ${rawCpus[round].toFixed(1)} µs`,
    );
  }
  const [{ n }] = await sql.query<{ n: number }>('select count(*)::int as n from machine_readings');
  if (n !== from) throw new Error(`${n} rows are stored of ${from} readings`);
  if (host.counters.accepted !== from) throw new Error(`${host.counters.accepted} readings were accepted of ${from}`);
  await host.stop();
  // the first round warms up
  const value = median(rates.slice(1));
  // rates of a shared machine say little; CPU a reading does
  const of = (part: 0 | 1): string => median(cpus.slice(1).map((cpu) => cpu[part])).toFixed(1);
  const spent = options.databasePid
    ? `CPU a reading: host ${of(0)} µs, database ${of(1)} µs (raw ${median(rawCpus.slice(1)).toFixed(1)} µs)`
    : null;
  const ceiling = { what: 'the same rows inserted raw by unnest', value: median(raws.slice(1)) };
  return [
    {
      what: `${options.batches ? 'encoded batches' : 'JSON'} → decode → log → turn → checkpoint, ${options.twins.toLocaleString('en-US')} twins of 4 metrics`,
      value,
      unit: 'readings/s',
      ceiling,
      atLeast: options.atLeast,
      ...(spent === null ? {} : { note: spent }),
    },
    { what: 'share of raw', value: value / ceiling.value, unit: '', atLeast: 0.5 },
  ];
}

/** Seconds of CPU so far: this process, the database. */
function cpuNow({ databasePid }: PipelineOptions): [host: number, database: number] {
  return [ownCpuS(), databasePid ? treeCpuS(databasePid) : Number.NaN];
}

/** Reading `k` of the run: the fleet speaks once a second of event time. */
function sampleOf(twins: number, k: number): { id: string; at: number; values: Record<string, number> } {
  const t = Math.floor(k / twins);
  return {
    id: `M${k % twins}`,
    at: T0 + t * 1000,
    values: {
      temperature: 65 + Math.sin(t / 9),
      vibration: 1.2 + Math.sin(t / 5) / 10,
      pressure: 45 + (k % 7) / 10,
      power: 250 - (k % 11),
    },
  };
}

function payloadsOf({ twins, readings, perPayload }: PipelineOptions, from: number): string[] {
  const payloads: string[] = [];
  for (let start = 0; start < readings; start += perPayload) {
    const messages: string[] = [];
    for (let i = start; i < Math.min(readings, start + perPayload); i++) {
      const { id, at, values } = sampleOf(twins, from + i);
      messages.push(JSON.stringify({ timestamp: new Date(at).toISOString(), machine_id: id, readings: values }));
    }
    payloads.push(`[${messages.join(',')}]`);
  }
  return payloads;
}

interface Encoded {
  shard: number;
  id: string;
  bytes: Uint8Array;
}

function batchesOf({ twins, readings, perPayload }: PipelineOptions, from: number): Encoded[][] {
  const feeds: Encoded[][] = [];
  for (let start = 0; start < readings; start += perPayload) {
    const byShard = new Map<number, LogBatch>();
    for (let i = start; i < Math.min(readings, start + perPayload); i++) {
      const { id, at, values } = sampleOf(twins, from + i);
      const shard = shardOf(twinIdOf('machine', id), SHARDS);
      let batch = byShard.get(shard);
      if (batch === undefined) {
        batch = { shard, id: `bench-${from + start}-${shard}`, receivedAt: Date.now(), readings: [] };
        byShard.set(shard, batch);
      }
      batch.readings.push({ kind: 'machine', id, at, values });
    }
    feeds.push([...byShard.values()].map((batch) => ({ shard: batch.shard, id: batch.id, bytes: encodeBatch(batch) })));
  }
  return feeds;
}

/** Rows a second that the store takes as they are: same columns, same index, no twins, statements of 10,000 rows. */
export async function raw(
  sql: Sql,
  { twins, readings }: Pick<PipelineOptions, 'twins' | 'readings'>,
  from: number,
): Promise<number> {
  await sql.exec(`
    drop table if exists bench_raw;
    create table bench_raw (like machine_readings);
    create index bench_raw_twin_at on bench_raw (twin, at);
  `);
  const count = Math.min(readings, RAW_ROWS);
  const statements: unknown[][] = [];
  for (let start = 0; start < count; start += 10_000) {
    const columns: unknown[][] = [[], [], [], [], [], [], []];
    for (let i = start; i < Math.min(count, start + 10_000); i++) {
      const t = Math.floor((from + i) / twins);
      const row = [
        i % twins,
        T0 + t * 1000,
        i,
        65 + Math.sin(t / 9),
        1.2 + Math.sin(t / 5) / 10,
        45 + (i % 7) / 10,
        250 - (i % 11),
      ];
      for (let c = 0; c < 7; c++) columns[c].push(row[c]);
    }
    statements.push(columns.map((column) => `{${column.join(',')}}`));
  }
  const took = await seconds(async () => {
    for (const params of statements) {
      await sql.query(
        `insert into bench_raw (shard, twin, at, received_at, revision, temperature, vibration, pressure, power)
         select 1, twin, to_timestamp(at / 1000), to_timestamp(at / 1000), revision, t, v, p, w
         from unnest($1::bigint[], $2::float8[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[], $7::float8[])
           as r(twin, at, revision, t, v, p, w)`,
        params,
      );
    }
  });
  return count / took;
}
