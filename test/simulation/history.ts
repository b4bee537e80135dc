import type { Entry } from '../../actors/protocol/entry.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { TwinEvent } from '../../actors/protocol/event.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Cut, JournalReading, Snapshot } from '../../actors/store/port.ts';
import { type OracleEvent, TwinOracle } from './oracle.ts';

/** What has committed, as one who watches the database saw it: the base of every checker. */
export interface TwinHistory {
  twinId: string;
  shard: number;
  oracle: TwinOracle;
  journal: Entry[];
  backfill: JournalReading[];
  /** Identity → where it lies. */
  identities: Map<string, JournalReading>;
  /** Idempotency key → revisions that carry it. */
  commands: Map<string, number[]>;
  /** Revision → time of its commit, simulated ms; index 0 unused. */
  committedAt: number[];
  /** Revision → what models see of the twin there; only of kinds that models are asked about. */
  seen: Seen[];
  /** Snapshots as they committed, oldest first. */
  snapshots: Snapshot[];
  /** Another version of its kind has folded a tail of it anew: what it emitted is no longer what its journal says. */
  refolded: boolean;
}

export interface Seen {
  at: number | null;
  temperature: number | undefined;
  load: number | undefined;
}

/** A promise that the committed rows themselves break. */
export type Fault = (checker: string, message: string) => void;

export class History {
  readonly twins = new Map<string, TwinHistory>();
  readonly #byKey = new Map<number, TwinHistory>();
  /** Committed events of each shard in order of seq. */
  readonly events: TwinEvent[][];
  readonly #fault: Fault;

  constructor(shards: number, fault: Fault) {
    this.events = Array.from({ length: shards }, () => []);
    this.#fault = fault;
  }

  byKey(twin: number): TwinHistory | undefined {
    return this.#byKey.get(twin);
  }

  /** Takes a cut over: whatever of it landed. */
  take(cut: Cut, landed: ReadonlySet<number>, time: number, kinds: readonly Kind[]): void {
    this.#meet(cut, landed, kinds);
    const expected = new Map<string, OracleEvent[]>();
    for (const [twin, entries] of this.#entriesOf(cut, landed)) {
      const history = this.#byKey.get(twin);
      if (!history) {
        this.#fault('p3-nothing-twice', `entries of the twin ${twin}, which has no name`);
        return;
      }
      const { oracle } = history;
      const kind = kinds.find((k) => k.kind === oracle.kind.kind)!;
      if (kind.version !== oracle.kind.version) {
        history.oracle = refold(history, kind);
        history.refolded = true;
      }
      for (const entry of entries) this.#enter(history, entry, time, expected);
    }
    for (const snapshot of cut.snapshots) {
      if (landed.has(snapshot.shard)) this.#byKey.get(snapshot.twin)?.snapshots.push(snapshot);
    }
    for (const row of cut.readings) if (landed.has(row.shard)) this.#identify(row);
    const said = new Map<string, OracleEvent[]>();
    for (const event of cut.events) {
      if (!landed.has(event.shard)) continue;
      const events = this.events[event.shard];
      if (event.seq !== events.length + 1) {
        this.#fault('sinks', `shard ${event.shard}: event ${event.seq} committed after ${events.length}`);
      }
      events.push(event);
      const at = `${event.twinId} ${event.revision}`;
      said.set(at, [...(said.get(at) ?? []), { type: event.type, about: aboutOf(event) }]);
    }
    for (const at of new Set([...expected.keys(), ...said.keys()])) {
      const is = JSON.stringify(said.get(at) ?? []);
      const should = JSON.stringify(expected.get(at) ?? []);
      if (is !== should) this.#fault('alerts', `${at} emitted ${is}, expected ${should}`);
    }
  }

  #enter(history: TwinHistory, entry: Entry, time: number, expected: Map<string, OracleEvent[]>): void {
    const { journal, oracle, twinId } = history;
    if (entry.revision <= journal.length) {
      this.#fault('p3-nothing-twice', `${twinId}: revision ${entry.revision} committed twice`);
      return;
    }
    if (entry.revision > journal.length + 1) {
      this.#fault('p2-nothing-lost', `${twinId}: revision ${entry.revision} committed after ${journal.length}`);
      return;
    }
    journal.push(entry);
    history.committedAt.push(time);
    if (entry.type === 'command') {
      const { key } = entry.command;
      history.commands.set(key, [...(history.commands.get(key) ?? []), entry.revision]);
    }
    try {
      const events = oracle.apply(entry);
      if (events.length > 0) expected.set(`${twinId} ${entry.revision}`, events);
      if (oracle.kind.predictionNames.length > 0)
        history.seen[entry.revision] = {
          at: oracle.newestAt,
          temperature: oracle.reported('temperature'),
          load: oracle.reported('load'),
        };
    } catch (error) {
      this.#fault('rolling', messageOf(error));
    }
  }

  #identify(row: JournalReading): void {
    const history = this.#byKey.get(row.twin);
    if (!history) {
      this.#fault('p3-nothing-twice', `readings of the twin ${row.twin}, which has no name`);
      return;
    }
    const identity = identityText(row.at, row);
    const known = history.identities.get(identity);
    if (known) {
      this.#fault(
        'p3-nothing-twice',
        `${history.twinId}: ${identity} stored at revision ${known.revision} and again at ${row.revision}`,
      );
    }
    history.identities.set(identity, row);
    if (row.revision !== null) return;
    history.backfill.push(row);
    const { floor } = history.oracle;
    if (floor === null || row.at > floor) {
      this.#fault(
        'rolling',
        `${history.twinId}: a reading of ${row.at} was kept out of the fold; the floor is ${floor}`,
      );
    }
  }

  /** Twins that a cut makes: their names come with their first summary. */
  #meet(cut: Cut, landed: ReadonlySet<number>, kinds: readonly Kind[]): void {
    for (const { twin, twinId, shard } of cut.summaries) {
      if (!landed.has(shard) || this.#byKey.has(twin)) continue;
      if (this.twins.has(twinId)) this.#fault('p3-nothing-twice', `${twinId} has two keys`);
      const kind = kinds.find((k) => twinId.startsWith(`${k.kind}:`))!;
      const history: TwinHistory = {
        twinId,
        shard,
        oracle: new TwinOracle(twinId, kind),
        journal: [],
        backfill: [],
        identities: new Map(),
        commands: new Map(),
        committedAt: [0],
        seen: [],
        snapshots: [],
        refolded: false,
      };
      this.twins.set(twinId, history);
      this.#byKey.set(twin, history);
    }
  }

  /** Entries of a cut that landed, by twin and in order of revision. */
  #entriesOf(cut: Cut, landed: ReadonlySet<number>): Map<number, Entry[]> {
    const byTwin = new Map<number, Entry[]>();
    const add = (twin: number, entry: Entry): void => {
      const entries = byTwin.get(twin);
      if (entries) entries.push(entry);
      else byTwin.set(twin, [entry]);
    };
    for (const row of cut.readings) {
      if (landed.has(row.shard) && row.revision !== null) add(row.twin, this.#entryOf(row));
    }
    for (const { shard, twin, entry } of cut.entries) if (landed.has(shard)) add(twin, entry);
    for (const entries of byTwin.values()) entries.sort((a, b) => a.revision - b.revision);
    return byTwin;
  }

  #entryOf(row: JournalReading): Entry {
    const twinId = this.#byKey.get(row.twin)?.twinId ?? '';
    return {
      type: 'reading',
      revision: row.revision!,
      receivedAt: row.receivedAt,
      reading: {
        kind: row.kind,
        id: twinId.slice(row.kind.length + 1),
        at: row.at,
        values: row.values,
        ...(row.key !== null ? { key: row.key } : {}),
        ...(row.seq !== null ? { seq: row.seq } : {}),
        ...(row.sensor !== null ? { sensor: row.sensor } : {}),
        ...(row.attributes !== null ? { attributes: row.attributes } : {}),
        ...(row.unit !== null ? { unit: row.unit } : {}),
      },
    };
  }
}

/** Identity of a reading as text: its own key, else time, sensor, metrics and running number. */
export function identityText(
  at: number,
  reading: { key?: string | null; seq?: number | null; sensor?: string | null; values: Record<string, number> },
): string {
  if (reading.key != null) return `key ${reading.key}`;
  return `at ${at} ${Object.keys(reading.values).sort().join('+')} seq ${reading.seq ?? '-'} of ${reading.sensor ?? '-'}`;
}

/** What tells an event from others of its type, in the oracle's words. */
export function aboutOf({ type, body }: TwinEvent): string {
  if (type === 'twin.created') return String(body.kind);
  if (type === 'anomaly.detected') return String(body.field);
  if (type === 'maintenance.predicted') return `${body.prediction} ${body.action}`;
  if (type === 'maintenance.recorded') return String(body.work);
  if (type === 'health.changed') return `${body.from}>${body.to}`;
  return type.startsWith('alert.') ? String(body.alertId) : '';
}

/** The newest snapshot that a version of the kind can start from without being the one that folded it. */
export function baseOf({ snapshots }: TwinHistory, kind: Kind): Snapshot | null {
  return snapshots.findLast(({ kindVersion }) => kindVersion < kind.version) ?? null;
}

/** What another version of the kind makes of the journal: what lies behind a snapshot stays, the rest is folded anew. */
export function refold(history: TwinHistory, kind: Kind): TwinOracle {
  const { twinId, journal, oracle } = history;
  const base = baseOf(history, kind)?.revision ?? 0;
  const anew = new TwinOracle(twinId, base > 0 ? oracle.kind : kind);
  for (let i = 0; i < base; i++) anew.apply(journal[i], true);
  anew.become(kind);
  for (let i = base; i < journal.length; i++) anew.apply(journal[i], true);
  return anew;
}

/** The oracle as it was at a revision, seen by a version of the kind; null where that cannot be told any more. */
export function oracleAt(history: TwinHistory, revision: number, kinds: readonly Kind[]): TwinOracle | null {
  const { twinId, journal, oracle } = history;
  const kind = kinds.find((k) => k.kind === oracle.kind.kind)!;
  const sameVersion = kind.version === oracle.kind.version;
  if (revision === oracle.revision) return sameVersion ? oracle : refold(history, kind);
  if (history.refolded || !sameVersion) return null;
  const earlier = new TwinOracle(twinId, oracle.kind);
  for (let i = 0; i < Math.min(revision, journal.length); i++) earlier.apply(journal[i]);
  return earlier;
}
