import { Worker } from 'node:worker_threads';
import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Predictor } from '../../actors/protocol/prediction.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { Ask, FromThread, Task, ThreadSettings, ToThread } from './thread-message.ts';
import { fromThrown, toThrown } from './thrown.ts';

/**
 * The threads of a node that fold aside: time travel, what-if, rescoring. The loop that owns twins waits for none of them.
 *
 * Owns how many there are, who waits, and when one has taken too long. Does not own what they compute (thread.ts).
 *
 * Invariants:
 *  1  At most `most` threads; what comes while all are busy waits in line, and at most `maxWaiting` do (`overloaded`).
 *  2  A task that throws, hangs, or takes its thread down ends alone: the next one gets a thread that works.
 *  3  After `close` no thread is left.
 */
export interface ReplayThreadsOptions {
  settings: ThreadSettings;
  sql: Sql;
  predictor: Predictor;
  clock: Clock;
  most?: number;
  maxWaiting?: number;
  /** How long a thread that does nothing is kept. */
  idleMs?: number;
  /** The file that a thread runs. */
  file?: URL;
}

export interface RunOptions {
  /** From when it is asked, waiting included; then its thread is ended and it throws deadline_exceeded. */
  deadlineMs: number;
  /** Ends it: it throws `unavailable`. */
  signal?: AbortSignal;
  onProgress?(progress: unknown): void;
}

interface Job {
  task: Task;
  options: RunOptions;
  timer: TimerHandle;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

const MEMORY_MB = 1_024;

export class ReplayThreads {
  readonly #options: Required<ReplayThreadsOptions>;
  readonly #threads = new Set<Thread>();
  readonly #line: Job[] = [];
  #closed = false;

  constructor(options: ReplayThreadsOptions) {
    this.#options = {
      most: 2,
      maxWaiting: 32,
      idleMs: 600_000,
      file: new URL('./thread.ts', import.meta.url),
      ...options,
    };
  }

  /** Threads there are now. */
  get size(): number {
    return this.#threads.size;
  }

  /** Throws what the task throws, overloaded, deadline_exceeded, unavailable (ended), internal (its thread died). */
  run<T>(task: Task, options: RunOptions): Promise<T> {
    const { clock, maxWaiting } = this.#options;
    if (this.#closed) return Promise.reject(new TwinmeshError('unavailable', 'The node is stopping.'));
    if (this.#line.length >= maxWaiting)
      return Promise.reject(new TwinmeshError('overloaded', `${this.#line.length} replays wait already.`));
    return new Promise<T>((resolve, reject) => {
      const timer = clock.after(options.deadlineMs, () => {
        const message = `Replay took longer than ${Math.round(options.deadlineMs / 1000)} s and was ended.`;
        this.#end(job, new TwinmeshError('deadline_exceeded', message));
      });
      const job: Job = { task, options, timer, resolve: resolve as (result: unknown) => void, reject };
      options.signal?.addEventListener('abort', () =>
        this.#end(job, new TwinmeshError('unavailable', 'It was ended before it was done.')),
      );
      this.#line.push(job);
      this.#next();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#line.splice(0)) settle(job, new TwinmeshError('unavailable', 'The node is stopping.'));
    await Promise.all([...this.#threads].map((thread) => this.#drop(thread, 'The node is stopping.')));
  }

  #next(): void {
    while (this.#line.length > 0) {
      const idle = [...this.#threads].find((thread) => thread.job === null);
      if (idle === undefined && this.#threads.size >= this.#options.most) return;
      (idle ?? this.#open()).take(this.#line.shift()!);
    }
  }

  #open(): Thread {
    const thread = new Thread(this.#options, {
      free: () => this.#next(),
      idle: () => void this.#drop(thread, ''),
      gone: () => {
        this.#threads.delete(thread);
        if (!this.#closed) this.#next();
      },
    });
    this.#threads.add(thread);
    return thread;
  }

  #end(job: Job, error: TwinmeshError): void {
    const waits = this.#line.indexOf(job);
    if (waits >= 0) this.#line.splice(waits, 1);
    settle(job, error);
    for (const thread of this.#threads) if (thread.job === job) void this.#drop(thread, error.message);
  }

  #drop(thread: Thread, why: string): Promise<void> {
    return thread.end(new TwinmeshError('unavailable', why));
  }
}

function settle(job: Job, error: unknown): void {
  job.timer.cancel();
  job.reject(error);
}

interface Told {
  free(): void;
  idle(): void;
  gone(): void;
}

class Thread {
  job: Job | null = null;
  readonly #worker: Worker;
  readonly #options: Required<ReplayThreadsOptions>;
  readonly #told: Told;
  #idle: TimerHandle | null = null;
  #isReady = false;
  #isOver = false;
  #why: unknown = null;

  constructor(options: Required<ReplayThreadsOptions>, told: Told) {
    this.#options = options;
    this.#told = told;
    this.#worker = new Worker(options.file, {
      workerData: options.settings,
      resourceLimits: { maxOldGenerationSizeMb: MEMORY_MB },
    });
    this.#worker.on('message', (message: FromThread) => this.#hear(message));
    this.#worker.on('error', (error) => {
      this.#why = error;
    });
    this.#worker.on('exit', () => this.#gone());
  }

  take(job: Job): void {
    this.#idle?.cancel();
    this.#idle = null;
    this.job = job;
    // whoever waits for the answer keeps the process; a thread that does nothing does not
    this.#worker.ref();
    if (this.#isReady) this.#say({ type: 'run', task: job.task });
  }

  async end(why: TwinmeshError): Promise<void> {
    this.#idle?.cancel();
    this.#why ??= why;
    await this.#worker.terminate();
    this.#gone();
  }

  #say(message: ToThread, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #hear(message: FromThread): void {
    switch (message.type) {
      case 'ready':
        this.#isReady = true;
        if (this.job !== null) this.#say({ type: 'run', task: this.job.task });
        return;
      case 'ask':
        this.#answer(message.id, message.ask);
        return;
      case 'progress':
        this.job?.options.onProgress?.(message.progress);
        return;
      case 'done':
        this.#finish((job) => job.resolve(message.result));
        return;
      case 'failed':
        this.#finish((job) => job.reject(fromThrown(message.error)));
        // it has not come as far as to take anything
        if (!this.#isReady) void this.end(fromThrown(message.error));
        return;
    }
  }

  #finish(tell: (job: Job) => void): void {
    const { job } = this;
    this.job = null;
    if (job !== null) {
      job.timer.cancel();
      tell(job);
    }
    if (!this.#isReady || this.#isOver) return;
    this.#worker.unref();
    this.#idle = this.#options.clock.after(this.#options.idleMs, () => this.#told.idle());
    this.#told.free();
  }

  #answer(id: number, ask: Ask): void {
    const { sql, predictor } = this.#options;
    const answer =
      ask.what === 'query'
        ? sql.query(ask.text, ask.params, ask.name === undefined ? {} : { name: ask.name })
        : predictor.predict(ask.request);
    answer.then(
      (what) => {
        if (!this.#isOver) this.#say({ type: 'answer', id, answer: what });
      },
      (error) => {
        if (!this.#isOver) this.#say({ type: 'refusal', id, error: toThrown(error) });
      },
    );
  }

  #gone(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { job } = this;
    this.job = null;
    if (job !== null) {
      const error =
        this.#why instanceof TwinmeshError
          ? this.#why
          : new TwinmeshError('internal', `The replay thread ended: ${messageOf(this.#why ?? 'without a word')}`);
      settle(job, error);
    }
    this.#told.gone();
  }
}
