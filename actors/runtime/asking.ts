import { LATE, within } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { Predictor, PredictRequest } from '../protocol/prediction.ts';
import type { Activation } from './activation.ts';
import { readPrediction } from './answer.ts';
import { type FeatureReader, featureReader, featuresOf } from './features.ts';
import { isDue } from './foretelling.ts';
import type { Host } from './host.ts';
import type { InferenceCounters, InferenceStatus } from './host-api.ts';
import { H, layoutOf, P, type PredictionPlan } from './layout.ts';
import type { Part } from './part.ts';
import { type Question, Questions } from './questions.ts';
import type { HostedShard } from './shard.ts';

/**
 * Asks models about twins: after a commit has landed, those that are due, many in one call.
 *
 * Owns who is asked when, within the rate, and what follows when nobody answers. Does not own what makes a twin due or what an
 * answer means (foretelling.ts), nor when an answer is journaled (gathering.ts, answer.ts).
 *
 * Invariants:
 *  1  One call is on its way a model, and one question a twin and prediction.
 *  2  Nothing waits for an answer: no cut, no read, no shard that moves. What comes too late is dropped and counted.
 *  3  An answer is folded only by the memory that was asked, so the state it is based on is in the journal before it.
 *  4  A twin that is due stands in line until it is asked, or gone: an inference that was away finds the line as it was, and
 *     nobody has to look for the due.
 *  5  Whose answer is oldest is asked first, those without any before all others.
 */
const ROWS_A_CALL = 512;
/** So much of a second's predictions may be asked for at once. */
const BURST = 0.25;
const RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** A twin whose answer was none is asked again after so long, or its period where that is longer; twice as long each time. */
const REFUSED_MS = 1_000;
const MAX_REFUSED_MS = 600_000;
const SWEEP_EVERY_MS = 30_000;
const MAX_CONDEMNED = 10_000;

/** Twins of one kind that ask for one prediction. */
interface Line {
  readonly plan: PredictionPlan;
  readonly reader: FeatureReader;
  readonly waiting: Questions;
}

/** One model. */
interface Desk {
  readonly model: string;
  readonly lines: Line[];
  /** Whose turn it is of the lines. */
  turn: number;
  busy: boolean;
  /** Calls in a row that failed. */
  failures: number;
  /** Monotonic: not asked before. */
  retryAt: number;
  /** Wall time. */
  failingSince: number | null;
}

/** The state of a twin when it was asked about: its revision, its newest reading as received, its event time. */
interface AskedOf {
  readonly basedOn: number;
  readonly heardAt: number;
  readonly at: number;
}

export class Asking {
  readonly counters: InferenceCounters = { asked: 0, answered: 0, refused: 0, dropped: 0, failed: 0, throttled: 0 };
  readonly #host: Host;
  readonly #predictor: Predictor | null;
  readonly #desks: Desk[] = [];
  readonly #lineOf = new Map<PredictionPlan, Line>();
  readonly #desksOfKind = new Map<string, Desk[]>();
  /** Questions whose answer was none, in order of when they may be asked again. */
  readonly #later = new Questions();
  /** Questions in the lines. */
  #waiting = 0;
  #numbers = 0;
  /** Questions up to this number have waited for the rate. */
  #throttledTo = 0;
  #tokens: number;
  #filledAt: number;
  #turn = 0;
  #stirred = false;
  #sweptAt = 0;
  /** Lines that have yet to be swept. */
  #swept: Questions[] = [];
  /** Models that have refused a row. */
  readonly #refusing = new Set<string>();
  /** `twin id prediction`: not asked any more by this process. */
  readonly #condemned = new Set<string>();

  constructor(host: Host) {
    this.#host = host;
    const { predictor, predictionsPerSecond, clock, kinds } = host.options;
    this.#predictor = predictionsPerSecond > 0 ? (predictor ?? null) : null;
    this.#tokens = this.#burst;
    this.#filledAt = clock.monotonic();
    if (this.#predictor === null) return;
    for (const kind of kinds.all()) {
      const desks = new Set<Desk>();
      for (const plan of layoutOf(kind).predictions) {
        const desk = this.#deskOf(plan.use.model);
        const line = { plan, reader: featureReader(kind, plan.use.inputs), waiting: new Questions() };
        desk.lines.push(line);
        desks.add(desk);
        this.#lineOf.set(plan, line);
      }
      if (desks.size > 0) this.#desksOfKind.set(kind.kind, [...desks]);
    }
  }

  /** Since when a model does not answer, wall time; null while it does. */
  readonly failingSince = (model: string): number | null =>
    this.#desks.find((desk) => desk.model === model)?.failingSince ?? null;

  /** The same of all models that twins of a kind ask. */
  readonly kindFailingSince = (kind: string): number | null => earliest(this.#desksOfKind.get(kind) ?? []);

  status(): InferenceStatus {
    const since = earliest(this.#desks);
    return {
      ...this.counters,
      waiting: this.#waiting + this.#later.size,
      failingSince: since === null ? null : new Date(since).toISOString(),
      failing: this.#desks.filter((desk) => desk.failingSince !== null).map(({ model }) => model),
    };
  }

  /** A part has landed: its twins may be due. */
  landed({ shard, touched }: Part): void {
    if (this.#desks.length === 0) return;
    for (const activation of touched) this.consider(shard, activation);
    this.#stir();
  }

  /** Puts the twin in line where it is due. Also for twins that come into memory as they were stored. */
  consider(shard: HostedShard, activation: Activation): void {
    if (this.#desks.length === 0) return;
    const { predictions } = activation.state.layout;
    for (let i = 0; i < predictions.length; i++) {
      const plan = predictions[i];
      if ((activation.asking & (1 << i)) !== 0 || !isDue(activation.state, plan)) continue;
      const line = this.#lineOf.get(plan);
      if (line === undefined) continue;
      if (this.#condemned.size > 0 && this.#condemned.has(`${activation.twinId} ${plan.name}`)) continue;
      activation.asking |= 1 << i;
      const rank = activation.state.n[plan.offset + P.RECEIVED];
      this.#enqueue(line, { shard, activation, plan, number: ++this.#numbers, rank, refusals: 0 });
    }
  }

  /** What only time brings: questions that may be asked again, budget, models that may be back. */
  round(): void {
    if (this.#desks.length === 0) return;
    const now = this.#host.options.clock.monotonic();
    for (let next = this.#later.first; next !== undefined && next.rank <= now; next = this.#later.first) {
      this.#later.shift();
      next.rank = next.activation.state.n[next.plan.offset + P.RECEIVED];
      this.#enqueue(this.#lineOf.get(next.plan)!, next);
    }
    if (this.#waiting > 0) this.#ask();
  }

  /** Folding the answer threw: asked again, it would cost the shard its memory again and again. */
  condemn(twinId: string, prediction: string): void {
    if (this.#condemned.size < MAX_CONDEMNED) this.#condemned.add(`${twinId} ${prediction}`);
  }

  /** Lines hold on to twins that have left memory until their turn comes: dropped now and then, a line at a time. */
  sweep(): void {
    const now = this.#host.options.clock.monotonic();
    if (this.#swept.length === 0) {
      if (now - this.#sweptAt < SWEEP_EVERY_MS || this.#waiting + this.#later.size === 0) return;
      this.#sweptAt = now;
      this.#swept = [this.#later, ...[...this.#lineOf.values()].map(({ waiting }) => waiting)];
    }
    const line = this.#swept.pop()!;
    const dropped = line.retain(isAlive);
    if (line !== this.#later) this.#waiting -= dropped;
  }

  /** Once for all that land together. */
  #stir(): void {
    if (this.#stirred || this.#waiting === 0) return;
    this.#stirred = true;
    queueMicrotask(() => {
      this.#stirred = false;
      this.#ask();
    });
  }

  #ask(): void {
    const { state, staleness, options } = this.#host;
    if (state !== 'running' || staleness.isStoreFailing) return;
    const now = options.clock.monotonic();
    this.#fill(now);
    const first = this.#turn++;
    for (let i = 0; i < this.#desks.length && this.#waiting > 0; i++) {
      const desk = this.#desks[(first + i) % this.#desks.length];
      if (desk.busy || now < desk.retryAt) continue;
      if (this.#tokens < 1) {
        this.#throttledTo = this.#numbers;
        return;
      }
      this.#askOne(desk);
    }
  }

  #askOne(desk: Desk): void {
    for (let i = 0; i < desk.lines.length; i++) {
      const line = desk.lines[desk.turn++ % desk.lines.length];
      const questions = this.#take(line, Math.min(ROWS_A_CALL, Math.floor(this.#tokens)));
      if (questions.length === 0) continue;
      const { width } = line.reader;
      const inputs = new Float32Array(questions.length * width);
      const asked: Question[] = [];
      for (const question of questions) {
        try {
          featuresOf(question.activation.state, line.reader, inputs, asked.length * width);
          asked.push(question);
        } catch (error) {
          this.#host.options.logger.error(
            { twinId: question.activation.twinId, model: desk.model, error: messageOf(error) },
            'a feature of the kind threw',
          );
          this.counters.asked++;
          this.#refused(question);
        }
      }
      if (asked.length === 0) continue;
      this.#tokens -= asked.length;
      this.counters.asked += asked.length;
      void this.#call(desk, asked, {
        model: desk.model,
        inputs: asked.length < questions.length ? inputs.slice(0, asked.length * width) : inputs,
        rows: asked.length,
        at: asked.map(({ activation }) => activation.state.n[H.AT]),
      });
      return;
    }
  }

  /** The next of a line, without those that are gone or not due any more. */
  #take({ waiting }: Line, most: number): Question[] {
    const questions: Question[] = [];
    while (questions.length < most) {
      const question = waiting.shift();
      if (question === undefined) break;
      this.#waiting--;
      if (!isAlive(question) || !isDue(question.activation.state, question.plan)) {
        forget(question);
        continue;
      }
      if (question.number <= this.#throttledTo) this.counters.throttled++;
      questions.push(question);
    }
    return questions;
  }

  async #call(desk: Desk, asked: readonly Question[], request: PredictRequest): Promise<void> {
    const { clock, predictionDeadlineMs } = this.#host.options;
    const basedOn = asked.map(({ activation }) => activation.revision);
    const heardAt = asked.map(({ activation }) => activation.state.n[H.RECEIVED]);
    desk.busy = true;
    try {
      const answer = await within(clock, this.#predict(request), predictionDeadlineMs);
      if (answer === LATE)
        throw new TwinmeshError('deadline_exceeded', `${desk.model} took more than ${predictionDeadlineMs} ms.`);
      const predictions: unknown = answer?.predictions;
      if (!Array.isArray(predictions) || predictions.length !== asked.length)
        throw new TwinmeshError('inference_down', `${desk.model} did not answer ${asked.length} rows with as many.`);
      this.#answered(desk);
      for (let i = 0; i < asked.length; i++)
        this.#takeAnswer(
          desk,
          asked[i],
          { basedOn: basedOn[i], heardAt: heardAt[i], at: request.at[i] },
          predictions[i],
        );
      this.#host.signal();
    } catch (error) {
      this.#failed(desk, asked, error);
    } finally {
      desk.busy = false;
      this.#stir();
    }
  }

  async #predict(request: PredictRequest) {
    return this.#predictor!.predict(request);
  }

  #takeAnswer(desk: Desk, question: Question, { basedOn, heardAt, at }: AskedOf, raw: unknown): void {
    const { shard, activation, plan } = question;
    if (!isAlive(question)) {
      forget(question);
      this.counters.dropped++;
      return;
    }
    const prediction = readPrediction(raw, desk.model, at, plan);
    if (prediction === null) {
      this.#refused(question);
      return;
    }
    activation.refused?.delete(plan.index);
    shard.answers.push({ activation, plan, basedOn, heardAt, prediction });
  }

  #refused(question: Question): void {
    this.counters.refused++;
    const { index, use } = question.plan;
    const { model } = use;
    question.activation.refused ??= new Map();
    const { refused } = question.activation;
    if (!refused.has(index)) refused.set(index, this.#host.options.clock.now());
    // once a model: the counters say how often
    if (!this.#refusing.has(model)) {
      this.#refusing.add(model);
      const { twinId } = question.activation;
      this.#host.options.logger.warn(
        { model, twinId },
        'a model has no answer for what it was asked; its twin is asked about again later, see twinmesh_inference_refused',
      );
    }
    const pauseMs = Math.max(REFUSED_MS, use.everyMs) * 2 ** Math.min(question.refusals++, 20);
    question.rank = this.#host.options.clock.monotonic() + Math.min(MAX_REFUSED_MS, pauseMs);
    this.#later.push(question);
  }

  #answered(desk: Desk): void {
    if (desk.failingSince !== null) {
      const downMs = this.#host.options.clock.now() - desk.failingSince;
      this.#host.options.logger.info({ model: desk.model, downMs }, 'the model answers again');
    }
    desk.failures = 0;
    desk.failingSince = null;
  }

  #failed(desk: Desk, asked: readonly Question[], error: unknown): void {
    const { clock, logger } = this.#host.options;
    const told = error instanceof TwinmeshError ? { code: error.code, remedy: error.spec.remedy } : {};
    if (desk.failingSince === null) {
      desk.failingSince = clock.now();
      logger.warn(
        { model: desk.model, error: messageOf(error), ...told },
        'the model does not answer; telemetry goes on',
      );
    }
    desk.retryAt = clock.monotonic() + Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** Math.min(desk.failures++, 10));
    this.counters.failed += asked.length;
    for (const question of asked) {
      if (isAlive(question)) this.#enqueue(this.#lineOf.get(question.plan)!, question);
      else forget(question);
    }
  }

  #enqueue(line: Line, question: Question): void {
    line.waiting.push(question);
    this.#waiting++;
  }

  #deskOf(model: string): Desk {
    let desk = this.#desks.find((d) => d.model === model);
    if (desk === undefined) {
      desk = { model, lines: [], turn: 0, busy: false, failures: 0, retryAt: 0, failingSince: null };
      this.#desks.push(desk);
    }
    return desk;
  }

  get #burst(): number {
    return Math.max(1, this.#host.options.predictionsPerSecond * BURST);
  }

  #fill(now: number): void {
    const { predictionsPerSecond } = this.#host.options;
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#filledAt) * predictionsPerSecond) / 1000);
    this.#filledAt = now;
  }
}

/** The memory that is to be asked about, or was, is still the one that folds. */
function isAlive({ shard, activation }: Question): boolean {
  return !shard.dead && !shard.poisoned && !shard.sealed && shard.twins.get(activation.twinId) === activation;
}

function forget({ activation, plan }: Question): void {
  activation.asking &= ~(1 << plan.index);
}

function earliest(desks: readonly Desk[]): number | null {
  let since: number | null = null;
  for (const { failingSince } of desks)
    if (failingSince !== null && (since === null || failingSince < since)) since = failingSince;
  return since;
}
