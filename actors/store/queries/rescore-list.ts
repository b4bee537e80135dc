import { TwinmeshError } from '../../protocol/errors.ts';
import type { Sql } from '../sql.ts';
import { Binder, decodeCursor, encodeCursor, type Page, pageOf } from './page.ts';
import { iso } from './span.ts';

/** Rescorings and their differences (migrations/5-rescores.ts). */
export interface RescoreItem {
  id: string;
  model: string;
  version: string;
  kind: string | null;
  twins: string[] | null;
  from: string;
  to: string;
  windowMs: number;
  state: 'running' | 'done' | 'failed' | 'cancelled';
  startedAt: string;
  startedBy: string | null;
  finishedAt: string | null;
  progress: Record<string, unknown>;
  summary: Record<string, unknown> | null;
  error: string | null;
}

export interface DifferenceItem {
  n: number;
  twinId: string;
  change: string;
  what: string;
  name: string;
  severity: string | null;
  wasAt: string | null;
  nowAt: string | null;
  /** The body of the event as it was, and as it would have been. */
  was: Record<string, unknown> | null;
  now: Record<string, unknown> | null;
}

interface Row {
  id: string;
  model: string;
  version: string;
  kind: string | null;
  twins: string[] | null;
  from_at: Date;
  to_at: Date;
  window_ms: number;
  state: RescoreItem['state'];
  started_at: Date;
  started_by: string | null;
  finished_at: Date | null;
  beat: Date;
  progress: Record<string, unknown>;
  summary: Record<string, unknown> | null;
  error: string | null;
}

interface DifferenceRow {
  n: number;
  twin_id: string;
  change: string;
  what: string;
  name: string;
  severity: string | null;
  was_at: Date | null;
  now_at: Date | null;
  was: Record<string, unknown> | null;
  now: Record<string, unknown> | null;
}

/** One that has told nothing for so long is not running any more: its node is gone. */
const SILENT_MS = 120_000;

export interface NewRescore {
  id: string;
  model: string;
  version: string;
  kind: string | undefined;
  twins: readonly string[] | undefined;
  from: number;
  to: number;
  windowMs: number;
  by: string | null;
  node: string;
}

export async function insertRescore(sql: Sql, rescore: NewRescore, nowMs: number): Promise<void> {
  const { id, model, version, kind, twins, from, to, windowMs, by, node } = rescore;
  const times = [new Date(from), new Date(to)];
  await sql.query(
    `insert into rescores (id, model, version, kind, twins, from_at, to_at, window_ms, started_at, started_by, node, beat)
     values ($1, $2, $3, $4, $5::text[], $6, $7, $8, $9, $10, $11, $9)`,
    [id, model, version, kind ?? null, twins ?? null, ...times, windowMs, new Date(nowMs), by, node],
  );
}

export async function progressOfRescore(sql: Sql, id: string, progress: unknown, nowMs: number): Promise<void> {
  await sql.query(`update rescores set progress = $2::jsonb, beat = $3 where id = $1 and state = 'running'`, [
    id,
    JSON.stringify(progress),
    new Date(nowMs),
  ]);
}

export async function finishRescore(
  sql: Sql,
  id: string,
  end: { state: 'done' | 'failed' | 'cancelled'; summary?: unknown; error?: string },
  nowMs: number,
): Promise<void> {
  await sql.query(
    `update rescores set state = $2, summary = $3::jsonb, error = $4, finished_at = $5, beat = $5 where id = $1 and state = 'running'`,
    [id, end.state, end.summary === undefined ? null : JSON.stringify(end.summary), end.error ?? null, new Date(nowMs)],
  );
}

/** Differences of one twin, numbered from `first` on. */
export async function insertDifferences(
  sql: Sql,
  rescore: string,
  first: number,
  twinId: string,
  differences: readonly {
    change: string;
    what: string;
    name: string;
    was: Happened | null;
    now: Happened | null;
  }[],
): Promise<void> {
  const rows = differences.map(({ change, what, name, was, now }, i) => ({
    n: first + i,
    change,
    what,
    name,
    severity: now?.severity ?? was?.severity ?? null,
    was_at: was === null ? null : iso(was.at),
    now_at: now === null ? null : iso(now.at),
    was: was?.body ?? null,
    now: now?.body ?? null,
  }));
  await sql.query(
    `insert into rescore_differences (rescore, n, twin_id, change, what, name, severity, was_at, now_at, was, now)
     select $1, d.n, $2, d.change, d.what, d.name, d.severity, d.was_at, d.now_at, d.was, d.now
     from jsonb_to_recordset($3::jsonb) as d(n bigint, change text, what text, name text, severity text,
       was_at timestamptz, now_at timestamptz, was jsonb, now jsonb)`,
    [rescore, twinId, JSON.stringify(rows)],
  );
}

interface Happened {
  at: number;
  severity: string | null;
  body: Record<string, unknown>;
}

const COLUMNS = `id, model, version, kind, twins, from_at, to_at, window_ms, state, started_at, started_by, finished_at, beat, progress, summary, error`;

/** Newest first. */
export async function listRescores(
  sql: Sql,
  { model, limit, cursor, nowMs }: { model?: string; limit: number; cursor?: string; nowMs: number },
): Promise<Page<RescoreItem>> {
  const scope = JSON.stringify(['rescores', model ?? null]);
  const b = new Binder();
  const conditions = ['true'];
  if (model !== undefined) conditions.push(`model = ${b.add(model, '::text')}`);
  if (cursor !== undefined) {
    const [at, id] = decodeCursor(cursor, scope, ['time', 'text']);
    conditions.push(`(started_at, id) < (${b.time(at as number)}, ${b.add(id, '::text')})`);
  }
  const rows = await sql.query<Row>(
    `select ${COLUMNS} from rescores where ${conditions.join(' and ')}
     order by started_at desc, id desc limit ${b.add(limit + 1, '::int')}`,
    b.values,
  );
  return pageOf(
    rows,
    limit,
    (row) => itemOf(row, nowMs),
    (row) => encodeCursor(scope, [row.started_at.getTime(), row.id]),
  );
}

/** Throws not_found. */
export async function getRescore(sql: Sql, id: string, nowMs: number): Promise<RescoreItem> {
  const [row] = await sql.query<Row>(`select ${COLUMNS} from rescores where id = $1::text`, [id]);
  if (row === undefined) throw new TwinmeshError('not_found', `There is no rescoring ${id}.`);
  return itemOf(row, nowMs);
}

export async function listDifferences(
  sql: Sql,
  rescore: string,
  { limit, cursor }: { limit: number; cursor?: string },
): Promise<Page<DifferenceItem>> {
  const scope = JSON.stringify(['rescore differences', rescore]);
  const [after] = cursor === undefined ? [-1] : decodeCursor(cursor, scope, ['integer']);
  const rows = await sql.query<DifferenceRow>(
    `select n, twin_id, change, what, name, severity, was_at, now_at, was, now from rescore_differences
     where rescore = $1::text and n > $2::int8 order by n limit $3`,
    [rescore, after, limit + 1],
  );
  return pageOf(
    rows,
    limit,
    (row) => ({
      n: row.n,
      twinId: row.twin_id,
      change: row.change,
      what: row.what,
      name: row.name,
      severity: row.severity,
      wasAt: row.was_at?.toISOString() ?? null,
      nowAt: row.now_at?.toISOString() ?? null,
      was: row.was,
      now: row.now,
    }),
    (row) => encodeCursor(scope, [row.n]),
  );
}

function itemOf(row: Row, nowMs: number): RescoreItem {
  const isLost = row.state === 'running' && nowMs - row.beat.getTime() > SILENT_MS;
  return {
    id: row.id,
    model: row.model,
    version: row.version,
    kind: row.kind,
    twins: row.twins,
    from: row.from_at.toISOString(),
    to: row.to_at.toISOString(),
    windowMs: row.window_ms,
    state: isLost ? 'failed' : row.state,
    startedAt: row.started_at.toISOString(),
    startedBy: row.started_by,
    finishedAt: row.finished_at?.toISOString() ?? null,
    progress: row.progress,
    summary: row.summary,
    error: isLost ? 'The node that ran it has told nothing for two minutes.' : row.error,
  };
}
