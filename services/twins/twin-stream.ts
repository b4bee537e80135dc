import { type Clock, systemClock, type TimerHandle } from '../../actors/protocol/clock.ts';
import type { Entry } from '../../actors/protocol/entry.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { TwinId } from '../../actors/protocol/twin-id.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import type { TwinHost } from '../../actors/runtime/host-api.ts';
import { SseStream } from '../gateway/sse.ts';
import { entryView } from './entry-view.ts';

/**
 * One twin, live: `event: twin` with the whole view first, then each journal entry under its type with its revision as
 * the id, and the view again at most every second.
 *
 * Invariants:
 *  1. Entries go out in order of revision, each exactly once, from the resumed revision on without a gap: it listens
 *     first, then reads the journal up to where the live entries begin, and reads again on every jump.
 *  2. Only entries (and the first view of a reader that does not resume) carry an id, because an id says "everything up
 *     to here has been received".
 *  3. What the reader has not taken is not kept: beyond `maxPending` live entries are dropped and read again from the
 *     journal when there is room.
 *  4. Where the journal no longer reaches back, `event: reset` says so, and the stream starts anew from the view.
 */
export type StreamedHost = Pick<TwinHost, 'get' | 'journal'> & {
  /** `reached`: the twin has committed up to this revision, whether or not the entries were told. */
  watch(twinId: TwinId, listener: (entries: Entry[]) => void, reached?: (revision: number) => void): () => void;
};

export interface TwinStreamOptions {
  clock?: Clock;
  maxPending?: number;
  pageSize?: number;
  viewEveryMs?: number;
  /** A reader further behind gets a reset instead of everything since. */
  maxBehind?: number;
  heartbeatMs?: number;
  stallMs?: number;
  bufferBytes?: number;
}

/** Opens the stream once the twin is known. Throws what `host.get` throws. */
export async function twinStream(
  host: StreamedHost,
  twinId: TwinId,
  lastEventId: string | undefined,
  options: TwinStreamOptions = {},
): Promise<SseStream> {
  const live = new LiveTwin(host, twinId, options);
  try {
    return live.open(await host.get(twinId), lastEventId);
  } catch (error) {
    live.close();
    throw error;
  }
}

class LiveTwin {
  readonly #host: StreamedHost;
  readonly #twinId: TwinId;
  readonly #options: Required<Omit<TwinStreamOptions, 'heartbeatMs' | 'stallMs' | 'bufferBytes'>> & TwinStreamOptions;
  readonly #unwatch: () => void;
  #stream: SseStream | undefined;
  #pending: Entry[] = [];
  #closed = false;
  /** Revision of the last entry sent. */
  #cursor = 0;
  /** The journal holds entries that `#pending` does not. */
  #behind = false;
  /** The journal is known to have reached this revision. */
  #target = 0;
  #pumping = false;
  #viewTimer: TimerHandle | undefined;
  #viewWanted = false;

  constructor(host: StreamedHost, twinId: TwinId, options: TwinStreamOptions) {
    this.#host = host;
    this.#twinId = twinId;
    this.#options = {
      clock: systemClock,
      maxPending: 1000,
      pageSize: 500,
      viewEveryMs: 1000,
      maxBehind: 100_000,
      ...options,
    };
    this.#unwatch = host.watch(
      twinId,
      (entries) => this.#hear(entries),
      (revision) => this.#reach(revision),
    );
  }

  open(view: TwinView, lastEventId: string | undefined): SseStream {
    const stream = new SseStream({
      clock: this.#options.clock,
      heartbeatMs: this.#options.heartbeatMs,
      stallMs: this.#options.stallMs,
      bufferBytes: this.#options.bufferBytes,
      onWritable: () => this.#resume(),
      onClose: () => this.close(),
      onHeartbeat: () => this.#check(),
    });
    this.#stream = stream;
    const resumed = revisionOf(lastEventId);
    if (lastEventId === undefined) {
      this.#begin(view);
    } else if (resumed !== null && resumed > view.revision && isOld(view)) {
      // While nobody owns the twin the view may lie behind what the reader has had.
      this.#cursor = resumed;
      stream.send({ event: 'twin', data: view });
    } else if (resumed === null || resumed > view.revision || view.revision - resumed > this.#options.maxBehind) {
      this.#reset(
        view,
        resumed === null ? 'unknown id' : resumed > view.revision ? 'from the future' : 'too far behind',
      );
    } else {
      this.#cursor = resumed;
      this.#target = view.revision;
      if (resumed < view.revision) this.#behind = true;
      stream.send({ event: 'twin', data: view });
    }
    void this.#pump();
    return stream;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unwatch();
    this.#viewTimer?.cancel();
    this.#pending = [];
  }

  #hear(entries: Entry[]): void {
    if (this.#closed) return;
    if (this.#pending.length + entries.length > this.#options.maxPending) {
      this.#pending = [];
      this.#behind = true;
    } else {
      for (const entry of entries) this.#pending.push(entry);
    }
    if (this.#stream) void this.#pump();
  }

  #reach(revision: number): void {
    if (this.#closed || revision <= (this.#pending.at(-1)?.revision ?? this.#cursor)) return;
    this.#target = Math.max(this.#target, revision);
    this.#behind = true;
    if (this.#stream) void this.#pump();
  }

  #resume(): void {
    if (this.#viewWanted) this.#viewSoon();
    void this.#pump();
  }

  /** At each heartbeat the twin is asked, in case a broadcast went astray and no later one showed the jump. */
  #check(): undefined {
    if (this.#pumping || this.#pending.length > 0) return;
    const cursor = this.#cursor;
    this.#host.get(this.#twinId).then(
      (view) => {
        if (view.revision < cursor && !this.#pumping && !isOld(view)) this.#reset(view, 'from the future');
        else this.#reach(view.revision);
      },
      () => this.#stream?.finish(),
    );
  }

  async #pump(): Promise<void> {
    const stream = this.#stream;
    if (this.#pumping || !stream) return;
    this.#pumping = true;
    try {
      while (!this.#closed && stream.writable) {
        if (this.#behind) await this.#catchUp(stream);
        else if (!this.#sendNext(stream)) break;
      }
    } catch {
      // The owner has moved or the store is down: the reader comes back with its last id.
      stream.finish();
    } finally {
      this.#pumping = false;
    }
  }

  /** Sends the next live entry; false when none waits. */
  #sendNext(stream: SseStream): boolean {
    const entry = this.#pending[0];
    if (entry === undefined) return false;
    if (entry.revision > this.#cursor + 1) {
      this.#behind = true;
      this.#target = Math.max(this.#target, entry.revision - 1);
      return true;
    }
    this.#pending.shift();
    if (entry.revision === this.#cursor + 1) this.#send(stream, entry);
    return true;
  }

  async #catchUp(stream: SseStream): Promise<void> {
    const { pageSize } = this.#options;
    // Cleared before reading: what is heard from now on either follows the page or sets it again.
    this.#behind = false;
    const page = await this.#host.journal(this.#twinId, this.#cursor, pageSize);
    if (this.#closed) return;
    for (const entry of page) {
      if (entry.revision > this.#cursor + 1) break;
      if (!stream.writable) {
        this.#behind = true;
        return;
      }
      if (entry.revision === this.#cursor + 1) this.#send(stream, entry);
    }
    const last = page.at(-1)?.revision ?? 0;
    if (this.#cursor < Math.max(last, page.length < pageSize ? this.#target : 0)) {
      const view = await this.#host.get(this.#twinId);
      // Nothing that was sent is sent again: the reader comes back when the twin has an owner.
      if (view.revision < this.#cursor) throw new TwinmeshError('unavailable', `${this.#twinId} has no owner now.`);
      this.#reset(view, 'expired');
    } else if (page.length >= pageSize) {
      this.#behind = true;
    }
  }

  #send(stream: SseStream, entry: Entry): void {
    stream.send({ event: entry.type, id: String(entry.revision), data: entryView(entry) });
    this.#cursor = entry.revision;
    this.#viewSoon();
  }

  #begin(view: TwinView): void {
    this.#stream?.send({ event: 'twin', id: String(view.revision), data: view });
    this.#cursor = view.revision;
  }

  #reset(view: TwinView, reason: string): void {
    if (this.#closed) return;
    this.#stream?.send({ event: 'reset', id: String(view.revision), data: { reason, revision: view.revision } });
    this.#begin(view);
  }

  #viewSoon(): void {
    this.#viewWanted = true;
    this.#viewTimer ??= this.#options.clock.after(this.#options.viewEveryMs, () => {
      this.#viewTimer = undefined;
      void this.#sendView();
    });
  }

  async #sendView(): Promise<void> {
    const stream = this.#stream;
    // A reader without room gets the view when it has some: by then it is a newer one.
    if (this.#closed || !stream?.writable || !this.#viewWanted) return;
    this.#viewWanted = false;
    try {
      const view = await this.#host.get(this.#twinId);
      if (!this.#closed) stream.send({ event: 'twin', data: view });
    } catch {
      stream.finish();
    }
  }
}

/** Whether more may have been committed than this view shows. */
function isOld({ stale }: TwinView): boolean {
  if (stale === null || stale === undefined) return false;
  return stale.reason !== 'device silent' && stale.reason !== 'inference down';
}

function revisionOf(lastEventId: string | undefined): number | null {
  if (lastEventId === undefined || !/^\d{1,15}$/.test(lastEventId)) return null;
  return Number(lastEventId);
}
