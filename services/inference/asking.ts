import {
  BulkheadRejectedError,
  bulkhead,
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  isBrokenCircuitError,
} from 'cockatiel';
import { type Clock, LATE, within } from '../../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { PredictAnswer, PredictRequest } from '../../actors/protocol/prediction.ts';
import type { AskingStatus, SeatedPredictor } from './seat.ts';
import { toWire, type WireAnswer, type WireRequest } from './wire.ts';

/**
 * How a node asks the inference service, wherever that runs.
 *
 * Owns patience: deadline, breaker, bulkhead. Does not own which node answers (the broker) nor when to ask again (the host).
 *
 *  1  Whatever goes wrong is inference_down, deadline_exceeded, overloaded or bad_request, within the deadline; nothing hangs.
 *  2  After `FAILURES` questions in a row that were not answered nobody is asked for `openMs`; then one question tries.
 *  3  A model that is not there, a node that is not there, and a full queue say nothing about the health of whoever answers:
 *     they are told, and do not open the breaker.
 */
const FAILURES = 5;
const OPEN_MS = 60_000;
/** Questions on their way, and those that wait to go. */
const MAX_ASKING = 16;
const MAX_WAITING = 256;

export interface AskingOptions {
  clock: Clock;
  deadlineMs: number;
  call(request: WireRequest, timeoutMs: number): Promise<WireAnswer>;
  openMs?: number;
  /** Questions on their way at once. */
  most?: number;
  /** They are those of people, not of twins. */
  aside?: boolean;
}

export interface AskOptions {
  /** Whether contributions that cost extra runs are wanted. Default: yes. */
  explain?: boolean;
}

export class Asking implements SeatedPredictor {
  readonly #options: AskingOptions;
  readonly #breaker;
  readonly #bulkhead;
  readonly #failures = new Map<string, number>();
  #asked = 0;
  #rows = 0;
  #down: AskingStatus['down'] = null;

  constructor(options: AskingOptions) {
    this.#options = options;
    this.#bulkhead = bulkhead(options.most ?? MAX_ASKING, MAX_WAITING);
    this.#breaker = circuitBreaker(handleWhen(saysItIsIll), {
      breaker: new ConsecutiveBreaker(FAILURES),
      halfOpenAfter: options.openMs ?? OPEN_MS,
    });
  }

  async predict(request: PredictRequest, { explain }: AskOptions = {}): Promise<PredictAnswer> {
    this.#asked++;
    this.#rows += request.rows;
    try {
      // The breaker inside: what waits for its turn when it opens is refused instead of tried.
      const answer = await this.#bulkhead.execute(() => this.#breaker.execute(() => this.#ask(request, explain)));
      this.#down = null;
      return answer;
    } catch (thrown) {
      const error = this.#told(thrown);
      this.#failures.set(error.code, (this.#failures.get(error.code) ?? 0) + 1);
      if (error.code !== 'bad_request' && error.details?.model === undefined && !isBrokenCircuitError(thrown))
        this.#down = {
          reason: error.message,
          since: this.#down?.since ?? new Date(this.#options.clock.now()).toISOString(),
        };
      throw error;
    }
  }

  status(): AskingStatus {
    const states = {
      [CircuitState.Closed]: 'closed',
      [CircuitState.Open]: 'open',
      [CircuitState.HalfOpen]: 'half_open',
      [CircuitState.Isolated]: 'open',
    } as const;
    return {
      breaker: states[this.#breaker.state],
      asked: this.#asked,
      rows: this.#rows,
      failures: Object.fromEntries(this.#failures),
      down: this.#down,
    };
  }

  async #ask(request: PredictRequest, explain: boolean | undefined): Promise<PredictAnswer> {
    const { clock, deadlineMs, call, aside } = this.#options;
    const answer = await within(clock, call(toWire(request, deadlineMs, explain, aside), deadlineMs), deadlineMs);
    if (answer === LATE) throw new TwinmeshError('deadline_exceeded', `No prediction within ${deadlineMs} ms.`);
    const predictions = (answer as Partial<WireAnswer> | null)?.predictions;
    if (!Array.isArray(predictions) || predictions.length !== request.rows)
      throw new TwinmeshError('internal', 'The inference service answered something else than it was asked.');
    return { predictions };
  }

  #told(thrown: unknown): TwinmeshError {
    if (isBrokenCircuitError(thrown)) {
      const last = this.#down === null ? '' : ` The last: ${this.#down.reason}`;
      return new TwinmeshError(
        'inference_down',
        `Nobody is asked for a while: ${FAILURES} questions in a row had no answer.${last}`,
      );
    }
    if (thrown instanceof BulkheadRejectedError)
      return new TwinmeshError('overloaded', `${MAX_WAITING} questions to models wait already.`);
    return asError(thrown);
  }
}

const TOLD_AS_IT_IS = new Set(['inference_down', 'deadline_exceeded', 'overloaded', 'bad_request']);
/** How the broker says that nobody is there. */
const NOBODY = new Set(['ServiceNotFoundError', 'ServiceNotAvailableError']);

function asError(thrown: unknown): TwinmeshError {
  if (thrown instanceof TwinmeshError) {
    if (TOLD_AS_IT_IS.has(thrown.code)) return thrown;
    return new TwinmeshError('inference_down', thrown.message, thrown.details, { cause: thrown });
  }
  const name = (thrown as Error | null)?.name ?? '';
  if (NOBODY.has(name)) return new TwinmeshError('inference_down', 'No node with the role inference is there.');
  if (name === 'RequestTimeoutError')
    return new TwinmeshError('deadline_exceeded', 'The inference service did not answer in time.');
  return new TwinmeshError('inference_down', messageOf(thrown), undefined, { cause: thrown });
}

/** Whether an error says something about the health of whoever answers. */
function saysItIsIll(thrown: unknown): boolean {
  if (!(thrown instanceof TwinmeshError)) return !NOBODY.has((thrown as Error | null)?.name ?? '');
  if (thrown.code === 'overloaded' || thrown.code === 'bad_request') return false;
  return thrown.details?.model === undefined;
}
