import type { Protocol } from './route.ts';

/** What came in and what became of it, since start. Monotonic, for metrics. */
export class Tally {
  /** Payloads by protocol. */
  readonly messages = new Map<Protocol, number>();
  /** Readings by `protocol outcome`. */
  readonly readings = new Map<string, number>();
  /** Refusals by `protocol code`. */
  readonly refusals = new Map<string, number>();

  message(protocol: Protocol): void {
    this.messages.set(protocol, (this.messages.get(protocol) ?? 0) + 1);
  }

  stored(protocol: Protocol, outcome: 'accepted' | 'backfill' | 'duplicate'): void {
    const key = `${protocol} ${outcome}`;
    this.readings.set(key, (this.readings.get(key) ?? 0) + 1);
  }

  refused(protocol: Protocol, code: string): void {
    const key = `${protocol} ${code}`;
    this.refusals.set(key, (this.refusals.get(key) ?? 0) + 1);
  }

  /** Refusals of one code over all protocols. */
  refusalsOf(code: string): number {
    let sum = 0;
    for (const [key, count] of this.refusals) if (key.endsWith(` ${code}`)) sum += count;
    return sum;
  }
}
