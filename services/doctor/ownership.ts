import { MIGRATIONS } from '../../actors/store/schema.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { livingNodes } from '../living-nodes.ts';
import type { Check, Tell } from './check.ts';

/** What the database says about the mesh: schema, shards, nodes and how far the sinks are. */
const NEWEST = Math.max(...MIGRATIONS.map(({ version }) => version));
/** Events a sink may be behind before that is said. */
const BEHIND = 10_000;

export const ownership: Check = {
  part: 'mesh',
  applies: ({ databaseUrl }) => databaseUrl !== null,
  async look({ settings, sql }, tell) {
    const db = await sql();
    if (db === null) return;
    const [{ there }] = await db.query<{ there: boolean }>(
      `select to_regclass('settings') is not null and to_regclass('shards') is not null as there`,
    );
    if (!there) {
      tell.ok('the database is empty: the first node that starts makes the tables');
      return;
    }
    await schema(db, settings.shards, tell);
    const living = await livingNodes(db, settings.ttlMs);
    await nodes(db, living, settings.nodeId, tell);
    await shards(db, living, tell);
    await sinks(db, tell);
  },
};

async function schema(db: Sql, wanted: number, tell: Tell): Promise<void> {
  const rows = await db.query<{ name: string; value: unknown }>(
    `select name, value from settings where name in ('schema', 'shards')`,
  );
  const found = new Map(rows.map(({ name, value }) => [name, value]));
  const version = (found.get('schema') as { version?: number } | undefined)?.version ?? 0;
  if (version > NEWEST)
    tell.fault(`the schema is of version ${version}, this program knows ${NEWEST}`, 'Start the newer program.');
  else if (version < NEWEST)
    tell.warning(`the schema is of version ${version}`, `It becomes ${NEWEST} when a node of this version starts.`);
  else tell.ok(`schema version ${version}`);
  const count = Number(found.get('shards'));
  if (count !== wanted)
    tell.fault(
      `the database has ${count} shards, and SHARDS is ${wanted}`,
      `Set SHARDS=${count}: the number is fixed at the first start.`,
    );
}

async function nodes(db: Sql, living: readonly string[], own: string, tell: Tell): Promise<void> {
  const all = (await db.query<{ node: string }>('select node from nodes where beat > 0 order by node')).map(
    (r) => r.node,
  );
  const silent = all.filter((node) => !living.includes(node));
  if (living.length === 0) tell.warning('no node beats', 'Start one; readings wait in the log, or with their sources.');
  else tell.ok(`${living.length} living: ${some(living)}`);
  if (silent.length > 0)
    tell.warning(
      `silent: ${some(silent)}`,
      'Others take over what they own once TTL_MS has passed. Restart them, or let them be if they are gone for good.',
    );
  if (living.includes(own)) tell.ok(`${own}, the name of this node, beats`);
}

async function shards(db: Sql, living: readonly string[], tell: Tell): Promise<void> {
  const [{ total, unowned, orphaned, moving }] = await db.query<
    Record<'total' | 'unowned' | 'orphaned' | 'moving', number>
  >(
    `select count(*)::int as total, count(*) filter (where owner is null)::int as unowned,
       count(*) filter (where owner is not null and not owner = any($1))::int as orphaned,
       count(*) filter (where attempts > 3)::int as moving from shards`,
    [living],
  );
  if (unowned + orphaned === 0) tell.ok(`all ${total} shards have a living owner`);
  else if (living.length === 0) tell.ok(`${total} shards, none served`);
  else
    tell.warning(
      `of ${total} shards ${unowned} have no owner and ${orphaned} a silent one`,
      'Right after a start or the death of a node that is as it should be. If it lasts longer than TTL_MS, look at the log of the living nodes.',
    );
  if (moving > 0)
    tell.warning(
      `${moving} shards were claimed several times in a row without a commit`,
      'A reading that kills its node, or a database that refuses commits: look for "poison" and "aborted" in the logs.',
    );
}

async function sinks(db: Sql, tell: Tell): Promise<void> {
  const rows = await db.query<{ sink: string; behind: number }>(
    `select c.sink, sum(greatest(s.event_seq - c.seq, 0))::float8 as behind
     from sink_cursors c join shards s on s.shard = c.shard where c.sink !~ '^~' group by c.sink order by c.sink`,
  );
  for (const { sink, behind } of rows) {
    if (behind <= BEHIND) tell.ok(`sink ${sink} is ${behind} events behind`);
    else
      tell.warning(
        `sink ${sink} is ${behind} events behind`,
        `Bring its receiver back. If no node feeds it any more: delete from sink_cursors where sink = '${sink.replaceAll("'", "''")}'.`,
      );
  }
}

function some(names: readonly string[]): string {
  return names.length <= 8 ? names.join(', ') : `${names.slice(0, 8).join(', ')} and ${names.length - 8} more`;
}
