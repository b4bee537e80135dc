import { DOOR_LIMITS, Door } from '../../actors/ingress/door.ts';
import type { Entry } from '../../actors/protocol/entry.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Emitted } from '../../actors/protocol/event.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Predictor } from '../../actors/protocol/prediction.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import type { TwinId } from '../../actors/protocol/twin-id.ts';
import type { PredictionView, TwinView } from '../../actors/protocol/view.ts';
import type { Fork } from '../../actors/runtime/fork.ts';
import { judgeReading } from '../../actors/runtime/judging.ts';
import { H } from '../../actors/runtime/layout.ts';
import { viewOf } from '../../actors/runtime/view.ts';
import { type AskedModel, Questions } from './questions.ts';
import { scenarioReadings } from './scenario.ts';
import { type Journal, type Kinds, pastOf } from './time-travel.ts';

/**
 * What would become of a twin: a fork of its committed state, with hypothetical entries folded on top by the turn that live
 * uses, and with the models asked when they are due.
 *
 * Invariants:
 *  1  The twin itself is only read.
 *  2  What is taken is bounded before anything is folded.
 *  3  Time passes as the readings say: the fork begins now, and moves on by the event time between its readings.
 */
export const WHAT_IF_LIMITS = { readings: 2_000, steps: 2_000, durationMs: 366 * 86_400_000 } as const;
const POINTS = 200;
const EVENTS = 1_000;
const NO_COUNTS = { duplicates: 0, backfilled: 0 };

export interface WhatIfRequest {
  /** In the order in which they would arrive. Without a time: `stepMs` after the one before. */
  readings?: { at?: number; values: Record<string, unknown>; attributes?: Record<string, unknown> }[];
  /** One of the simulator of the kind; severity in (0, 1]. Needs `durationMs`. */
  scenario?: { name: string; severity: number };
  /** Recorded first. */
  maintenance?: { work: string; details?: Record<string, string | number | boolean> };
  /** Time that passes, with a scenario or without. */
  durationMs?: number;
  /** Between two readings. Default: as the demo of the kind speaks, or a second. */
  stepMs?: number;
}

export interface TimelinePoint {
  at: string;
  reported: Record<string, number>;
  health: string;
  /** Rules whose alerts stand. */
  alerts: string[];
  predictions: Record<string, Partial<PredictionView>>;
}

export interface WhatIf {
  twinId: TwinId;
  /** Where the fork leaves the twin. */
  revision: number;
  present: TwinView;
  end: TwinView;
  durationMs: number;
  /** What became of the readings. */
  readings: Record<string, number>;
  timeline: TimelinePoint[];
  events: { type: string; at: string; body: Record<string, unknown> }[];
  /** Events beyond those. */
  eventsLeftOut: number;
  models: Record<string, AskedModel>;
}

/** Throws not_found, retired, bad_request and what is wrong with a reading, history_gone, newer_snapshot. */
export async function whatIf(
  journal: Journal,
  kinds: Kinds,
  predictor: Predictor,
  twinId: TwinId,
  request: WhatIfRequest,
  nowMs: number,
): Promise<WhatIf> {
  check(request);
  const { fork } = await pastOf(journal, kinds, twinId, Number.POSITIVE_INFINITY);
  if (fork.state.n[H.RETIRED] === 1) throw new TwinmeshError('retired', `${twinId} is retired.`);
  // a twin that has never spoken begins to speak now
  const from = fork.state.n[H.ACCEPTED] > 0 ? fork.at : nowMs;
  const course = new Course(fork, new Questions(fork, predictor), { at: from, nowMs });
  const readings = readingsOf(fork, from, request);
  const revision = fork.revision;
  const present = viewOf(fork.state, NO_COUNTS, null);
  await course.run(readings, request);
  return { twinId, revision, present, ...course.told() };
}

function check(request: WhatIfRequest): void {
  const { readings, scenario, maintenance, durationMs, stepMs } = request;
  const bad = (message: string) => new TwinmeshError('bad_request', message);
  if (readings === undefined && scenario === undefined && maintenance === undefined && durationMs === undefined)
    throw bad('Name readings, a scenario, maintenance or a durationMs: what would have to happen?');
  if (readings !== undefined && scenario !== undefined) throw bad('readings or scenario, one of them.');
  if (readings !== undefined && readings.length > WHAT_IF_LIMITS.readings)
    throw bad(`readings: at most ${WHAT_IF_LIMITS.readings}, not ${readings.length}.`);
  if (scenario !== undefined && durationMs === undefined) throw bad('durationMs: how long the scenario goes on.');
  if (durationMs !== undefined && !(durationMs > 0 && durationMs <= WHAT_IF_LIMITS.durationMs))
    throw bad(`durationMs: above 0, at most ${WHAT_IF_LIMITS.durationMs} (366 days).`);
  if (stepMs !== undefined && !(stepMs >= 1)) throw bad('stepMs: at least 1.');
}

/** Checked as the door does it; times relative to the twin's newest reading. */
function readingsOf(fork: Fork, from: number, request: WhatIfRequest): Reading[] {
  const { kind, twinId } = fork.state;
  const stepMs = request.stepMs ?? kind.simulator?.intervalMs ?? 1_000;
  const { scenario, durationMs = 0 } = request;
  if (scenario !== undefined) {
    const steps = Math.floor(durationMs / stepMs);
    if (steps < 1 || steps > WHAT_IF_LIMITS.steps)
      throw new TwinmeshError(
        'bad_request',
        `durationMs ÷ stepMs: 1 to ${WHAT_IF_LIMITS.steps} steps, not ${steps}; a step is ${stepMs} ms.`,
      );
    return scenarioReadings(fork, from, scenario, stepMs, steps);
  }
  const door = new Door({ ...DOOR_LIMITS, maxSkewMs: WHAT_IF_LIMITS.durationMs });
  const id = twinId.slice(kind.kind.length + 1);
  let at = from;
  return (request.readings ?? []).map((reading, i) => {
    at = reading.at ?? at + stepMs;
    return admitted(door, kind, { id, at, values: reading.values, attributes: reading.attributes }, from, i);
  });
}

function admitted(
  door: Door,
  kind: Kind,
  raw: { id: string; at: number; values: Record<string, unknown>; attributes?: Record<string, unknown> },
  presentAt: number,
  index: number,
): Reading {
  try {
    return door.admit(kind, raw, presentAt);
  } catch (error) {
    if (!(error instanceof TwinmeshError)) throw error;
    throw new TwinmeshError(error.code, `readings[${index}]: ${error.message}`, { ...error.details, index });
  }
}

/** The way of the fork through hypothetical time. */
class Course {
  readonly #fork: Fork;
  readonly #questions: Questions;
  /** Where it begins: by event time of the twin, and by the clock. */
  readonly #from: { at: number; receivedAt: number };
  readonly #timeline: TimelinePoint[] = [];
  readonly #events: WhatIf['events'] = [];
  readonly #readings: Record<string, number> = {};
  #leftOut = 0;
  #receivedAt: number;

  constructor(fork: Fork, questions: Questions, { at, nowMs }: { at: number; nowMs: number }) {
    this.#fork = fork;
    this.#questions = questions;
    this.#from = { at, receivedAt: Math.max(nowMs, fork.state.n[H.RECEIVED]) };
    this.#receivedAt = this.#from.receivedAt;
  }

  async run(readings: readonly Reading[], { maintenance, durationMs = 0 }: WhatIfRequest): Promise<void> {
    this.#point();
    if (maintenance !== undefined) {
      const at = this.#receivedAt;
      this.#add({
        type: 'command',
        revision: 0,
        receivedAt: at,
        command: { key: 'what-if', by: 'what-if', name: 'maintenance', at, ...maintenance },
      });
    }
    const every = Math.max(1, Math.ceil(readings.length / POINTS));
    for (let i = 0; i < readings.length; i++) {
      await this.#read(readings[i]);
      if ((i + 1) % every === 0 || i === readings.length - 1) this.#point();
    }
    const end = this.#from.receivedAt + durationMs;
    if (end > this.#receivedAt) {
      this.#elapse(end + 1);
      this.#receivedAt = end;
      this.#point();
    }
  }

  told(): Omit<WhatIf, 'twinId' | 'revision' | 'present'> {
    return {
      end: viewOf(this.#fork.state, NO_COUNTS, null),
      durationMs: this.#receivedAt - this.#from.receivedAt,
      readings: this.#readings,
      timeline: this.#timeline,
      events: this.#events,
      eventsLeftOut: this.#leftOut,
      models: this.#questions.told(),
    };
  }

  async #read(reading: Reading): Promise<void> {
    this.#elapse(Math.max(this.#receivedAt, this.#from.receivedAt + reading.at - this.#from.at));
    const judged = judgeReading(this.#fork, reading);
    const outcome = judged === 'old' ? 'backfill' : judged;
    this.#readings[outcome] = (this.#readings[outcome] ?? 0) + 1;
    if (outcome !== 'accepted') return;
    this.#add({ type: 'reading', revision: 0, receivedAt: this.#receivedAt, reading });
    for (const entry of await this.#questions.due(this.#receivedAt)) this.#add(entry);
  }

  #elapse(receivedAt: number): void {
    this.#fork.elapse(receivedAt, (emitted) => this.#tell(emitted));
    this.#receivedAt = receivedAt;
  }

  #add(entry: Entry): void {
    this.#tell(this.#fork.add(entry));
  }

  #tell(emitted: readonly Emitted[]): void {
    for (const { type, at, body } of emitted) {
      if (this.#events.length < EVENTS) this.#events.push({ type, at: iso(at), body: structuredClone(body) });
      else this.#leftOut++;
    }
  }

  #point(): void {
    const { reported, health, alerts, predictions } = viewOf(this.#fork.state, NO_COUNTS, null);
    this.#timeline.push({
      at: iso(this.#receivedAt),
      reported,
      health: health.status,
      alerts: alerts.map(({ rule }) => rule),
      predictions: Object.fromEntries(Object.entries(predictions).map(([name, view]) => [name, brief(view)])),
    });
  }
}

/** A prediction without what explains it: a timeline has hundreds. */
function brief(prediction: PredictionView): Partial<PredictionView> {
  const { contributions: _, probabilities: __, ...rest } = prediction;
  return rest;
}

const iso = (ms: number): string => new Date(ms).toISOString();
