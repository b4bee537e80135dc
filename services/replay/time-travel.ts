import type { Entry } from '../../actors/protocol/entry.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { TwinId } from '../../actors/protocol/twin-id.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import { Fork } from '../../actors/runtime/fork.ts';
import { H } from '../../actors/runtime/layout.ts';
import { viewOf } from '../../actors/runtime/view.ts';
import { NEWEST, readSegments, type Segment } from '../../actors/store/queries/journal-segments.ts';
import {
  entriesBetween,
  type SnapshotPlace,
  type StoredSnapshot,
  snapshotAbove,
  snapshotBefore,
  snapshotPlaces,
} from '../../actors/store/queries/journal-snapshots.ts';
import { findTwin, type TwinKey } from '../../actors/store/queries/twin-key.ts';
import type { Sql } from '../../actors/store/sql.ts';

/**
 * The twin as it was: what it had folded by then, by received time. From the newest snapshot taken by then and the history
 * behind it, by the one fold that live uses; any node can do it, because it only reads what is committed.
 *
 * Invariants:
 *  1  The state is that of the last entry received by then, bit for bit, where the kind's version that folded it is the one
 *     that is here; where it is not, the answer says so.
 *  2  Backfill has no revision and is no part of it.
 *  3  A hole in the history is never folded over: it throws `history_gone`.
 */
export interface Kinds {
  get(kind: string): Kind;
}

/** Where the past is read. */
export interface Journal {
  /** Throws bad_id, not_found. */
  find(twinId: TwinId): Promise<TwinKey>;
  /** The newest snapshot taken by this time. */
  before(twin: number, at: number): Promise<StoredSnapshot | null>;
  /** The first snapshot above a revision. */
  above(twin: number, revision: number): Promise<StoredSnapshot | null>;
  /** What is there of a stretch, in order of revision. */
  read(kind: Kind, segment: Segment): Promise<Entry[]>;
  /** How many entries of a stretch are there. */
  count(kind: Kind, twin: number, stretch: Pick<Segment, 'after' | 'upto' | 'floorAt'>): Promise<number>;
  places(twin: number): Promise<SnapshotPlace[]>;
}

export function journalOf(sql: Sql): Journal {
  return {
    find: (twinId) => findTwin(sql, twinId),
    before: (twin, at) => snapshotBefore(sql, twin, at),
    above: (twin, revision) => snapshotAbove(sql, twin, revision),
    read: async (kind, segment) => (await readSegments(sql, kind, [segment]))[0],
    count: (kind, twin, stretch) => entriesBetween(sql, kind, twin, stretch),
    places: (twin) => snapshotPlaces(sql, twin),
  };
}

/** A fork at a moment of its twin, and how it came there. */
export interface Past {
  fork: Fork;
  key: TwinKey;
  /** When its newest entry was received, ms; null where that lies in the snapshot. */
  receivedAt: number | null;
  /** Revision of the snapshot it began with, 0 for none, and entries folded since. */
  snapshot: number;
  folded: number;
  /** Version of the kind that the stored twin was folded with there, and the one that has folded it now. */
  version: { was: number; now: number };
}

/** What `?at=` answers: a view, and of when it is. Duplicates and backfill leave no entry: how many there were then is not known. */
export type PastView = Omit<TwinView, 'ingest'> & {
  ingest: Omit<TwinView['ingest'], 'duplicate' | 'backfill'>;
  asOf: {
    at: string;
    revision: number;
    snapshot: number;
    folded: number;
    kindVersion: { was: number; now: number; note?: string };
  };
};

/** Throws bad_id, unknown_kind, not_found (with when it begins), history_gone (with from when on it is there), newer_snapshot. */
export async function viewAt(journal: Journal, kinds: Kinds, twinId: TwinId, at: number): Promise<PastView> {
  const past = await pastOf(journal, kinds, twinId, at);
  const { was, now } = past.version;
  const view = viewOf(past.fork.state, { duplicates: 0, backfilled: 0 }, null);
  const { accepted, late, lagMs } = view.ingest;
  return {
    ...view,
    ingest: { accepted, late, lagMs },
    asOf: {
      at: new Date(at).toISOString(),
      revision: past.fork.revision,
      snapshot: past.snapshot,
      folded: past.folded,
      kindVersion: was === now ? { was, now } : { was, now, note: noteOf(was, now) },
    },
  };
}

function noteOf(was: number, now: number): string {
  return `Version ${was} of the kind folded it then; this is what version ${now} makes of the same entries.`;
}

/** `at` Infinity: as it is now, as far as it is committed. Throws as `viewAt`. */
export async function pastOf(journal: Journal, kinds: Kinds, twinId: TwinId, at: number): Promise<Past> {
  const key = await journal.find(twinId);
  const kind = kinds.get(key.kind);
  const before = await journal.before(key.twin, Math.min(at, LAST_MS));
  const above = await journal.above(key.twin, before?.revision ?? 0);
  const fork = before === null ? Fork.fresh(kind, twinId) : Fork.from(kind, twinId, before);
  const segment = segmentOf(kind, key, before, above);
  const entries = await journal.read(kind, segment);
  const end = lastBy(entries, at);
  const first = begins(kind, key, entries, before, above);
  if (first !== null && at < first) throw notYet(twinId, first);
  if (hasHole(entries, segment)) throw await gone(journal, kind, key, at);
  if (before === null && end === 0) throw notYet(twinId, entries[0]?.receivedAt ?? null);
  for (let i = 0; i < end; i++) fork.follow(entries[i]);
  return {
    fork,
    key,
    receivedAt: end > 0 ? entries[end - 1].receivedAt : null,
    snapshot: before?.revision ?? 0,
    folded: end,
    version: { was: versionOf(kind, before, above, end), now: kind.version },
  };
}

/** Times of the database end there. */
const LAST_MS = Date.UTC(2200, 0, 1);

/** The stretch between two snapshots; either may be missing. */
export function segmentOf(
  kind: Kind,
  key: Pick<TwinKey, 'twin' | 'id' | 'twinId'>,
  before: StoredSnapshot | null,
  above: StoredSnapshot | null,
): Segment {
  return {
    twin: key.twin,
    id: key.id,
    after: before?.revision ?? 0,
    upto: above?.revision ?? NEWEST,
    floorAt: before?.floorAt ?? Number.NEGATIVE_INFINITY,
    newestAt: above === null ? Number.POSITIVE_INFINITY : newestOf(kind, key.twinId, above),
  };
}

/** Event time of the newest reading that a snapshot covers: all its readings lie at or before it. */
function newestOf(kind: Kind, twinId: TwinId, snapshot: StoredSnapshot): number {
  return Fork.from(kind, twinId, snapshot).at;
}

/** How many entries lead up to the last one received by `at`. */
function lastBy(entries: readonly Entry[], at: number): number {
  for (let i = entries.length; i > 0; i--) if (entries[i - 1].receivedAt <= at) return i;
  return 0;
}

/** The journal begins with revision 1: when, ms; null where the snapshots and entries at hand do not say. */
function begins(
  kind: Kind,
  key: TwinKey,
  entries: readonly Entry[],
  before: StoredSnapshot | null,
  above: StoredSnapshot | null,
): number | null {
  if (before !== null) return null;
  if (entries[0]?.revision === 1) return entries[0].receivedAt;
  return above === null ? null : Fork.from(kind, key.twinId, above).state.n[H.CREATED];
}

export function hasHole(entries: readonly Entry[], segment: Segment): boolean {
  for (let i = 0; i < entries.length; i++) if (entries[i].revision !== segment.after + 1 + i) return true;
  return segment.upto !== NEWEST && entries.length !== segment.upto - segment.after;
}

/** Whose fold the stored twin went through: that of the next snapshot, unless it stands at the one before. */
function versionOf(kind: Kind, before: StoredSnapshot | null, above: StoredSnapshot | null, folded: number): number {
  if (before !== null && folded === 0) return before.kindVersion;
  return above?.kindVersion ?? kind.version;
}

function notYet(twinId: TwinId, first: number | null): TwinmeshError {
  const begins = first === null ? null : new Date(first).toISOString();
  const message = begins === null ? `There is no entry of ${twinId} yet.` : `${twinId} begins at ${begins}.`;
  return new TwinmeshError('not_found', message, begins === null ? undefined : { begins });
}

/** Retention has dropped what would have to be folded. */
async function gone(journal: Journal, kind: Kind, key: TwinKey, at: number): Promise<TwinmeshError> {
  const from = await earliest(journal, kind, key);
  const since = from === null ? null : new Date(from).toISOString();
  const when = Number.isFinite(at) ? ` at ${new Date(at).toISOString()}` : '';
  const possible = since === null ? 'No moment of it can be replayed.' : `It is possible from ${since} on.`;
  return new TwinmeshError(
    'history_gone',
    `The history that leads to ${key.twinId}${when} has been dropped. ${possible}`,
    since === null ? undefined : { from: since },
  );
}

/**
 * From when on the twin can be replayed: the first snapshot behind which nothing is missing. Retention drops the oldest
 * first, so that it is found by halving.
 */
async function earliest(journal: Journal, kind: Kind, key: TwinKey): Promise<number | null> {
  const places = await journal.places(key.twin);
  if (places.length === 0) return null;
  const isWhole = async (place: SnapshotPlace, next: SnapshotPlace): Promise<boolean> => {
    const stretch = { after: place.revision, upto: next.revision, floorAt: place.floorAt };
    return (await journal.count(kind, key.twin, stretch)) === next.revision - place.revision;
  };
  let low = 0;
  let high = places.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (await isWhole(places[middle], places[middle + 1])) high = middle;
    else low = middle + 1;
  }
  return places[low].receivedAt;
}
