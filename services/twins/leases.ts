import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import type { Entry } from '../../actors/protocol/entry.ts';
import type { TwinId } from '../../actors/protocol/twin-id.ts';
import type { TwinHost } from '../../actors/runtime/host-api.ts';

/** Nodes that follow twins of this one: each gets the entries of a twin as they commit, until its lease ends. */
interface Lease {
  end(): void;
  timer: TimerHandle;
}

/** Streams of one gateway are bounded; a node that asks for more than this is wrong. */
const MAX_LEASES = 20_000;

export class Leases {
  readonly #host: Pick<TwinHost, 'watch'>;
  readonly #clock: Clock;
  readonly #send: (node: string, twinId: TwinId, entries: Entry[]) => void;
  readonly #leases = new Map<string, Lease>();

  constructor(
    host: Pick<TwinHost, 'watch'>,
    clock: Clock,
    send: (node: string, twinId: TwinId, entries: Entry[]) => void,
  ) {
    this.#host = host;
    this.#clock = clock;
    this.#send = send;
  }

  get size(): number {
    return this.#leases.size;
  }

  /** Grants or renews; false where there are too many. */
  grant(node: string, twinId: TwinId, leaseMs: number): boolean {
    const key = `${node} ${twinId}`;
    const held = this.#leases.get(key);
    held?.timer.cancel();
    if (held === undefined && this.#leases.size >= MAX_LEASES) return false;
    const end = held?.end ?? this.#host.watch(twinId, (entries) => this.#send(node, twinId, entries));
    const timer = this.#clock.after(leaseMs, () => this.#end(key));
    this.#leases.set(key, { end, timer });
    return true;
  }

  close(): void {
    for (const key of [...this.#leases.keys()]) this.#end(key);
  }

  #end(key: string): void {
    const lease = this.#leases.get(key);
    this.#leases.delete(key);
    lease?.timer.cancel();
    lease?.end();
  }
}
