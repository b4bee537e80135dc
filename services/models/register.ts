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
 *  3  A rollback goes to the version that the live one replaced; again, to the one before that.
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
}

/**
 * A version goes live, the one before is retired. Throws not_found, conflict where it is live already or another change came
 * first, and what `tried` throws.
 */
export async function promote(
  sql: Sql,
  name: string,
  version: string,
  { by, reason }: Change,
  tried = untried,
): Promise<void> {
  const found = await versionOf(sql, name, version);
  if (found.status === 'live') throw new TwinmeshError('conflict', `${name}@${version} is live already.`);
  await tried(found);
  await goLive(sql, name, version, `(select version from before)`, by, reason);
}

/** Back to the version that the live one replaced; answers which. Throws not_found, conflict where there is none, and what `tried` throws. */
export async function rollback(sql: Sql, name: string, { by, reason }: Change, tried = untried): Promise<string> {
  const models = await listModels(sql, name);
  if (models.length === 0) throw new TwinmeshError('not_found', `There is no model ${name}.`);
  const live = models.find(({ status }) => status === 'live');
  if (!live?.replaced) throw new TwinmeshError('conflict', `${name} has no version before the live one to go back to.`);
  await tried(await versionOf(sql, name, live.replaced));
  await goLive(sql, name, live.replaced, 'replaced', by, reason);
  return live.replaced;
}

/** `before` is read after the row has been changed, so that the index never sees two live rows. */
async function goLive(
  sql: Sql,
  name: string,
  version: string,
  replaced: string,
  by: string,
  reason: string,
): Promise<void> {
  const rows = await sql
    .query(
      `with before as (update models set status = 'retired' where name = $1 and status = 'live' and version <> $2 returning version)
       update models set status = 'live', promoted_at = now(), promoted_by = $3, reason = $4, replaced = ${replaced}
       where name = $1 and version = $2 and status <> 'live' and (select count(*) from before) >= 0 returning version`,
      [name, version, by, reason],
    )
    .catch(raced);
  if (rows.length === 0)
    throw new TwinmeshError('conflict', `Another change of ${name} came first; look at what is live now.`);
}

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
  await sql.query(
    `update models set status = 'candidate' where name = $1 and status = 'shadow' and version is distinct from $2`,
    [name, version],
  );
  if (version === null) return;
  const rows = await sql
    .query(
      `update models set status = 'shadow' where name = $1 and version = $2 and status <> 'live' returning version`,
      [name, version],
    )
    .catch(raced);
  if (rows.length === 0) throw new TwinmeshError('conflict', `Another change of ${name} came first.`);
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
