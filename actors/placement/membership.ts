import type { Clock } from '../protocol/clock.ts';
import type { NodeRow } from '../store/port.ts';

/**
 * Who is alive, judged by beats alone: a node whose beat stood still for ttl on our own monotonic clock is dead.
 *
 * Invariants:
 *  1  No wall clock of anybody is compared.
 *  2  A node seen for the first time counts as alive until it has stood still for ttl.
 *  3  A node is judged as of when its beat was asked for: a judge who stood still himself does not find others dead.
 *  4  A node that is leaving wants nothing, but counts as alive while its beat moves; one that has left, or was never there,
 *     until ttl has passed since that was noticed: an earlier life of a node that is back and about to beat again may have
 *     left late.
 *  5  Being wrong costs a handoff, never data: the fence decides who commits.
 */
interface Seen {
  beat: number;
  movedAt: number;
  /** It is there and wants shards. */
  wanting: boolean;
}

export class Membership {
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #self: string;
  readonly #seen = new Map<string, Seen>();
  /** When the beats as we know them were asked for: what we know is not newer, however late the answer came. */
  #asOf = Number.NEGATIVE_INFINITY;

  constructor(options: { clock: Clock; ttlMs: number; self: string }) {
    this.#clock = options.clock;
    this.#ttlMs = options.ttlMs;
    this.#self = options.self;
  }

  /** Takes the beats as the store had them at `askedAt` (monotonic) or later. */
  observe(rows: readonly NodeRow[], askedAt: number): void {
    const now = this.#clock.monotonic();
    this.#asOf = askedAt;
    const present = new Set<string>();
    for (const { node, beat, leaving } of rows) {
      present.add(node);
      const known = this.#seen.get(node);
      if (known === undefined || known.beat !== beat || (known.wanting && leaving)) {
        this.#seen.set(node, { beat, movedAt: now, wanting: !leaving });
      } else known.wanting = !leaving;
    }
    for (const [node, known] of this.#seen) {
      if (present.has(node)) continue;
      if (known.wanting) this.#seen.set(node, { beat: known.beat, movedAt: now, wanting: false });
      else if (askedAt - known.movedAt >= FORGET_TTLS * this.#ttlMs) this.#seen.delete(node);
    }
  }

  /** Living nodes that want shards, in order of name; we are always among them. */
  living(): string[] {
    const living = new Set([this.#self]);
    for (const [node, seen] of this.#seen) if (seen.wanting && this.#moves(seen)) living.add(node);
    return [...living].sort();
  }

  isAlive(node: string): boolean {
    if (node === this.#self) return true;
    const known = this.#seen.get(node);
    if (known !== undefined) return this.#moves(known);
    this.#seen.set(node, { beat: 0, movedAt: this.#clock.monotonic(), wanting: false });
    return true;
  }

  /** Whether any other node may have claimed something lately: it is there, alive or not, or has just left. */
  get hasOthers(): boolean {
    for (const [node, seen] of this.#seen) if (node !== this.#self && (seen.wanting || this.#moves(seen))) return true;
    return false;
  }

  #moves({ movedAt }: Seen): boolean {
    return this.#asOf - movedAt < this.#ttlMs;
  }
}

/** A node that has been away for so many ttls is no longer remembered. */
const FORGET_TTLS = 1_000;
