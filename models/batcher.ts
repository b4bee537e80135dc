import type { Clock } from '../actors/protocol/clock.ts';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import type { Prediction, PredictRequest } from '../actors/protocol/prediction.ts';

/**
 * The queue in front of the models, bounded: questions to one model that wait together are answered in one run.
 *
 *  1  At most `maxWaitingRows` wait; what would go above is refused at once (`overloaded`).
 *  2  What its asker has given up by the time its turn comes is not computed (`deadline_exceeded`).
 *  3  Models are served in the order of their oldest question; one run at a time, because they share the thread.
 */
export interface BatcherOptions {
  clock: Clock;
  maxWaitingRows?: number;
  /** Rows that go into one run together; a larger question runs alone. */
  maxBatchRows?: number;
  run(request: PredictRequest, explain: boolean): Promise<{ predictions: readonly (Prediction | null)[] }>;
  onBatch?(rows: number, questions: number): void;
  onRefused?(reason: 'overloaded' | 'deadline_exceeded', rows: number): void;
}

interface Waiting {
  request: PredictRequest;
  explain: boolean;
  deadlineAt: number;
  resolve(predictions: readonly (Prediction | null)[]): void;
  reject(error: unknown): void;
}

export class Batcher {
  readonly #options: Required<Omit<BatcherOptions, 'onBatch' | 'onRefused'>> & BatcherOptions;
  #waiting: Waiting[] = [];
  #waitingRows = 0;
  #isRunning = false;

  constructor(options: BatcherOptions) {
    this.#options = { maxWaitingRows: 20_000, maxBatchRows: 512, ...options };
  }

  get waitingRows(): number {
    return this.#waitingRows;
  }

  /** Throws what `run` throws, overloaded, deadline_exceeded. */
  ask(request: PredictRequest, deadlineMs: number, explain = true): Promise<readonly (Prediction | null)[]> {
    const { clock, maxWaitingRows, onRefused } = this.#options;
    if (this.#waitingRows + request.rows > maxWaitingRows) {
      onRefused?.('overloaded', request.rows);
      const message = `${this.#waitingRows} rows wait for their predictions, ${maxWaitingRows} may.`;
      return Promise.reject(new TwinmeshError('overloaded', message));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, explain, deadlineAt: clock.monotonic() + deadlineMs, resolve, reject });
      this.#waitingRows += request.rows;
      if (!this.#isRunning) void this.#drain();
    });
  }

  async #drain(): Promise<void> {
    this.#isRunning = true;
    // Questions of the same turn of the loop go together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      if (batch.length > 0) await this.#answer(batch);
    }
    this.#isRunning = false;
  }

  /** The oldest question, and those that fit beside it. */
  #take(): Waiting[] {
    const { clock, maxBatchRows, onRefused } = this.#options;
    const now = clock.monotonic();
    const batch: Waiting[] = [];
    const left: Waiting[] = [];
    let rows = 0;
    for (const waiting of this.#waiting) {
      const { request } = waiting;
      if (waiting.deadlineAt <= now) {
        this.#waitingRows -= request.rows;
        onRefused?.('deadline_exceeded', request.rows);
        waiting.reject(new TwinmeshError('deadline_exceeded', 'Its turn came after its deadline.'));
        continue;
      }
      const [first] = batch;
      const fits = first === undefined || (isAlike(first, waiting) && rows + request.rows <= maxBatchRows);
      if (!fits) {
        left.push(waiting);
        continue;
      }
      batch.push(waiting);
      rows += request.rows;
      this.#waitingRows -= request.rows;
    }
    this.#waiting = left;
    return batch;
  }

  async #answer(batch: Waiting[]): Promise<void> {
    const { run, onBatch } = this.#options;
    try {
      const request = batch.length === 1 ? batch[0].request : joined(batch);
      onBatch?.(request.rows, batch.length);
      const { predictions } = await run(request, batch[0].explain);
      let start = 0;
      for (const { request: own, resolve } of batch) {
        resolve(predictions.slice(start, start + own.rows));
        start += own.rows;
      }
    } catch (error) {
      if (batch.length === 1) batch[0].reject(error);
      // One that is malformed must not take the others along.
      else for (const waiting of batch) await this.#answer([waiting]);
    }
  }
}

/** May go into one run: of one model, and of one width, which nobody has checked yet. */
function isAlike(a: Waiting, b: Waiting): boolean {
  const widthOf = ({ request }: Waiting) => request.inputs.length / request.rows;
  return a.request.model === b.request.model && a.explain === b.explain && widthOf(a) === widthOf(b);
}

function joined(batch: readonly Waiting[]): PredictRequest {
  const inputs = new Float32Array(batch.reduce((sum, { request }) => sum + request.inputs.length, 0));
  const at: number[] = [];
  let offset = 0;
  for (const { request } of batch) {
    inputs.set(request.inputs, offset);
    offset += request.inputs.length;
    for (const time of request.at) at.push(time);
  }
  return { model: batch[0].request.model, inputs, rows: at.length, at };
}
