import type { Entry } from '../../actors/protocol/entry.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { TwinEvent } from '../../actors/protocol/event.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import { aboutOf } from '../simulation/history.ts';
import { difference, type OracleEvent, TwinOracle } from '../simulation/oracle.ts';
import type { Audit } from './audit.ts';
import counter from './kinds/counter.ts';
import type { Asset } from './ledger.ts';

/** A row of `counter_readings`, as plain SQL gives it. */
export interface ReadingRow {
  revision: number | null;
  at: number;
  receivedAt: number;
  seq: number;
  n: number | null;
  load: number | null;
  temperature: number | null;
  mark: number | null;
}

export interface SnapshotRow {
  revision: number;
  shape: number;
  kindVersion: number;
  state: Uint8Array;
}

/** Everything that the database has of one twin, read with plain SQL and no code of the product. */
export interface TwinFacts {
  asset: Asset;
  /** Null: the database does not know it. */
  twin: { revision: number } | null;
  rows: ReadingRow[];
  /** In order of revision, whatever revisions there are. */
  journal: Entry[];
  events: Pick<TwinEvent, 'type' | 'body' | 'revision' | 'seq'>[];
  /** Newest. */
  snapshot: SnapshotRow | null;
  /** Views that people were shown, during the run and at its end. */
  views: TwinView[];
  /** Numbers of readings that lie in the dead letters as poison. */
  poison: Set<number>;
  oracle: OracleRun;
}

/** What the plain oracle makes of a journal. */
export interface OracleRun {
  oracle: TwinOracle;
  /** What it says about an entry that cannot be. */
  fault: string | null;
  /** Events of each revision that has some. */
  events: Map<number, OracleEvent[]>;
  /** Where a view is another than the oracle at its revision. */
  wrongViews: string[];
}

const READINGS = `select revision, (extract(epoch from at) * 1000)::float8 as at,
  (extract(epoch from received_at) * 1000)::float8 as "receivedAt", seq::int as seq, n, load, temperature, mark
  from counter_readings where twin = $1`;
const ENTRIES = `select revision::int as revision, type, (extract(epoch from received_at) * 1000)::float8 as "receivedAt", body
  from entries where twin = $1`;
const EVENTS = `select seq::int as seq, revision::int as revision, type, body from events where twin = $1 order by seq`;
const SNAPSHOT = `select revision::int as revision, shape, kind_version as "kindVersion", state from twin_snapshots
  where twin = $1 and latest order by revision desc limit 1`;
const POISON = `select payload from dead_letters where twin_id = $1 and code = 'poison'`;

export async function readTwin(audit: Audit, asset: Asset, views: TwinView[]): Promise<TwinFacts> {
  const [twin] = await audit.query<{ twin: string; revision: number }>(
    'select twin::text as twin, revision::int as revision from twins where twin_id = $1',
    [asset.twinId],
  );
  if (!twin) return { ...nothing(asset, views), twin: null };
  const key = [twin.twin];
  const rows = (await audit.query<ReadingRow & { revision: string | null }>(READINGS, key)).map((row) => ({
    ...row,
    revision: row.revision === null ? null : Number(row.revision),
    at: Math.round(row.at),
    receivedAt: Math.round(row.receivedAt),
  }));
  const others = await audit.query<{ revision: number; type: string; receivedAt: number; body: object }>(ENTRIES, key);
  const events = await audit.query<TwinFacts['events'][number]>(EVENTS, key);
  const [snapshot] = await audit.query<SnapshotRow>(SNAPSHOT, key);
  const dead = await audit.query<{ payload: string }>(POISON, [asset.twinId]);
  const journal = journalOf(asset, rows, others);
  return {
    asset,
    twin: { revision: twin.revision },
    rows,
    journal,
    events,
    snapshot: snapshot ?? null,
    views,
    poison: new Set(dead.map(({ payload }) => Number(/"seq":\s*(\d+)/.exec(payload)?.[1] ?? -1))),
    oracle: runOracle(asset, journal, views),
  };
}

function nothing(asset: Asset, views: TwinView[]): Omit<TwinFacts, 'twin'> {
  const oracle = runOracle(asset, [], []);
  return { asset, rows: [], journal: [], events: [], snapshot: null, views, poison: new Set(), oracle };
}

function journalOf(
  asset: Asset,
  rows: readonly ReadingRow[],
  others: readonly { revision: number; type: string; receivedAt: number; body: object }[],
): Entry[] {
  const journal: Entry[] = [];
  for (const { revision, at, receivedAt, seq, n, load, temperature, mark } of rows) {
    if (revision === null) continue;
    const values: Record<string, number> = {};
    // In the order of the kind's metrics, as the fold has them.
    for (const [name, value] of Object.entries({ n, load, temperature, mark }))
      if (value !== null) values[name] = value;
    journal.push({
      type: 'reading',
      revision,
      receivedAt,
      reading: { kind: 'counter', id: asset.id, at, values, seq },
    });
  }
  for (const { revision, type, receivedAt, body } of others) {
    journal.push({ type, revision, receivedAt: Math.round(receivedAt), ...body } as Entry);
  }
  return journal.sort((a, b) => a.revision - b.revision);
}

function runOracle(asset: Asset, journal: readonly Entry[], views: readonly TwinView[]): OracleRun {
  const oracle = new TwinOracle(asset.twinId, counter);
  const run: OracleRun = { oracle, fault: null, events: new Map(), wrongViews: [] };
  const byRevision = Map.groupBy(views, (view) => view.revision);
  try {
    for (const entry of journal) {
      const events = oracle.apply(entry);
      if (events.length > 0) run.events.set(entry.revision, events);
      for (const view of byRevision.get(entry.revision) ?? []) {
        const wrong = difference(view, oracle.expected());
        if (wrong !== null) run.wrongViews.push(`at ${view.revision}: ${wrong}`);
      }
    }
  } catch (error) {
    run.fault = messageOf(error);
  }
  return run;
}

/** Events as the oracle says them. */
export function saidEvents(events: TwinFacts['events']): Map<number, OracleEvent[]> {
  const said = new Map<number, OracleEvent[]>();
  for (const event of events) {
    const list = said.get(event.revision) ?? [];
    list.push({ type: event.type, about: aboutOf(event as TwinEvent) });
    said.set(event.revision, list);
  }
  return said;
}
