import type { Clock } from '../../actors/protocol/clock.ts';
import type { Entry } from '../../actors/protocol/entry.ts';
import type { TwinId } from '../../actors/protocol/twin-id.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import type { StreamedHost } from './twin-stream.ts';

/**
 * A twin of another node, as a stream follows it: views and journal by calls that go to the owner, entries as they commit
 * by a lease that the owner is told of and that this node renews. A lease that is not renewed ends by itself, so that a
 * gateway that dies leaves nothing behind. Every grant says how far the twin has come: what committed before it, or fell into
 * a change of owner, is read from the journal at once.
 */
export type CallTwin = <T>(action: string, params: { twinId: TwinId } & Record<string, unknown>) => Promise<T>;

export const LEASE_MS = 15_000;

interface Listener {
  hear(entries: Entry[]): void;
  reached(revision: number): void;
}

interface Watched {
  listeners: Set<Listener>;
  ended: boolean;
}

export interface RemoteTwinsOptions {
  node: string;
  call: CallTwin;
  clock: Clock;
  /** Resolves when the owner of the twin may have changed, at the latest after `ms`. */
  moved(twinId: TwinId, ms: number): Promise<void>;
}

export class RemoteTwins implements StreamedHost {
  readonly #options: RemoteTwinsOptions;
  readonly #watched = new Map<TwinId, Watched>();

  constructor(options: RemoteTwinsOptions) {
    this.#options = options;
  }

  get(twinId: TwinId): Promise<TwinView> {
    return this.#options.call('twins.get', { twinId });
  }

  journal(twinId: TwinId, after: number, limit: number): Promise<Entry[]> {
    return this.#options.call('twins.entries', { twinId, after, limit });
  }

  watch(
    twinId: TwinId,
    hear: (entries: Entry[]) => void,
    reached: (revision: number) => void = () => undefined,
  ): () => void {
    let watched = this.#watched.get(twinId);
    if (watched === undefined) {
      watched = { listeners: new Set(), ended: false };
      this.#watched.set(twinId, watched);
      void this.#renew(twinId, watched);
    }
    const { listeners } = watched;
    const listener = { hear, reached };
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size > 0 || this.#watched.get(twinId)?.listeners !== listeners) return;
      this.#watched.get(twinId)!.ended = true;
      this.#watched.delete(twinId);
    };
  }

  /** What an owner sends under a lease. */
  hear(twinId: TwinId, entries: Entry[]): void {
    for (const listener of this.#watched.get(twinId)?.listeners ?? []) listener.hear(entries);
  }

  async #renew(twinId: TwinId, watched: Watched): Promise<void> {
    const { node, call, moved } = this.#options;
    while (!watched.ended) {
      // An owner that is not there now is asked again; meanwhile the stream's own looks find what is new.
      const granted = await call<{ revision: number }>('twins.watch', { twinId, node, leaseMs: LEASE_MS }).catch(
        () => null,
      );
      if (granted !== null) for (const { reached } of [...watched.listeners]) reached(granted.revision);
      if (!watched.ended) await moved(twinId, LEASE_MS / 3);
    }
  }
}
