import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { type Sql, SqlError } from '../../actors/store/sql.ts';
import type { ModelCard } from '../../models/card.ts';
import type { Wanted } from '../../models/registry.ts';
import { compareVersions } from '../../models/version.ts';

/**
 * The register of models: the table `models`, which says what version of a name is live, which is its shadow, and which one
 * it replaced.
 *
 *  1  At most one version of a name is live and one its shadow: the database sees to it, whoever changes what at once.
 *  2  A version is registered once, with its hash, and never changes.
 *  3  Rollbacks undo promotions, the last one first: each goes one further back, through up to KEPT of them, and then there is none
 *     left. A version that was live twice is come upon twice.
 *  4  A change is of what was looked at: where another version has gone live meanwhile, as during a trial, it is `conflict` and
 *     changes nothing.
 */
export type ModelStatus = 'candidate' | 'shadow' | 'live' | 'retired';

export interface RegisteredModel {
  name: string;
  version: string;
  type: string;
  kind: string;
  status: ModelStatus;
  sha256: string;
  source: string;
  registeredAt: Date;
  promotedAt: Date | null;
  promotedBy: string | null;
  replaced: string | null;
  reason: string | null;
  metrics: unknown;
}

export type RegisteredVersion = Pick<RegisteredModel, 'name' | 'version' | 'sha256'>;

/** Looks at a version before it is to answer or to run beside; what it throws leaves the register as it is. */
export type Tried = (version: RegisteredVersion) => Promise<void>;
const untried: Tried = async () => {};

const COLUMNS = `name, version, type, kind, status, sha256, source, registered_at as "registeredAt", promoted_at as "promotedAt",
  promoted_by as "promotedBy", replaced, reason, metrics`;
const UNIQUE = '23505';
/** Source of versions that a training job made: other nodes fetch these from object storage. */
export const TRAINED = 'trained here';

/** By name, newest version first. */
export async function listModels(sql: Sql, name?: string): Promise<RegisteredModel[]> {
  const rows = await sql.query<RegisteredModel>(
    `select ${COLUMNS} from models where $1::text is null or name = $1 order by name`,
    [name ?? null],
  );
  return rows.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : compareVersions(b.version, a.version)));
}

export async function cardsOf(sql: Sql, name: string): Promise<Map<string, ModelCard>> {
  const rows = await sql.query<{ version: string; card: ModelCard }>(
    'select version, card from models where name = $1',
    [name],
  );
  return new Map(rows.map(({ version, card }) => [version, card]));
}

/** The card of the live version. Throws not_found where no version has the name, inference_down where none is live. */
export async function liveCard(sql: Sql, name: string): Promise<ModelCard> {
  const rows = await sql.query<{ status: ModelStatus; card: ModelCard }>(
    `select status, case when status = 'live' then card end as card from models where name = $1 order by status = 'live' desc limit 1`,
    [name],
  );
  if (rows.length === 0) throw new TwinmeshError('not_found', `There is no model ${name}.`);
  if (rows[0].status !== 'live')
    throw new TwinmeshError('inference_down', `No version of ${name} is live.`, { model: name });
  return rows[0].card;
}

/** What every node is to have loaded, by name. */
export function wantedOf(models: readonly RegisteredModel[]): Map<string, Wanted> {
  const wanted = new Map<string, Wanted & { sha256: Map<string, string> }>();
  for (const { name, version, status, replaced, sha256 } of models) {
    const want = wanted.get(name) ?? { live: null, replaced: null, shadow: null, sha256: new Map() };
    wanted.set(name, want);
    want.sha256.set(version, sha256);
    if (status === 'live') Object.assign(want, { live: version, replaced });
    if (status === 'shadow') want.shadow = version;
  }
  return wanted;
}

/** Registers a version as a candidate; false where it is registered already. */
export async function registerModel(sql: Sql, card: ModelCard, source: string): Promise<boolean> {
  const { name, version, type, kind, scores, sha256 } = card;
  const rows = await sql.query(
    `insert into models (name, version, type, kind, metrics, card, sha256, source)
     values ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7, $8) on conflict do nothing returning name`,
    [name, version, type, kind, JSON.stringify(scores), JSON.stringify(card), sha256, source],
  );
  return rows.length > 0;
}

/** Registers what was trained here. A node that found it in its models folder first may have registered it as found there: it is not. */
export async function registerTrained(sql: Sql, card: ModelCard): Promise<void> {
  if (await registerModel(sql, card, TRAINED)) return;
  const rows = await sql.query(
    `update models set source = $4 where name = $1 and version = $2 and sha256 = $3 returning name`,
    [card.name, card.version, card.sha256, TRAINED],
  );
  if (rows.length === 0)
    throw new TwinmeshError('conflict', `${card.name}@${card.version} is registered with another model.onnx.`);
}

/** A version goes live where none of its name is; whether it did. */
export async function begin(sql: Sql, name: string, version: string): Promise<boolean> {
  const rows = await sql
    .query(
      `update models set status = 'live', promoted_at = now(), promoted_by = 'start', reason = 'none of the name was live'
       where name = $1 and version = $2 and not exists (select from models where name = $1 and status = 'live') returning name`,
      [name, version],
    )
    .catch(raced);
  return rows.length > 0;
}

export interface Change {
  by: string;
  reason: string;
  /** The version that is to be live until then; null: none. Where it is left out, the one that is live when the change begins. */
  live?: string | null;
  /** What else that very statement does, once `tried` has passed; null: it does nothing else. */
  along?: () => Along;
}

/**
 * A part of the statement by which a version goes live, whose parameters count from ALONG_FIRST: a CTE `mine`, without a row of
 * which nothing happens, and CTEs that happen where `may` has a row.
 */
export interface Along {
  mine: string;
  ended: string;
  params: unknown[];
}
export const ALONG_FIRST = 6;
/** Versions before the live one that are remembered. */
const KEPT = 100;
/** A node of the program before this one leaves `former` as it is: it holds only where it begins with `replaced`. */
const FORMER = `coalesce(case when former[1] = replaced then former else array_remove(array[replaced], null) end, '{}')`;

/**
 * A version goes live, the one before is retired. Throws not_found, conflict where it is live already or another change came
 * first, and what `tried` throws.
 */
export async function promote(sql: Sql, name: string, version: string, change: Change, tried = untried): Promise<void> {
  const found = await versionOf(sql, name, version);
  if (found.status === 'live') throw new TwinmeshError('conflict', `${name}@${version} is live already.`);
  const live = change.live === undefined ? await liveOf(sql, name) : change.live;
  await tried(found);
  await goLive(sql, name, version, live, 'forth', change);
}

/** Back to the version that was live before this one; answers which. Throws not_found, conflict where there is none or another change came first, and what `tried` throws. */
export async function rollback(sql: Sql, name: string, change: Change, tried = untried): Promise<string> {
  const models = await listModels(sql, name);
  if (models.length === 0) throw new TwinmeshError('not_found', `There is no model ${name}.`);
  const live = models.find(({ status }) => status === 'live');
  if (!live?.replaced) throw new TwinmeshError('conflict', `${name} has no version before the live one to go back to.`);
  await tried(await versionOf(sql, name, live.replaced));
  await goLive(sql, name, live.replaced, live.version, 'back', change);
  return live.replaced;
}

/**
 * One statement: `was` holds the live row as it is now, not as it was when the statement began; `before` is read before the row
 * is changed, so that the index never sees two live rows.
 */
async function goLive(
  sql: Sql,
  name: string,
  version: string,
  live: string | null,
  way: 'forth' | 'back',
  { by, reason, along }: Change,
): Promise<void> {
  const part = along?.();
  const rows = await sql
    .query(
      `with ${part === undefined ? '' : `${part.mine},`}
       was as (
         select ${way === 'forth' ? `(array_prepend(version, ${FORMER}))[:${KEPT}]` : `(${FORMER})[2:]`} as former from models
         where name = $1 and version = $5::text and version <> $2 and status = 'live' ${way === 'forth' ? '' : 'and replaced = $2'} for update),
       may as (
         select 1 as one where ${part === undefined ? 'true' : 'exists (select from mine)'} and (exists (select from was)
           or ($5::text is null and not exists (select from models where name = $1 and status = 'live')))),
       before as (
         update models set status = 'retired' where name = $1 and version = $5::text and exists (select from may) returning version)
       ${part === undefined ? '' : `, ${part.ended}`}
       update models set status = 'live', promoted_at = now(), promoted_by = $3, reason = $4,
         former = coalesce((select former from was), '{}'), replaced = (select former[1] from was)
       where name = $1 and version = $2 and status <> 'live' and exists (select from may) and (select count(*) from before) >= 0
       returning version`,
      [name, version, by, reason, live, ...(part?.params ?? [])],
    )
    .catch(raced);
  if (rows.length === 0)
    throw new TwinmeshError('conflict', `Another change of ${name} came first; look at what is live now.`);
}

/** What a shadow is afterwards: what it was before. */
const AFTER_SHADOW = `status = case when promoted_at is null then 'candidate' else 'retired' end`;

/**
 * A version runs beside the live one, in place of the shadow before; null: none does. Throws not_found, conflict for the live
 * one, and what `tried` throws.
 */
export async function shadow(sql: Sql, name: string, version: string | null, tried = untried): Promise<void> {
  if (version !== null) {
    const found = await versionOf(sql, name, version);
    if (found.status === 'live')
      throw new TwinmeshError('conflict', `${name}@${version} is live; a shadow is another version.`);
    await tried(found);
  }
  if (version === null && (await listModels(sql, name)).length === 0)
    throw new TwinmeshError('not_found', `There is no model ${name}.`);
  if (version === null) {
    await sql.query(`update models set ${AFTER_SHADOW} where name = $1 and status = 'shadow'`, [name]);
    return;
  }
  const rows = await sql
    .query(
      `with may as (select 1 as one from models where name = $1 and version = $2 and status <> 'live' for update),
       before as (
         update models set ${AFTER_SHADOW} where name = $1 and status = 'shadow' and version <> $2 and exists (select from may)
         returning version)
       update models set status = 'shadow'
       where name = $1 and version = $2 and exists (select from may) and (select count(*) from before) >= 0 returning version`,
      [name, version],
    )
    .catch(raced);
  if (rows.length === 0) throw new TwinmeshError('conflict', `Another change of ${name} came first.`);
}

async function liveOf(sql: Sql, name: string): Promise<string | null> {
  const [row] = await sql.query<{ version: string }>(`select version from models where name = $1 and status = 'live'`, [
    name,
  ]);
  return row?.version ?? null;
}

async function versionOf(
  sql: Sql,
  name: string,
  version: string,
): Promise<RegisteredVersion & { status: ModelStatus }> {
  const [row] = await sql.query<RegisteredVersion & { status: ModelStatus }>(
    'select name, version, sha256, status from models where name = $1 and version = $2',
    [name, version],
  );
  if (row === undefined)
    throw new TwinmeshError('not_found', `There is no ${name}@${version}; GET /api/v1/models lists what there is.`);
  return row;
}

/** Somebody else did the same at once: the index refused the second. */
function raced(error: unknown): unknown[] {
  if (error instanceof SqlError && error.sqlState === UNIQUE) return [];
  throw error;
}
