import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { H } from '../../actors/runtime/layout.ts';
import { encodeSnapshot, SNAPSHOT_SHAPE } from '../../actors/runtime/snapshot.ts';
import { newState, type TwinState } from '../../actors/runtime/state.ts';
import { fold } from '../../actors/runtime/turn.ts';
import { Pg } from '../../actors/store/pg.ts';
import { type Cut, type CutShard, type JournalReading, TWIN_KEYS_PER_SHARD } from '../../actors/store/port.ts';
import { statementOf } from '../../actors/store/postgres/commit.ts';
import { nameOf, prepared } from '../../actors/store/postgres/statement.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { treeCpuS } from '../cpu.ts';
import { type Figure, type Scenario, seconds } from '../scenario.ts';

const SHARDS = 256;
const TWINS = 10_000;
const ROWS = 10_000;
const CUTS = 30;
const T0 = 1_750_000_000_000;
/** Readings folded before the first cut, so that snapshots are as large as in a life of ten minutes of lateness. */
const LIVED = 200;

/** What of a cut is switched on, in rows a cut. */
interface Parts {
  name: string;
  shards: number;
  readings: number;
  summaries: number;
  snapshots: number;
}

const STEPS: readonly Parts[] = [
  { name: 'history and the fence of 1 shard', shards: 1, readings: ROWS, summaries: 0, snapshots: 0 },
  { name: 'history and the fence of 256 shards', shards: SHARDS, readings: ROWS, summaries: 0, snapshots: 0 },
  { name: 'with 1,000 summaries', shards: SHARDS, readings: ROWS, summaries: 1_000, snapshots: 0 },
  { name: 'with 500 snapshots', shards: SHARDS, readings: ROWS, summaries: 0, snapshots: 500 },
  { name: 'with 1,000 summaries and 500 snapshots', shards: SHARDS, readings: ROWS, summaries: 1_000, snapshots: 500 },
  { name: 'the fence of 256 shards alone', shards: SHARDS, readings: 0, summaries: 0, snapshots: 0 },
  { name: 'summaries alone, 1,000 a cut', shards: SHARDS, readings: 0, summaries: 1_000, snapshots: 0 },
  { name: 'snapshots alone, 500 a cut', shards: SHARDS, readings: 0, summaries: 0, snapshots: 500 },
];

/**
 * The store alone, part by part: prepared cuts of 10,000 readings against the same rows by a bare unnest, so that the cost of
 * each part is seen. Building the parameters (the host's share) and the statement (the database's) are timed apart.
 */
const scenario: Scenario = {
  name: 'store-commit',
  title: `cuts of ${ROWS.toLocaleString('en-US')} readings of ${TWINS.toLocaleString('en-US')} machines, part by part`,
  async run(say) {
    const server = await findPostgres();
    if (server === null) {
      say('skipped: no PostgreSQL here');
      return [];
    }
    const sql = await Pg.open({ url: await server.database() });
    try {
      return await measure(sql, server.pid, say);
    } finally {
      await sql.close();
      await server.stop();
    }
  },
};
export default scenario;

async function measure(sql: Sql, pid: number | null, say: (line: string) => void): Promise<Figure[]> {
  const kinds = await loadKinds();
  const byName = new Map(kinds.all().map((kind) => [kind.kind, kind]));
  const store = new PostgresStore(sql);
  await store.open(kinds.all(), SHARDS);
  const free = (await store.shards()).map(({ shard, owner, epoch }) => ({ shard, owner, epoch }));
  const owned = new Map((await store.claim('bench', free)).map((row) => [row.shard, row]));
  const fleet = new Fleet(kinds.get('machine'));
  const commit = async (cut: Cut): Promise<{ buildMs: number; commitMs: number }> => {
    const startedAt = performance.now();
    const { text, values } = statementOf(cut, byName);
    const builtAt = performance.now();
    const rows = await sql.query(text, values, { priority: true, name: nameOf(text) });
    if (rows.length !== cut.shards.length) throw new Error(`${rows.length} of ${cut.shards.length} shards committed`);
    for (const { shard } of cut.shards) owned.get(shard)!.commitNo++;
    return { buildMs: builtAt - startedAt, commitMs: performance.now() - builtAt };
  };
  // every twin has its row and a snapshot to replace
  for (let from = 0; from < TWINS; from += 1_000) await commit(fleet.cut(owned, 0, SHARDS, 1_000, 1_000));

  const figures: Figure[] = [];
  const raw = await bare(sql, pid, fleet);
  const ceiling = { what: 'the same rows inserted by a bare unnest', value: raw.rate };
  say(`bare unnest: ${raw.cost}`);
  for (const step of STEPS) {
    await sql.exec('truncate machine_readings');
    let buildMs = 0;
    let commitMs = 0;
    const walBefore = await walBytes(sql);
    const cpuBefore = cpuOf(pid);
    for (let c = 0; c < CUTS; c++) {
      const cost = await commit(fleet.cut(owned, step.readings, step.shards, step.summaries, step.snapshots));
      buildMs += cost.buildMs;
      commitMs += cost.commitMs;
    }
    const { readings, summaries, snapshots } = step;
    const rows = CUTS * (readings || summaries || snapshots || step.shards);
    const walARow = ((await walBytes(sql)) - walBefore) / rows;
    const value = rows / (commitMs / 1000);
    const cost = costOf(
      (buildMs * 1000) / rows,
      (commitMs * 1000) / rows,
      ((cpuOf(pid) - cpuBefore) * 1e6) / rows,
      walARow,
    );
    say(`${step.name}: ${Math.round(value).toLocaleString('en-US')} rows/s; ${cost}`);
    figures.push({ what: step.name, value, unit: 'rows/s', ...(readings > 0 ? { ceiling } : {}), note: cost });
  }
  return figures;
}

/** Costs of one row in µs: building its parameters here, waiting for its commit, and the CPU that the database had of it. */
function costOf(buildUs: number, commitUs: number, cpuUs: number, walBytes: number): string {
  const parts = [`${commitUs.toFixed(2)} µs to commit`, `${cpuUs.toFixed(2)} µs CPU of the database`];
  if (buildUs > 0) parts.unshift(`${buildUs.toFixed(2)} µs to build`);
  return `a row: ${parts.join(', ')}, ${Math.round(walBytes)} bytes of WAL`;
}

function cpuOf(pid: number | null): number {
  return pid === null ? Number.NaN : treeCpuS(pid);
}

/** The same rows without a fence, twins or snapshots, into a table of the same columns and index. */
async function bare(sql: Sql, pid: number | null, fleet: Fleet): Promise<{ rate: number; cost: string }> {
  await sql.exec(`
    create table bench_raw (like machine_readings);
    create index bench_raw_twin_at on bench_raw (twin, at);
  `);
  const shards = new Map<number, CutShard>();
  let tookS = 0;
  const cpuBefore = cpuOf(pid);
  const walBefore = await walBytes(sql);
  for (let c = 0; c < CUTS; c++) {
    const { readings } = fleet.cut(shards, ROWS, SHARDS, 0, 0);
    const text = `insert into bench_raw (shard, twin, at, received_at, revision, temperature, vibration, pressure, power)
      select shard, twin, to_timestamp(at / 1000), to_timestamp(at / 1000), revision, t, v, p, w
      from unnest($1::int[], $2::bigint[], $3::float8[], $4::bigint[], $5::float8[], $6::float8[], $7::float8[], $8::float8[])
        as r(shard, twin, at, revision, t, v, p, w)`;
    const columns = [
      readings.map((r) => r.shard),
      readings.map((r) => r.twin),
      readings.map((r) => r.at),
      readings.map((r) => r.revision),
      readings.map((r) => r.values.temperature),
      readings.map((r) => r.values.vibration),
      readings.map((r) => r.values.pressure),
      readings.map((r) => r.values.power),
    ].map((column) => `{${column.join(',')}}`);
    tookS += await seconds(async () => void (await sql.query(text, columns, prepared(text))));
  }
  const rows = CUTS * ROWS;
  const walARow = ((await walBytes(sql)) - walBefore) / rows;
  return {
    rate: rows / tookS,
    cost: costOf(0, (tookS * 1e6) / rows, ((cpuOf(pid) - cpuBefore) * 1e6) / rows, walARow),
  };
}

async function walBytes(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ bytes: number }>(`select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as bytes`);
  return Number(row.bytes);
}

/** Twins that really fold, so that summaries and snapshots are what they are in life. */
export class Fleet {
  readonly #states: TwinState[] = [];
  readonly #kind: ReturnType<Awaited<ReturnType<typeof loadKinds>>['get']>;
  #at = 0;
  #next = { reading: 0, summary: 0, snapshot: 0 };

  constructor(kind: ReturnType<Awaited<ReturnType<typeof loadKinds>>['get']>, lived = LIVED) {
    this.#kind = kind;
    for (let i = 0; i < TWINS; i++) this.#states.push(newState(kind, `machine:M${i}`));
    for (let k = 0; k < lived * TWINS; k++) this.#fold(this.#index('reading'));
  }

  /** The next readings and twins, in the order of their numbers; shards in whole. */
  cut(
    owned: ReadonlyMap<number, { epoch: number; commitNo: number }>,
    rows: number,
    shards: number,
    summaries: number,
    snapshots: number,
  ): Cut {
    const readings: JournalReading[] = [];
    for (let r = 0; r < rows; r++) {
      const i = this.#index('reading');
      const reading = this.#fold(i);
      readings.push({
        shard: i % shards,
        twin: keyOf(i),
        kind: 'machine',
        revision: this.#states[i].n[H.REVISION],
        at: reading.at,
        receivedAt: reading.at,
        key: null,
        seq: null,
        sensor: null,
        attributes: null,
        unit: null,
        values: reading.values,
      });
    }
    return {
      node: 'bench',
      shards: Array.from({ length: shards }, (_, shard) => ({
        shard,
        epoch: owned.get(shard)?.epoch ?? 0,
        commitNo: owned.get(shard)?.commitNo ?? 0,
        position: this.#at,
        positionId: `bench-${this.#at}`,
        positionAt: T0,
        eventSeq: 0,
        clean: false,
      })),
      readings,
      entries: [],
      events: [],
      snapshots: Array.from({ length: snapshots }, () => {
        const i = this.#index('snapshot');
        const state = this.#states[i];
        return {
          shard: i % shards,
          twin: keyOf(i),
          twinId: state.twinId,
          revision: state.n[H.REVISION],
          shape: SNAPSHOT_SHAPE,
          kindVersion: 1,
          state: encodeSnapshot(state, { duplicates: 0, backfilled: 0 }),
          floorAt: state.n[H.FLOOR],
          wakeAt: state.n[H.WAKE],
          receivedAt: state.n[H.RECEIVED],
        };
      }),
      summaries: Array.from({ length: summaries }, () => {
        const i = this.#index('summary');
        const { n, twinId } = this.#states[i];
        return {
          shard: i % shards,
          twin: keyOf(i),
          twinId,
          kind: 'machine',
          revision: n[H.REVISION],
          at: n[H.AT],
          receivedAt: n[H.RECEIVED],
          health: 'ok' as const,
          online: true,
          retired: false,
          reported: valuesOf(i, n[H.REVISION]),
          attributes: {},
          alerts: 0,
          known: n[H.REVISION] > LIVED + 1,
        };
      }),
      deadLetters: [],
      cursors: [],
    };
  }

  #index(of: 'reading' | 'summary' | 'snapshot'): number {
    const i = this.#next[of];
    this.#next[of] = (i + 1) % TWINS;
    return i;
  }

  #fold(i: number): { at: number; values: Record<string, number> } {
    this.#at++;
    const state = this.#states[i];
    const revision = state.n[H.REVISION] + 1;
    const at = T0 + revision * 1_000;
    const values = valuesOf(i, revision);
    fold(
      state,
      { type: 'reading', revision, receivedAt: at, reading: { kind: this.#kind.kind, id: '', at, values } },
      [],
    );
    return { at, values };
  }
}

function keyOf(i: number): number {
  return (i % SHARDS) * TWIN_KEYS_PER_SHARD + 1 + Math.floor(i / SHARDS);
}

function valuesOf(i: number, revision: number): Record<string, number> {
  return {
    temperature: 65 + Math.sin(revision / 9),
    vibration: 1.2 + Math.sin(revision / 5) / 10,
    pressure: 45 + (i % 7) / 10,
    power: 250 - (i % 11),
  };
}
