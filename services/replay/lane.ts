import type { Entry } from '../../actors/protocol/entry.ts';
import type { Emitted } from '../../actors/protocol/event.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Prediction } from '../../actors/protocol/prediction.ts';
import { featureReader } from '../../actors/runtime/features.ts';
import { isDueSince } from '../../actors/runtime/foretelling.ts';
import { Fork } from '../../actors/runtime/fork.ts';
import { H, layoutOf, P, type PredictionPlan } from '../../actors/runtime/layout.ts';
import type { Segment } from '../../actors/store/queries/journal-segments.ts';
import type { StoredSnapshot } from '../../actors/store/queries/journal-snapshots.ts';
import type { RescoredTwin } from '../../actors/store/queries/journal-twins.ts';
import { type Happening, happeningOf } from './comparison.ts';
import { segmentOf } from './time-travel.ts';

/** A question that the other version is asked: which state it is about, and where the answer is folded. */
export interface Question {
  plan: PredictionPlan;
  /** Behind this entry of the stretch. */
  behind: number;
  inputs: Float32Array;
  at: number;
  answer: Prediction | null;
}

/**
 * One twin in a rescoring, a stretch of its journal after the other, in two passes: the first folds the journal as it is and
 * finds out when the other version is due and with what; the second folds what would have been, with the answers.
 *
 * Invariants:
 *  1  Until `from` there is one course; there it forks.
 *  2  When a model is due is asked of the live code, with the moments at which this version was asked. What it is asked is read from
 *     the journal as it is: features come from readings, and readings are the same on both courses.
 */
export class Lane {
  readonly twin: RescoredTwin;
  readonly was: Happening[] = [];
  readonly now: Happening[] = [];
  answersWere = 0;
  isDone = false;
  isSkipped = false;
  isShortened = false;
  /** The first snapshot above what has been folded. */
  above: StoredSnapshot | null = null;
  readonly #kind: Kind;
  readonly #span: { from: number; to: number };
  readonly #plans: readonly PredictionPlan[];
  readonly #names: ReadonlySet<string>;
  #before: StoredSnapshot | null;
  #journal: Fork;
  /** From `from` on. */
  #other: Fork | null = null;
  /** Event time of the states that this version was last asked about, by plan. */
  readonly #asked: number[] = [];
  /** Of the stretch: from where on it counts, and the questions in it. */
  #entries: readonly Entry[] = [];
  #begin = 0;
  #end = 0;
  #questions: Question[] = [];

  constructor(kind: Kind, twin: RescoredTwin, { model, from, to }: { model: string; from: number; to: number }) {
    this.#kind = kind;
    this.twin = twin;
    this.#span = { from, to };
    this.#plans = layoutOf(kind).predictions.filter(({ use }) => use.model === model);
    this.#names = new Set(this.#plans.map(({ name }) => name));
    this.#before = twin.before;
    this.#journal = this.#opened();
  }

  get revision(): number {
    return this.#journal.revision;
  }

  /** A moment sooner or later says nothing: models are asked every so often. */
  get toleranceMs(): number {
    return Math.max(...this.#plans.map(({ use }) => use.everyMs));
  }

  segment(): Segment {
    const { twin, twinId } = this.twin;
    return segmentOf(
      this.#kind,
      { twin, twinId, id: twinId.slice(this.#kind.kind.length + 1) },
      this.#before,
      this.above,
    );
  }

  /** The journal of the stretch has a hole: it is taken up again behind it, where it has not begun to count. */
  skip(): void {
    this.#entries = [];
    this.#begin = this.#end = 0;
    this.#questions = [];
    if (this.above === null || this.#other !== null) {
      this.isDone = this.isSkipped = true;
      return;
    }
    this.isShortened = true;
    this.#before = this.above;
    this.#journal = this.#opened();
    if (this.above.receivedAt > this.#span.to) this.isDone = this.isSkipped = true;
  }

  /** Answers how many readings of the stretch count. */
  first(entries: readonly Entry[], questions: Question[]): number {
    this.#entries = entries;
    this.#questions = [];
    this.#begin = entries.length;
    this.#end = entries.length;
    let readings = 0;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i];
      if (entry.receivedAt > this.#span.to) {
        this.#end = i;
        this.isDone = true;
        break;
      }
      if (this.#other === null && entry.receivedAt >= this.#span.from) this.#fork();
      const emitted = this.#journal.follow(entry);
      if (this.#other === null) continue;
      if (this.#begin > i) this.#begin = i;
      note(emitted, this.was);
      if (this.#isReplaced(entry)) this.answersWere++;
      if (entry.type !== 'reading') continue;
      readings++;
      for (let p = 0; p < this.#plans.length; p++) {
        if (isDueSince(this.#journal.state, this.#plans[p], this.#asked[p])) this.#question(p, i);
      }
    }
    if (this.above === null) this.isDone = true;
    for (const question of this.#questions) questions.push(question);
    return readings;
  }

  second(): void {
    const other = this.#other;
    if (other !== null) {
      let q = 0;
      for (let i = this.#begin; i < this.#end; i++) {
        const entry = this.#entries[i];
        // ticks that the journal has not, because nothing waited there: holds of alerts that are new
        if (entry.type !== 'tick') other.elapse(entry.receivedAt, (emitted) => note(emitted, this.now));
        if (!this.#isReplaced(entry)) note(addTo(other, entry), this.now);
        for (; q < this.#questions.length && this.#questions[q].behind === i; q++)
          this.#answer(other, this.#questions[q], entry.receivedAt);
      }
    }
    this.#entries = [];
    this.#questions = [];
    this.#before = this.above;
  }

  #opened(): Fork {
    const { twinId } = this.twin;
    return this.#before === null ? Fork.fresh(this.#kind, twinId) : Fork.from(this.#kind, twinId, this.#before);
  }

  #isReplaced(entry: Entry): boolean {
    return entry.type === 'prediction' && this.#names.has(entry.name);
  }

  #fork(): void {
    this.#other = this.#journal.copy();
    const { n } = this.#journal.state;
    for (const { offset } of this.#plans)
      this.#asked.push(n[offset + P.COUNT] === 0 ? Number.NEGATIVE_INFINITY : n[offset + P.AT]);
  }

  #question(p: number, behind: number): void {
    const { state } = this.#journal;
    const plan = this.#plans[p];
    const reader = featureReader(this.#kind, plan.use.inputs);
    const inputs = new Float32Array(reader.width);
    reader.read(state, inputs, 0);
    const at = state.n[H.AT];
    this.#asked[p] = at;
    this.#questions.push({ plan, behind, inputs, at, answer: null });
  }

  #answer(other: Fork, { plan, answer }: Question, receivedAt: number): void {
    if (answer === null) return;
    const { name } = plan;
    const prediction = { ...answer };
    const emitted = other.add({
      type: 'prediction',
      revision: 0,
      receivedAt,
      name,
      basedOn: other.revision,
      prediction,
    });
    note(emitted, this.now);
  }
}

function addTo(fork: Fork, entry: Entry): readonly Emitted[] {
  return entry.type === 'command' ? fork.addCommand(entry) : fork.add(entry);
}

function note(emitted: readonly Emitted[], into: Happening[]): void {
  for (let i = 0; i < emitted.length; i++) {
    const happening = happeningOf(emitted[i]);
    if (happening !== null) into.push(happening);
  }
}
