import type { Clock } from '../protocol/clock.ts';
import type { NodeRow } from '../store/port.ts';

/**
 * Who is alive, judged by beats alone: a node whose beat stood still for ttl on our own monotonic clock is dead.
 *
 * Invariants:
 *  1  No wall clock of anybody is compared.
 *  2  A node seen for the first time counts as alive until it has stood still for ttl.
 *  3  Being wrong costs a handoff, never data: the fence decides who commits.
 */
export class Membership {
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #self: string;
  readonly #seen = new Map<string, { beat: number; movedAt: number }>();

  constructor(options: { clock: Clock; ttlMs: number; self: string }) {
    this.#clock = options.clock;
    this.#ttlMs = options.ttlMs;
    this.#self = options.self;
  }

  /** Takes the beats as the store has them now. */
  observe(rows: readonly NodeRow[]): void {
    const now = this.#clock.monotonic();
    const present = new Set<string>();
    for (const { node, beat } of rows) {
      present.add(node);
      const known = this.#seen.get(node);
      if (known === undefined || known.beat !== beat) this.#seen.set(node, { beat, movedAt: now });
    }
    for (const node of this.#seen.keys()) if (!present.has(node)) this.#seen.delete(node);
  }

  /** Living nodes in order of name; we are always among them. */
  living(): string[] {
    const now = this.#clock.monotonic();
    const living = new Set([this.#self]);
    for (const [node, { movedAt }] of this.#seen) if (now - movedAt < this.#ttlMs) living.add(node);
    return [...living].sort();
  }

  isAlive(node: string): boolean {
    if (node === this.#self) return true;
    const known = this.#seen.get(node);
    return known !== undefined && this.#clock.monotonic() - known.movedAt < this.#ttlMs;
  }
}
