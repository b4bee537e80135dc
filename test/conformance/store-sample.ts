import type { TwinEvent } from '../../actors/protocol/event.ts';
import { defineTwin } from '../../actors/protocol/kind.ts';
import type {
  Cut,
  CutShard,
  JournalEntry,
  JournalReading,
  ShardRow,
  Snapshot,
  Store,
  Summary,
} from '../../actors/store/port.ts';
import { TWIN_KEYS_PER_SHARD } from '../../actors/store/port.ts';

/** Two small kinds and the rows of a cut, for the suites of the store. */
export const meter = defineTwin({
  kind: 'meter',
  version: 1,
  title: 'Meter',
  description: 'Two metrics, wide history.',
  metrics: { flow: { unit: 'l/s', min: -1e308, max: 1e308 }, level: { unit: 'm', min: -1e308, max: 1e308 } },
  formats: [{ name: 'meter', decode: () => ({ id: 'x', at: 0, values: {} }), example: {} }],
  windows: {},
  detectors: {},
  rules: [],
  silentAfterMs: 60_000,
  graph: { type: 'Meter' },
  digest: () => '',
});

export const probe = defineTwin({
  ...meter,
  kind: 'probe',
  title: 'Probe',
  description: 'Open metrics, narrow history.',
  openMetrics: true,
  metrics: {},
});

export const KINDS = [meter, probe];
export const SHARDS = 8;
export const T0 = Date.UTC(2026, 0, 1);

/** Key of the n-th twin of a shard; n from 1. */
export function key(shard: number, n = 1): number {
  return shard * TWIN_KEYS_PER_SHARD + n;
}

export function twinIdOf(twin: number, kind = 'meter'): string {
  return `${kind}:T-${Math.floor(twin / TWIN_KEYS_PER_SHARD)}-${twin % TWIN_KEYS_PER_SHARD}`;
}

export function reading(twin: number, revision: number | null, more: Partial<JournalReading> = {}): JournalReading {
  return {
    shard: Math.floor(twin / TWIN_KEYS_PER_SHARD),
    twin,
    kind: 'meter',
    revision,
    at: T0 + (revision ?? 0) * 1000,
    receivedAt: T0 + (revision ?? 0) * 1000 + 5,
    key: null,
    seq: null,
    sensor: null,
    attributes: null,
    unit: null,
    values: { flow: revision ?? 0, level: 1 },
    ...more,
  };
}

export function tick(twin: number, revision: number): JournalEntry {
  return entry(twin, { type: 'tick', revision, receivedAt: T0 + revision * 1000 });
}

export function entry(twin: number, of: JournalEntry['entry']): JournalEntry {
  return { shard: Math.floor(twin / TWIN_KEYS_PER_SHARD), twin, entry: of };
}

export function summary(twin: number, revision: number, more: Partial<Summary> = {}): Summary {
  const kind = more.kind ?? 'meter';
  return {
    shard: Math.floor(twin / TWIN_KEYS_PER_SHARD),
    twin,
    twinId: twinIdOf(twin, kind),
    kind,
    revision,
    at: T0 + revision * 1000,
    receivedAt: T0 + revision * 1000 + 5,
    health: 'ok',
    online: true,
    retired: false,
    reported: { flow: revision },
    attributes: { site: 'north' },
    alerts: 0,
    ...more,
  };
}

export function snapshot(twin: number, revision: number, more: Partial<Snapshot> = {}): Snapshot {
  return {
    shard: Math.floor(twin / TWIN_KEYS_PER_SHARD),
    twin,
    twinId: twinIdOf(twin),
    revision,
    shape: 3,
    kindVersion: 2,
    state: new Uint8Array([revision % 256, 0, 255, 10, 39]),
    floorAt: T0 + revision * 1000,
    wakeAt: null,
    receivedAt: T0 + revision * 1000 + 5,
    ...more,
  };
}

export function event(twin: number, seq: number, revision: number, more: Partial<TwinEvent> = {}): TwinEvent {
  const twinId = more.twinId ?? twinIdOf(twin);
  return {
    eventId: `${twinId}~${revision}~${seq}`,
    shard: Math.floor(twin / TWIN_KEYS_PER_SHARD),
    seq,
    twin,
    twinId,
    revision,
    type: 'health.changed',
    at: T0 + revision * 1000,
    receivedAt: T0 + revision * 1000 + 5,
    body: { status: 'ok' },
    ...more,
  };
}

export type Rows = Partial<Omit<Cut, 'node' | 'shards'>>;

/**
 * A node that keeps the fence as the runtime does: claims shards, commits, and remembers what it has seen last.
 * `cut` builds without sending, so that a test can send late, twice or elsewhere.
 */
export class Writer {
  readonly node: string;
  readonly rows = new Map<number, ShardRow>();
  readonly #store: Store;

  constructor(store: Store, node: string) {
    this.#store = store;
    this.node = node;
  }

  /** Takes the shards from whoever has them. */
  async claim(...shards: number[]): Promise<ShardRow[]> {
    const now = await this.#store.shards();
    const claimed = await this.#store.claim(
      this.node,
      shards.map((shard) => ({ shard, owner: now[shard].owner, epoch: now[shard].epoch })),
    );
    for (const row of claimed) this.rows.set(row.shard, row);
    return claimed;
  }

  cut(shards: readonly number[], rows: Rows = {}, more: Partial<CutShard> = {}): Cut {
    return {
      node: this.node,
      shards: shards.map((shard) => {
        const row = this.rows.get(shard)!;
        const seqs = (rows.events ?? []).filter((of) => of.shard === shard).map((of) => of.seq);
        return {
          shard,
          epoch: row.epoch,
          commitNo: row.commitNo,
          position: row.position + 1,
          positionId: `m${row.position + 1}`,
          positionAt: T0 + row.position,
          eventSeq: Math.max(row.eventSeq, ...seqs),
          clean: false,
          ...more,
        };
      }),
      readings: [],
      entries: [],
      events: [],
      snapshots: [],
      summaries: [],
      deadLetters: [],
      cursors: [],
      ...rows,
    };
  }

  async commit(shards: readonly number[], rows: Rows = {}, more: Partial<CutShard> = {}): Promise<Set<number>> {
    return await this.send(this.cut(shards, rows, more));
  }

  async send(cut: Cut): Promise<Set<number>> {
    const landed = await this.#store.commit(cut);
    for (const part of cut.shards) {
      const row = this.rows.get(part.shard);
      if (!row || !landed.has(part.shard)) continue;
      this.rows.set(part.shard, {
        ...row,
        commitNo: part.commitNo + 1,
        position: part.position,
        eventSeq: part.eventSeq,
      });
    }
    return landed;
  }
}
