import type { Entry } from '../protocol/entry.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import type { TwinEvent } from '../protocol/event.ts';
import type { Kind } from '../protocol/kind.ts';
import { copyCut, copyEntry, copyEvent, copySnapshot, copySummary } from './memory-copy.ts';
import { above, insert, readingOf, withId } from './memory-journal.ts';
import {
  type Claim,
  CommitAborted,
  type Cut,
  type HistoryRow,
  type JournalReading,
  type NodeRow,
  type ShardDeadLetter,
  type ShardRow,
  SNAPSHOT_KEEP_EVERY,
  type Snapshot,
  type StoredTwin,
  type Summary,
} from './port.ts';
import { type AlertRow, type AnomalyRow, alertChanges, anomalies, applyAlerts } from './projection.ts';

/** What is stored of one twin. */
interface TwinLedger {
  twin: number;
  /** Of the summary: a twin without one does not exist for recovery. */
  summary: Summary | null;
  /** In order of revision. */
  journal: Entry[];
  /** By event time, backfill included. */
  history: Map<number, JournalReading[]>;
  /** Kept ones in order of revision; the last is the latest. */
  snapshots: Snapshot[];
}

interface ShardLedger {
  row: ShardRow;
  twins: Map<number, TwinLedger>;
  events: TwinEvent[];
}

/**
 * The data of the in-memory store: one synchronous step an operation. Also what a test looks into; what it hands out
 * are copies, except through `alerts`, `anomalies` and `deadLetters`, which are for reading only.
 */
export class Ledger {
  readonly alerts = new Map<string, AlertRow>();
  readonly anomalies = new Map<string, AnomalyRow>();
  readonly deadLetters: ShardDeadLetter[] = [];
  readonly #kinds = new Map<string, Kind>();
  readonly #shards: ShardLedger[] = [];
  readonly #nodes = new Map<string, { beat: number; leaving: boolean }>();
  readonly #twinIds = new Map<string, TwinLedger>();
  readonly #byKey = new Map<number, TwinLedger>();
  readonly #cursors = new Map<string, number>();

  open(kinds: readonly Kind[], shards: number): void {
    if (this.#shards.length > 0 && this.#shards.length !== shards) {
      throw new TwinmeshError(
        'wrong_shard_count',
        `The database was created with ${this.#shards.length} shards; it cannot be opened with ${shards}.`,
        { created: this.#shards.length, asked: shards },
      );
    }
    for (const kind of kinds) this.#kinds.set(kind.kind, kind);
    for (let shard = this.#shards.length; shard < shards; shard++) {
      this.#shards.push({ row: newShard(shard), twins: new Map(), events: [] });
    }
  }

  beat(node: string, leaving = false): void {
    this.#nodes.set(node, { beat: (this.#nodes.get(node)?.beat ?? 0) + 1, leaving });
  }

  nodes(): NodeRow[] {
    return [...this.#nodes].map(([node, row]) => ({ node, ...row })).sort((a, b) => (a.node < b.node ? -1 : 1));
  }

  removeNode(node: string): void {
    // the count goes on when it comes back: one that began anew could look as if it had never moved
    const row = this.#nodes.get(node);
    if (row) row.leaving = true;
  }

  shards(): ShardRow[] {
    return this.#shards.map(({ row }) => ({ ...row }));
  }

  claim(node: string, wanted: readonly Claim[]): ShardRow[] {
    const claimed: ShardRow[] = [];
    for (const { shard, owner, epoch } of wanted) {
      const row = this.#shards[shard]?.row;
      if (!row || row.owner !== owner || row.epoch !== epoch) continue;
      row.owner = node;
      row.epoch++;
      row.attempts++;
      claimed.push({ ...row });
    }
    return claimed.sort((a, b) => a.shard - b.shard);
  }

  release(node: string, given: readonly { shard: number; epoch: number }[]): void {
    for (const { shard, epoch } of given) {
      const row = this.#shards[shard]?.row;
      if (row?.owner === node && row.epoch === epoch) row.owner = null;
    }
  }

  copyOf(cut: Cut): Cut {
    return copyCut(cut, this.#kinds);
  }

  /** Takes the cut over: it must be a copy. */
  commit(cut: Cut): Set<number> {
    const landing = new Set<number>();
    for (const part of cut.shards) {
      const row = this.#shards[part.shard]?.row;
      if (row?.owner === cut.node && row.epoch === part.epoch && row.commitNo === part.commitNo)
        landing.add(part.shard);
    }
    this.#refuseTwice(cut, landing);
    for (const part of cut.shards) {
      if (!landing.has(part.shard)) continue;
      const row = this.#shards[part.shard].row;
      row.commitNo++;
      row.position = part.position;
      row.positionId = part.positionId;
      row.positionAt = part.positionAt;
      row.eventSeq = part.eventSeq;
      row.attempts = 0;
      if (part.clean) row.snapshotFloor = row.commitNo;
    }
    const lands = (of: { shard: number }) => landing.has(of.shard);
    for (const summary of cut.summaries) if (lands(summary)) this.#summarise(summary);
    for (const reading of cut.readings) if (lands(reading)) this.#read(reading);
    for (const { shard, twin, entry } of cut.entries) {
      if (landing.has(shard)) insert(this.#twin(shard, twin).journal, entry);
    }
    for (const snapshot of cut.snapshots) if (lands(snapshot)) this.#snapshot(snapshot);
    const events = cut.events.filter(lands);
    for (const event of events) this.#shards[event.shard].events.push(event);
    for (const shard of new Set(events.map((event) => event.shard))) {
      this.#shards[shard].events.sort((a, b) => a.seq - b.seq);
    }
    applyAlerts(this.alerts, alertChanges(events));
    for (const row of anomalies(events)) if (!this.anomalies.has(row.anomalyId)) this.anomalies.set(row.anomalyId, row);
    for (const letter of cut.deadLetters) if (lands(letter)) this.deadLetters.push(letter);
    for (const cursor of cut.cursors) {
      if (!lands(cursor)) continue;
      const name = `${cursor.shard} ${cursor.sink}`;
      this.#cursors.set(name, Math.max(cursor.seq, this.#cursors.get(name) ?? 0));
    }
    return landing;
  }

  highestTwin(shard: number): number {
    let highest = 0;
    for (const { twin, summary } of this.#shards[shard].twins.values()) if (summary && twin > highest) highest = twin;
    return highest;
  }

  loadTwins(shard: number, twinIds: readonly string[]): StoredTwin[] {
    const loaded: StoredTwin[] = [];
    for (const twinId of new Set(twinIds)) {
      const twin = this.#twinIds.get(twinId);
      if (twin?.summary?.shard === shard) loaded.push(this.#stored(twin));
    }
    return loaded.sort((a, b) => a.twin - b.twin);
  }

  loadTail(shard: number): StoredTwin[] {
    const { row, twins } = this.#shards[shard];
    if (row.snapshotFloor === row.commitNo) return [];
    const loaded: StoredTwin[] = [];
    for (const twin of twins.values()) {
      if (!twin.summary) continue;
      const stored = this.#stored(twin);
      if (stored.tail.length > 0) loaded.push(stored);
    }
    return loaded.sort((a, b) => a.twin - b.twin);
  }

  lookup(kindName: string, wanted: readonly { twin: number; at: number }[]): HistoryRow[] {
    const kind = this.#kinds.get(kindName);
    if (!kind) throw new TwinmeshError('unknown_kind', `There is no kind "${kindName}".`);
    const found: HistoryRow[] = [];
    const seen = new Set<string>();
    for (const { twin, at } of wanted) {
      const name = `${twin} ${at}`;
      if (seen.has(name)) continue;
      seen.add(name);
      for (const row of this.#byKey.get(twin)?.history.get(at) ?? []) {
        if (row.kind !== kindName) continue;
        const { key, seq, sensor, values } = row;
        found.push({ twin, at, key, seq, sensor, values: { ...values } });
      }
    }
    return found;
  }

  dueWakes(shards: readonly number[], nowMs: number, limit: number, skip = 0): { shard: number; twinId: string }[] {
    const due: Snapshot[] = [];
    for (const shard of new Set(shards)) {
      for (const { snapshots } of this.#shards[shard]?.twins.values() ?? []) {
        const latest = snapshots.at(-1);
        if (latest && latest.wakeAt !== null && latest.wakeAt <= nowMs) due.push(latest);
      }
    }
    due.sort((a, b) => a.wakeAt! - b.wakeAt! || a.twin - b.twin);
    return due.slice(skip, skip + limit).map(({ shard, twinId }) => ({ shard, twinId }));
  }

  journal(of: { twin: number; twinId: string }, afterRevision: number, limit: number): Entry[] {
    const twin = this.#byKey.get(of.twin);
    if (!twin) return [];
    const { journal } = twin;
    const first = above(journal, afterRevision);
    return journal.slice(first, first + limit).map((entry) => withId(copyEntry(entry), of.twinId));
  }

  events(shard: number, afterSeq: number, limit: number): TwinEvent[] {
    const all = this.#shards[shard].events;
    let first = all.length;
    while (first > 0 && all[first - 1].seq > afterSeq) first--;
    return all.slice(first, first + limit).map(copyEvent);
  }

  cursors(sink: string, shards: readonly number[]): Map<number, number> {
    const found = new Map<number, number>();
    for (const shard of shards) {
      const seq = this.#cursors.get(`${shard} ${sink}`);
      if (seq !== undefined) found.set(shard, seq);
    }
    return found;
  }

  /** Every summary, for tests. */
  summaries(): Summary[] {
    return [...this.#twinIds.values()].map((twin) => copySummary(twin.summary!));
  }

  /** Every history row of a twin in order of time, backfill included, for tests. */
  history(twinId: string): JournalReading[] {
    const rows = [...(this.#twinIds.get(twinId)?.history.values() ?? [])].flat();
    return rows.map((row) => ({ ...row })).sort((a, b) => a.at - b.at);
  }

  /** Revisions of the snapshots that are kept of a twin, for tests. */
  snapshotRevisions(twin: number): number[] {
    return this.#byKey.get(twin)?.snapshots.map(({ revision }) => revision) ?? [];
  }

  /** What a primary key refuses in PostgreSQL is refused here, before anything has changed. */
  #refuseTwice(cut: Cut, landing: ReadonlySet<number>): void {
    const revisions = new Set<string>();
    for (const { shard, twin, entry } of cut.entries) {
      if (!landing.has(shard)) continue;
      const name = `${twin} ${entry.revision}`;
      const journal = this.#shards[shard].twins.get(twin)?.journal ?? [];
      const at = above(journal, entry.revision) - 1;
      const there = journal[at];
      if (revisions.has(name) || (there?.revision === entry.revision && there.type !== 'reading')) {
        throw new CommitAborted(`Revision ${entry.revision} of twin ${twin} is journaled already.`);
      }
      revisions.add(name);
    }
    const seqs = new Set<string>();
    for (const { shard, seq } of cut.events) {
      if (!landing.has(shard)) continue;
      const name = `${shard} ${seq}`;
      if (seqs.has(name) || this.events(shard, seq - 1, 1)[0]?.seq === seq) {
        throw new CommitAborted(`Event ${seq} of shard ${shard} is there already.`);
      }
      seqs.add(name);
    }
    for (const { shard, twin, twinId } of cut.summaries) {
      const other = this.#twinIds.get(twinId);
      if (landing.has(shard) && other && other.twin !== twin) {
        throw new CommitAborted(`${twinId} has the key ${other.twin}, not ${twin}.`);
      }
    }
    for (const { kind } of cut.readings) {
      if (!this.#kinds.has(kind)) throw new CommitAborted(`The store was not opened with the kind "${kind}".`);
    }
  }

  #summarise(summary: Summary): void {
    const twin = this.#twin(summary.shard, summary.twin);
    if (twin.summary && summary.revision < twin.summary.revision) return;
    twin.summary = summary;
    this.#twinIds.set(summary.twinId, twin);
  }

  #read(row: JournalReading): void {
    const twin = this.#twin(row.shard, row.twin);
    const at = twin.history.get(row.at);
    if (at) at.push(row);
    else twin.history.set(row.at, [row]);
    if (row.revision === null) return;
    // The id is known with the summary, which may be in this cut or before it; entries get theirs on the way out.
    insert(twin.journal, {
      type: 'reading',
      revision: row.revision,
      receivedAt: row.receivedAt,
      reading: readingOf(row),
    });
  }

  #snapshot(snapshot: Snapshot): void {
    const { snapshots } = this.#twin(snapshot.shard, snapshot.twin);
    const latest = snapshots.at(-1);
    if (latest && latest.revision > snapshot.revision) return;
    if (latest) {
      const before = snapshots.at(-2)?.revision ?? 0;
      const isKept = latest.revision - before >= SNAPSHOT_KEEP_EVERY || latest.kindVersion !== snapshot.kindVersion;
      if (latest.revision === snapshot.revision || !isKept) snapshots.pop();
    }
    snapshots.push(snapshot);
  }

  #stored(twin: TwinLedger): StoredTwin {
    const { twinId, shard } = twin.summary!;
    const snapshot = twin.snapshots.at(-1);
    const tail: Entry[] = [];
    for (let i = above(twin.journal, snapshot?.revision ?? 0); i < twin.journal.length; i++) {
      const entry = twin.journal[i];
      // As the tables do it: a snapshot whose floor_at is wrong loses readings here too.
      if (entry.type === 'reading' && snapshot && entry.reading.at <= snapshot.floorAt) continue;
      tail.push(withId(copyEntry(entry), twinId));
    }
    return { twin: twin.twin, twinId, shard, snapshot: snapshot ? copySnapshot(snapshot) : null, tail };
  }

  #twin(shard: number, twin: number): TwinLedger {
    const { twins } = this.#shards[shard];
    let ledger = twins.get(twin);
    if (!ledger) {
      ledger = { twin, summary: null, journal: [], history: new Map(), snapshots: [] };
      twins.set(twin, ledger);
      this.#byKey.set(twin, ledger);
    }
    return ledger;
  }
}

function newShard(shard: number): ShardRow {
  return {
    shard,
    owner: null,
    epoch: 0,
    commitNo: 0,
    position: 0,
    positionId: null,
    positionAt: null,
    eventSeq: 0,
    snapshotFloor: 0,
    attempts: 0,
  };
}
