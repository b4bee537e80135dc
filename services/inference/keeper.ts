import { type Clock, sleep, type TimerHandle } from '../../actors/protocol/clock.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { ModelRegistry } from '../../models/registry.ts';
import { begin, listModels, registerModel, wantedOf } from '../models/register.ts';

/**
 * Keeps what this node has loaded equal to the register: looks when it is told that something has changed, and every few
 * seconds in case it was not told. Versions found in folders are examined and registered first.
 *
 *  1  One look at a time; a change that is told during one is looked at after it.
 *  2  A database that does not answer changes nothing: what is loaded goes on.
 *  3  Only versions that load are registered.
 */
export interface KeeperOptions {
  registry: ModelRegistry;
  sql: Sql;
  clock: Clock;
  everyMs: number;
  /** Source of a model by the root it was found in. */
  sources: readonly string[];
  onRegistered(id: string): void;
  onBegan(id: string): void;
  onFault(error: unknown): void;
}

/** How often who waits for a model to be loaded looks. */
const POLL_MS = 20;

export class ModelKeeper {
  readonly #options: KeeperOptions;
  #timer: TimerHandle | undefined;
  #looking: Promise<void> | null = null;
  #again = false;
  #isClosed = false;
  #hasLooked = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /** Begins to look, in the background. */
  start(): void {
    void this.look();
  }

  /** Resolves when everything that was stored before the call has been looked at. Throws nothing. */
  look(): Promise<void> {
    if (this.#looking !== null) {
      this.#again = true;
      return this.#looking;
    }
    this.#timer?.cancel();
    this.#looking = this.#looks().finally(() => {
      this.#looking = null;
      const { clock, everyMs } = this.#options;
      if (!this.#isClosed) this.#timer = clock.after(everyMs, () => void this.look());
    });
    return this.#looking;
  }

  /** Resolves once the model is loaded, or all have been looked at, or `ms` have passed. */
  async settled(model: string, ms: number): Promise<void> {
    const { registry, clock } = this.#options;
    const until = clock.monotonic() + ms;
    while (!this.#hasLooked && registry.card(model) === null && clock.monotonic() < until) await sleep(clock, POLL_MS);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#looking;
    await this.#options.registry.close();
  }

  async #looks(): Promise<void> {
    do {
      this.#again = false;
      try {
        await this.#lookOnce();
      } catch (error) {
        this.#options.onFault(error);
      }
      this.#hasLooked = true;
    } while (this.#again && !this.#isClosed);
  }

  async #lookOnce(): Promise<void> {
    const { registry, sql, sources, onRegistered, onBegan } = this.#options;
    // Newest first: where none of a name is live, that one goes live.
    const folders = [...(await registry.scan())].reverse();
    const models = await listModels(sql);
    // What is known answers before what is new is looked at.
    await registry.apply(wantedOf(models));
    const statuses = new Map(models.map(({ name, version, status }) => [`${name}@${version}`, status]));
    const live = new Set(models.filter(({ status }) => status === 'live').map(({ name }) => name));
    for (const folder of folders) {
      if (this.#isClosed) return;
      const { name, version, root } = folder;
      const id = `${name}@${version}`;
      const status = statuses.get(id);
      if (status !== undefined && (status !== 'candidate' || live.has(name))) continue;
      const card = await registry.examine(folder);
      if (card === null) continue;
      if (status === undefined && (await registerModel(sql, card, sources[root]))) onRegistered(id);
      if (!live.has(name) && (await begin(sql, name, version))) onBegan(id);
      if (live.has(name)) continue;
      live.add(name);
      await registry.apply(wantedOf(await listModels(sql)));
    }
    await registry.forgetSpare();
  }
}
