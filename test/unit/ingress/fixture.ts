import type { DeadLetter } from '../../../actors/ingress/dead-letters.ts';
import { DOOR_LIMITS } from '../../../actors/ingress/door.ts';
import { Ingress, type IngressOptions } from '../../../actors/ingress/ingress.ts';
import type { Source } from '../../../actors/ingress/intake.ts';
import type { Appended, Log, LogBatch, LogReader } from '../../../actors/log/port.ts';
import type { Clock } from '../../../actors/protocol/clock.ts';
import { identityOf, type Outcome, type Reading } from '../../../actors/protocol/reading.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';

/** A log with the twins behind it in the smallest form: it knows duplicates and conflicts by identity, and retired twins. */
export class FakeLog implements Log {
  readonly durable = false;
  readonly batches: LogBatch[] = [];
  readonly stored = new Map<string, Reading>();
  readonly retired = new Set<string>();
  /** Throws when the next appends shall fail. */
  onAppend: (batch: LogBatch) => void | Promise<void> = () => {};

  async append(batch: LogBatch): Promise<Appended> {
    await this.onAppend(batch);
    this.batches.push(batch);
    return { position: this.batches.length, outcomes: batch.readings.map((reading) => this.#outcome(reading)) };
  }

  #outcome(reading: Reading): Outcome {
    if (this.retired.has(`${reading.kind}:${reading.id}`)) return 'retired';
    const key = `${reading.kind}:${reading.id}|${reading.key === undefined ? reading.at : ''}|${identityOf(reading)}`;
    const first = this.stored.get(key);
    if (first === undefined) {
      this.stored.set(key, reading);
      return 'accepted';
    }
    return JSON.stringify(first.values) === JSON.stringify(reading.values) ? 'duplicate' : 'conflicting_duplicate';
  }

  readings(): Reading[] {
    return [...this.stored.values()];
  }

  ids(): string[] {
    return this.readings().map(({ id }) => id);
  }

  read(): LogReader {
    throw new Error('nobody reads this log');
  }
  committed(): void {}
  at(): Promise<'untracked'> {
    return Promise.resolve('untracked');
  }
  seek(): Promise<number> {
    return Promise.resolve(0);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Wall time stands at 2026-06-01 unless moved; timers run when `advance` passes them. */
export class FakeClock implements Clock {
  wallMs = Date.UTC(2026, 5, 1);
  elapsedMs = 0;
  #timers: { at: number; callback: () => void }[] = [];

  now(): number {
    return this.wallMs + this.elapsedMs;
  }
  monotonic(): number {
    return this.elapsedMs;
  }
  after(delayMs: number, callback: () => void) {
    const timer = { at: this.elapsedMs + delayMs, callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((t) => t !== timer);
      },
    };
  }
  async advance(ms: number): Promise<void> {
    const end = this.elapsedMs + ms;
    for (;;) {
      const due = this.#timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers = this.#timers.filter((t) => t !== due);
      this.elapsedMs = Math.max(this.elapsedMs, due.at);
      due.callback();
      await settle();
    }
    this.elapsedMs = end;
    await settle();
  }
}

/** Lets everything that waits on resolved promises run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 200; i++) await Promise.resolve();
}

export const kinds = await loadKinds();

export const HTTP: Source = { protocol: 'http', address: '/api/v1/telemetry', speaker: null };

export function topic(address: string, speaker: Source['speaker'] = null): Source {
  return { protocol: 'mqtt', address, speaker };
}

export interface Bench {
  ingress: Ingress;
  log: FakeLog;
  clock: FakeClock;
  letters: DeadLetter[];
}

export function bench(options: Partial<IngressOptions> = {}): Bench {
  const log = new FakeLog();
  const clock = new FakeClock();
  const letters: DeadLetter[] = [];
  const ingress = new Ingress({
    log,
    clock,
    kinds,
    shards: 16,
    door: { ...DOOR_LIMITS, maxSkewMs: 300_000 },
    json: { maxBytes: 1_048_576, maxDepth: 16 },
    deadLetters: { add: (letter) => letters.push(letter) },
    batchPrefix: 'test',
    ...options,
  });
  return { ingress, log, clock, letters };
}

export const PATIENT = { wait: 'durable', patient: true } as const;
export const COMMITTED = { wait: 'commit', patient: false, deadlineMs: 1000 } as const;
