import type { Entry } from '../../../actors/protocol/entry.ts';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import type { TwinEvent } from '../../../actors/protocol/event.ts';
import type { TwinView } from '../../../actors/protocol/view.ts';
import type { TwinEventListener } from '../../../actors/runtime/host-api.ts';
import type { ShardRow } from '../../../actors/store/port.ts';
import type { StreamedHost } from '../../../services/twins/twin-stream.ts';

/**
 * A twin host and its store as the streams see them: a journal and events that have committed, told to whoever listens,
 * or not (`mute`): a broadcast may be lost. Nothing in it knows about streams.
 */
export class FakeHost implements StreamedHost {
  readonly entries: Entry[] = [];
  expiredTo = 0;
  mute = false;
  down = false;
  #watchers = new Set<(entries: Entry[]) => void>();
  /** Lets answers arrive late. */
  delay: () => Promise<void> = async () => undefined;

  get revision(): number {
    return this.entries.length;
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  commit(count: number): void {
    const made: Entry[] = [];
    for (let i = 0; i < count; i++) {
      const revision = this.entries.length + 1;
      const at = 1_767_225_600_000 + revision * 1000;
      const entry: Entry = {
        type: 'reading',
        revision,
        receivedAt: at,
        reading: { kind: 'machine', id: 'M1', at, values: { temperature: revision } },
      };
      this.entries.push(entry);
      made.push(entry);
    }
    if (!this.mute) for (const watcher of this.#watchers) watcher(made);
  }

  async get(twinId: string): Promise<TwinView> {
    await this.delay();
    this.#mustBeUp();
    if (twinId !== 'machine:M1') throw new TwinmeshError('not_found', 'no');
    return { twinId, revision: this.revision } as TwinView;
  }

  async journal(_twinId: string, after: number, limit: number): Promise<Entry[]> {
    await this.delay();
    this.#mustBeUp();
    const page = this.entries.slice(after, after + limit);
    await this.delay();
    return page.filter(({ revision }) => revision > this.expiredTo);
  }

  watch(_twinId: string, listener: (entries: Entry[]) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  #mustBeUp(): void {
    if (this.down) throw new TwinmeshError('store_down', 'down');
  }
}

export class FakeFleet {
  readonly shardCount: number;
  readonly log: TwinEvent[][];
  readonly expiredTo: number[];
  mute = false;
  delay: () => Promise<void> = async () => undefined;
  #listeners = new Set<TwinEventListener>();

  constructor(shards: number) {
    this.shardCount = shards;
    this.log = Array.from({ length: shards }, () => []);
    this.expiredTo = Array.from({ length: shards }, () => 0);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  commit(shard: number, types: TwinEvent['type'][]): void {
    const made = types.map((type, i): TwinEvent => {
      const seq = this.log[shard].length + i + 1;
      const kind = seq % 3 === 0 ? 'mote' : 'machine';
      return {
        eventId: `${kind}:${shard}~${seq}~0`,
        shard,
        seq,
        twin: shard,
        twinId: `${kind}:${shard}`,
        revision: seq,
        type,
        at: 1_767_225_600_000 + seq,
        receivedAt: 1_767_225_600_000 + seq,
        body: {},
      };
    });
    this.log[shard].push(...made);
    if (!this.mute) for (const listener of this.#listeners) listener(made, new Map());
  }

  onEvents(listener: TwinEventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async shards(): Promise<ShardRow[]> {
    await this.delay();
    return this.log.map((events, shard) => ({ shard, eventSeq: events.length }) as ShardRow);
  }

  async events(shard: number, afterSeq: number, limit: number): Promise<TwinEvent[]> {
    await this.delay();
    const page = this.log[shard].filter((e) => e.seq > afterSeq && e.seq > this.expiredTo[shard]).slice(0, limit);
    await this.delay();
    return page;
  }
}
