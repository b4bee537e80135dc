import type { Entry } from '../../actors/protocol/entry.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Predictor } from '../../actors/protocol/prediction.ts';
import { NEWEST, readSegments, type Segment } from '../../actors/store/queries/journal-segments.ts';
import { type RescoredTwin, twinsToRescore } from '../../actors/store/queries/journal-twins.ts';
import { type ReceivedSpan, receivedSpan } from '../../actors/store/queries/received-span.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { compare, type Difference, newTally, type Tally } from './comparison.ts';
import { Lane, type Question } from './lane.ts';
import { hasHole } from './time-travel.ts';

/**
 * History once more, with another version of a model: what it would have said, and what would have followed.
 *
 * Twins go side by side, a stretch of history each, and the questions of a stretch go to the model together: what a model is
 * asked depends on readings alone, never on what it has answered, so that all of them are known before the first answer.
 *
 * Invariants:
 *  1  `was` is the journal as it is, folded by the code that is here; `now` is the same journal without the predictions of the
 *     model, with the answers of the other version where the kind says that it is due.
 *  2  Nothing is written to any twin.
 */
export interface RescoreRequest {
  model: string;
  version: string;
  /** Received time, ms: the first and the last moment that counts. */
  from: number;
  to: number;
  kind?: string;
  twins?: readonly string[];
  /** Happenings further apart than this are two. */
  windowMs: number;
}

export interface RescoreProgress {
  twins: { total: number; done: number };
  readings: number;
  predictions: number;
  elapsedMs: number;
}

export interface RescoreSummary extends RescoreProgress {
  kinds: string[];
  /** Twins whose history does not reach back to `from`, and those that have none at all that can be folded. */
  shortened: number;
  skipped: number;
  /** Answers journaled of the model; asked, answered and refused by the other version. */
  answers: { was: number; asked: number; now: number; refused: number };
  tally: Tally;
  /** Where no reading lay in the span: what these twins have; null: nothing. */
  received?: ReceivedSpan | null;
}

export interface RescoreKinds {
  get(kind: string): Kind;
  all(): readonly { kind: string }[];
}

/** Whoever follows a rescoring. */
export interface RescoreWatch {
  progress?(progress: RescoreProgress): void;
  /** Differences of a twin, as they are found. */
  differences?(twinId: string, differences: readonly Difference[]): Promise<void>;
}

interface Read {
  segments: Segment[];
  stretches: Entry[][];
}

const TWINS_A_BLOCK = 512;
/** Entries read in one go, about. */
const ENTRIES_A_READ = 20_000;
const ROWS_A_QUESTION = 4_096;
const PROGRESS_EVERY_MS = 500;

/** Throws bad_request where no kind asks the model, SqlError, and what the model throws. */
export async function rescore(
  sql: Sql,
  kinds: RescoreKinds,
  predictor: Predictor,
  request: RescoreRequest,
  watch: RescoreWatch = {},
): Promise<RescoreSummary> {
  const chosen = kindsOf(kinds, request);
  return new Rescoring(sql, predictor, request, watch).run(chosen);
}

function kindsOf(kinds: RescoreKinds, { model, kind }: RescoreRequest): Kind[] {
  const all = kind === undefined ? kinds.all().map(({ kind }) => kinds.get(kind)) : [kinds.get(kind)];
  const asking = all.filter(({ models }) => Object.values(models ?? {}).some((use) => use.model === model));
  if (asking.length > 0) return asking;
  throw new TwinmeshError('bad_request', `${kind === undefined ? 'No kind asks' : `${kind} does not ask`} ${model}.`);
}

class Rescoring {
  readonly #sql: Sql;
  readonly #predictor: Predictor;
  readonly #request: RescoreRequest;
  readonly #watch: RescoreWatch;
  readonly #startedAt = performance.now();
  readonly #summary: RescoreSummary = {
    twins: { total: 0, done: 0 },
    readings: 0,
    predictions: 0,
    elapsedMs: 0,
    kinds: [],
    shortened: 0,
    skipped: 0,
    answers: { was: 0, asked: 0, now: 0, refused: 0 },
    tally: newTally(),
  };
  #toldAt = 0;

  constructor(sql: Sql, predictor: Predictor, request: RescoreRequest, watch: RescoreWatch) {
    this.#sql = sql;
    this.#predictor = predictor;
    this.#request = request;
    this.#watch = watch;
  }

  async run(kinds: readonly Kind[]): Promise<RescoreSummary> {
    const { twins } = this.#request;
    this.#summary.kinds = kinds.map(({ kind }) => kind);
    for (const kind of kinds) this.#summary.twins.total += await twinsToRescore.count(this.#sql, kind.kind, twins);
    for (const kind of kinds) {
      for (let after = 0; ; ) {
        const { from } = this.#request;
        const page = await twinsToRescore.page(this.#sql, kind.kind, { from, after, limit: TWINS_A_BLOCK, ids: twins });
        if (page.length === 0) break;
        after = page[page.length - 1].twin;
        await this.#block(kind, page);
      }
    }
    if (this.#summary.readings === 0) this.#summary.received = await receivedSpan(this.#sql, kinds, twins);
    this.#tell(true);
    return this.#summary;
  }

  async #block(kind: Kind, twins: readonly RescoredTwin[]): Promise<void> {
    let lanes = twins.map((twin) => new Lane(kind, twin, this.#request));
    while (lanes.length > 0) {
      const next = await twinsToRescore.above(
        this.#sql,
        lanes.map(({ twin, revision }) => ({ twin: twin.twin, revision })),
      );
      for (const lane of lanes) lane.above = next.get(lane.twin.twin) ?? null;
      await this.#stretches(kind, [...batches(lanes)]);
      for (const lane of lanes) if (lane.isDone) await this.#finish(lane);
      lanes = lanes.filter((lane) => !lane.isDone);
    }
  }

  /** While one batch is folded the database reads the next. */
  async #stretches(kind: Kind, all: readonly Lane[][]): Promise<void> {
    let ahead: Promise<Read> | null = null;
    for (const [i, lanes] of all.entries()) {
      const { segments, stretches } = await (ahead ?? this.#read(kind, lanes));
      ahead = i + 1 < all.length ? this.#read(kind, all[i + 1]) : null;
      // it may fail before anybody waits for it; whoever does gets the error
      ahead?.catch(() => undefined);
      await this.#fold(lanes, segments, stretches);
    }
  }

  async #read(kind: Kind, lanes: readonly Lane[]): Promise<Read> {
    const segments = lanes.map((lane) => lane.segment());
    return { segments, stretches: await readSegments(this.#sql, kind, segments) };
  }

  async #fold(lanes: readonly Lane[], segments: readonly Segment[], stretches: readonly Entry[][]): Promise<void> {
    const questions: Question[] = [];
    for (const [i, lane] of lanes.entries()) {
      if (hasHole(stretches[i], segments[i])) lane.skip();
      else this.#summary.readings += lane.first(stretches[i], questions);
    }
    await this.#ask(questions);
    for (const lane of lanes) lane.second();
    this.#tell(false);
  }

  async #ask(questions: readonly Question[]): Promise<void> {
    const { model } = this.#request;
    const { answers } = this.#summary;
    const widths = new Map<number, Question[]>();
    for (const question of questions) {
      const same = widths.get(question.inputs.length);
      if (same) same.push(question);
      else widths.set(question.inputs.length, [question]);
    }
    for (const [width, same] of widths)
      for (let i = 0; i < same.length; i += ROWS_A_QUESTION) {
        const some = same.slice(i, i + ROWS_A_QUESTION);
        const inputs = new Float32Array(some.length * width);
        for (const [row, question] of some.entries()) inputs.set(question.inputs, row * width);
        const at = some.map((question) => question.at);
        const { predictions } = await this.#predictor.predict({ model, inputs, rows: some.length, at });
        some.forEach((question, row) => {
          question.answer = predictions[row];
          if (question.answer === null) answers.refused++;
          else answers.now++;
        });
        answers.asked += some.length;
        this.#summary.predictions += some.length;
      }
  }

  async #finish(lane: Lane): Promise<void> {
    const { windowMs } = this.#request;
    const summary = this.#summary;
    summary.twins.done++;
    if (lane.isSkipped) summary.skipped++;
    else if (lane.isShortened) summary.shortened++;
    summary.answers.was += lane.answersWere;
    const margins = { windowMs, toleranceMs: lane.toleranceMs };
    const differences = compare(lane.was, lane.now, margins, summary.tally);
    if (differences.length > 0) await this.#watch.differences?.(lane.twin.twinId, differences);
    this.#tell(false);
  }

  #tell(always: boolean): void {
    const now = performance.now();
    if (!always && now - this.#toldAt < PROGRESS_EVERY_MS) return;
    this.#toldAt = now;
    this.#summary.elapsedMs = Math.round(now - this.#startedAt);
    const { twins, readings, predictions, elapsedMs } = this.#summary;
    this.#watch.progress?.({ twins: { ...twins }, readings, predictions, elapsedMs });
  }
}

/** As many lanes as have about so many entries ahead of them. */
function* batches(lanes: readonly Lane[]): Generator<Lane[]> {
  let batch: Lane[] = [];
  let entries = 0;
  for (const lane of lanes) {
    const { after, upto } = lane.segment();
    const ahead = (upto === NEWEST ? Math.max(after, lane.twin.revision) : upto) - after;
    if (batch.length > 0 && entries + ahead > ENTRIES_A_READ) {
      yield batch;
      batch = [];
      entries = 0;
    }
    batch.push(lane);
    entries += ahead;
  }
  if (batch.length > 0) yield batch;
}
