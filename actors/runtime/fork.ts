import type { Command, Entry } from '../protocol/entry.ts';
import type { Emitted } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import type { TwinId } from '../protocol/twin-id.ts';
import { H, R, RULE_RAISED } from './layout.ts';
import { alertIdOf, rulesFor } from './rules.ts';
import { decodeSnapshot, encodeSnapshot, SNAPSHOT_SHAPE } from './snapshot.ts';
import { newState, type TwinState } from './state.ts';
import { fold } from './turn.ts';

/**
 * A twin that is folded aside: the same state, the same turn, and nothing that anybody else sees. Time travel follows the journal
 * with it, what-if and rescoring leave the journal.
 *
 * Owns a state of its own. Does not own where entries come from, nor when models are asked.
 *
 * Invariants:
 *  1  It shares nothing with the twin: it begins with the bytes of a snapshot, or with nothing.
 *  2  What follows the journal to its end is the twin, bit for bit: `follow` folds entries as they are.
 *  3  `add` gives an entry the next revision of the fork. From the first on that is not in the journal, revisions of fork and
 *     twin mean different entries, and so do the ids of alerts.
 *  4  Time passes for it only in its entries; `elapse` writes the ticks that its host would have written.
 */
export class Fork {
  readonly state: TwinState;
  readonly #out: Emitted[] = [];

  private constructor(state: TwinState) {
    this.state = state;
  }

  /** Before its first entry. */
  static fresh(kind: Kind, twinId: TwinId): Fork {
    return new Fork(newState(kind, twinId));
  }

  /** Throws newer_snapshot. */
  static from(kind: Kind, twinId: TwinId, snapshot: { shape: number; kindVersion: number; state: Uint8Array }): Fork {
    const { shape, kindVersion, state } = snapshot;
    return new Fork(decodeSnapshot(kind, twinId, shape, kindVersion, state).state);
  }

  /** A fork of the fork: through the same bytes as any other. */
  copy(): Fork {
    const { kind, twinId } = this.state;
    return new Fork(decodeSnapshot(kind, twinId, SNAPSHOT_SHAPE, kind.version, this.bytes()).state);
  }

  /** Its state as a snapshot holds it; what a host counts beside the state is no part of it. */
  bytes(): Uint8Array {
    return encodeSnapshot(this.state, NO_COUNTS);
  }

  get revision(): number {
    return this.state.n[H.REVISION];
  }

  /** Event time of its newest reading, ms; 0 before the first. */
  get at(): number {
    return this.state.n[H.AT];
  }

  /** Folds the next entry of the journal; answers what it has to say, which is valid until the next call. Throws on a hole. */
  follow(entry: Entry): readonly Emitted[] {
    this.#out.length = 0;
    fold(this.state, entry, this.#out);
    return this.#out;
  }

  /** Folds an entry as its next, whatever revision it had. */
  add(entry: Entry): readonly Emitted[] {
    return this.follow({ ...entry, revision: this.revision + 1 });
  }

  /** A command of the journal, about the alert of the same rule here: its id names another revision. */
  addCommand(entry: Extract<Entry, { type: 'command' }>): readonly Emitted[] {
    return this.add({ ...entry, command: this.#translated(entry.command) });
  }

  /** Folds the ticks that are due before `receivedAt`, each when it is due: what arrives at that moment comes first. `told` gets what they say. */
  elapse(receivedAt: number, told: (emitted: readonly Emitted[]) => void = () => undefined): void {
    for (let wake = this.state.n[H.WAKE]; wake !== 0 && wake < receivedAt; wake = this.state.n[H.WAKE]) {
      told(this.follow({ type: 'tick', revision: this.revision + 1, receivedAt: wake }));
      // a wake that its own tick does not move would be due for ever
      if (this.state.n[H.WAKE] === wake) return;
    }
  }

  #translated(command: Command): Command {
    if (command.name !== 'acknowledge' && command.name !== 'resolve' && command.name !== 'silence') return command;
    const [, name] = command.alert.split('~');
    const rule = rulesFor(this.state).all.find((rule) => rule.name === name);
    if (rule === undefined || this.state.n[rule.offset + R.STATE] !== RULE_RAISED) return command;
    return { ...command, alert: alertIdOf(this.state, rule) };
  }
}

const NO_COUNTS = { duplicates: 0, backfilled: 0 };
