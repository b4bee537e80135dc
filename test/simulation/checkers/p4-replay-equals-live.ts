import type { Kind } from '../../../actors/protocol/kind.ts';
import { CARRIED } from '../../../actors/runtime/host.ts';
import { decodeSnapshot, encodeSnapshot } from '../../../actors/runtime/snapshot.ts';
import type { TwinState } from '../../../actors/runtime/state.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';
import type { Cut, Snapshot } from '../../../actors/store/port.ts';
import type { Checker } from '../checker.ts';
import type { Cluster, Node } from '../cluster.ts';
import { baseOf, type TwinHistory } from '../history.ts';
import { KINDS, NEXT_KINDS } from '../kind.ts';

const ALL_KINDS = [...KINDS, ...NEXT_KINDS];

/**
 * P4: a twin is a pure fold over its journal. Every snapshot and, at rest, every twin in memory is compared bit for bit
 * with a fold of the stored journal from its first entry on.
 */
export class ReplayEqualsLive implements Checker {
  readonly name = 'p4-replay-equals-live';
  readonly #cluster: Cluster;
  /** Replays as far as they have come; each goes on where it stopped. */
  readonly #replays = new Map<TwinHistory, TwinState>();
  /** Version of the kind that folded a twin last. */
  readonly #versions = new Map<TwinHistory, number>();
  /** Twins that said that their tail was folded by another version. */
  readonly #said = new Set<string>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  onLog(_: Node, message: string, { twinId }: { [name: string]: unknown }): void {
    if (message === CARRIED) this.#said.add(String(twinId));
  }

  onCommitted(cut: Cut, landed: ReadonlySet<number>): void {
    this.#expectWord(cut, landed);
    for (const snapshot of cut.snapshots) if (landed.has(snapshot.shard)) this.#compare(snapshot);
  }

  atRest(): void {
    for (const { host, name, kinds } of this.#cluster.nodes.values()) {
      for (const shard of host.custody.shards.values()) {
        for (const { twinId, state, counts, revision, part } of shard.twins.values()) {
          const history = this.#cluster.history.twins.get(twinId);
          if (!history || part !== null) continue;
          if (revision !== history.journal.length) {
            this.#fail(`${twinId} is at ${revision} in ${name}, its journal at ${history.journal.length}`);
            return;
          }
          const live = encodeSnapshot(state, counts);
          const kind = kinds.find((k) => k.kind === state.kind.kind)!;
          const replayed = encodeSnapshot(this.#replay(history, revision, kind), counts);
          if (!live.every((byte, i) => byte === replayed[i]) || live.length !== replayed.length) {
            this.#fail(`${twinId} at ${revision} in ${name} is not what its journal folds to`);
            return;
          }
        }
      }
    }
  }

  /** A twin whose tail was folded anew by another version of its kind has to say so. */
  #expectWord(cut: Cut, landed: ReadonlySet<number>): void {
    for (const rows of [cut.readings, cut.entries]) {
      for (const { shard, twin } of rows) {
        const history = this.#cluster.history.byKey(twin);
        if (!landed.has(shard) || !history) continue;
        const { version } = history.oracle.kind;
        const before = this.#versions.get(history) ?? version;
        this.#versions.set(history, version);
        if (version === before) continue;
        const base = baseOf(history, history.oracle.kind);
        const added = [...cut.readings, ...cut.entries].filter((row) => row.twin === twin && !isBackfill(row)).length;
        const tail = base ? history.journal.length - added - base.revision : 0;
        if (tail > 0 && !this.#said.has(history.twinId)) {
          this.#fail(
            `${history.twinId}: version ${version} of the kind folded ${tail} entries anew and does not say so`,
          );
        }
      }
    }
  }

  #compare({ twinId, revision, shape, kindVersion, state }: Snapshot): void {
    const history = this.#cluster.history.twins.get(twinId);
    if (!history || revision > history.journal.length) {
      this.#fail(`${twinId} has a snapshot at ${revision}, its journal ends at ${history?.journal.length ?? 0}`);
      return;
    }
    const kind = ALL_KINDS.find((k) => k.kind === history.oracle.kind.kind && k.version === kindVersion)!;
    const replayed = this.#replay(history, revision, kind);
    const { counts } = decodeSnapshot(kind, twinId, shape, kindVersion, state);
    const bytes = encodeSnapshot(replayed, counts);
    if (bytes.length !== state.length || !bytes.every((byte, i) => byte === state[i])) {
      this.#fail(`the snapshot of ${twinId} at ${revision} is not what its journal folds to`);
    }
  }

  /** From the first entry on, or from the newest snapshot that an older version of the kind left. */
  #replay(history: TwinHistory, revision: number, kind: Kind): TwinState {
    let state = this.#replays.get(history);
    if (!state || state.n[0] > revision || state.kind !== kind) {
      const base = baseOf(history, kind);
      state = base
        ? decodeSnapshot(kind, base.twinId, base.shape, base.kindVersion, base.state).state
        : newState(kind, history.twinId);
      this.#replays.set(history, state);
    }
    for (let r = state.n[0]; r < revision; r++) fold(state, this.#stored(history, r), []);
    return state;
  }

  /** The entry as the store gives it back, not as the host had it. */
  #stored(history: TwinHistory, index: number) {
    return structuredClone(history.journal[index]);
  }

  #fail(message: string): void {
    this.#cluster.trace.fail(this.name, message);
  }
}

function isBackfill(row: object): boolean {
  return 'revision' in row && row.revision === null;
}
