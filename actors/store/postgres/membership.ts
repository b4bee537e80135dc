import type { Claim, NodeRow, ShardRow } from '../port.ts';
import type { Sql } from '../sql.ts';
import { Batch, Parameters, prepared } from './statement.ts';

/** Nodes and shards: who lives, who owns what. Rows of `shards` are locked in shard order, always. */
const SHARD_ROW = `s.shard, s.owner, s.epoch, s.commit_no as "commitNo", s.position, s.position_id as "positionId",
  (date_part('epoch', s.position_at) * 1000)::float8 as "positionAt", s.event_seq as "eventSeq",
  s.snapshot_floor as "snapshotFloor", s.attempts`;

const URGENT = { priority: true } as const;

/** A node that leaves keeps its row with the sign turned: a count that began anew could look as if it had never moved. */
const BEAT = `insert into nodes (node, beat) values ($1, $2::int)
  on conflict (node) do update set beat = (abs(nodes.beat) + 1) * $2::int`;
const NODES = 'select node, abs(beat) as beat, beat < 0 as leaving from nodes order by node';
const LEAVE = 'update nodes set beat = -abs(beat) where node = $1';
const SHARDS = `select ${SHARD_ROW} from shards s order by s.shard`;

export async function beat(sql: Sql, node: string, leaving: boolean): Promise<void> {
  await sql.query(BEAT, [node, leaving ? -1 : 1], prepared(BEAT, true));
}

export async function nodes(sql: Sql): Promise<NodeRow[]> {
  return await sql.query<NodeRow>(NODES, [], prepared(NODES, true));
}

export async function removeNode(sql: Sql, node: string): Promise<void> {
  await sql.query(LEAVE, [node]);
}

export async function shards(sql: Sql): Promise<ShardRow[]> {
  return (await sql.query<ShardRow>(SHARDS, [], prepared(SHARDS, true))).map(whole);
}

/** A compare-and-set on (owner, epoch) for each shard on its own. */
export async function claim(sql: Sql, node: string, wanted: readonly Claim[]): Promise<ShardRow[]> {
  if (wanted.length === 0) return [];
  const parameters = new Parameters();
  const batch = new Batch(parameters, wanted.length)
    .int4('shard', (i) => wanted[i].shard)
    .text('owner', (i) => wanted[i].owner)
    .int8('epoch', (i) => wanted[i].epoch);
  const rows = await sql.query<ShardRow>(
    `with wanted as materialized (select * from ${batch.from('w')}),
     locked as materialized (
       select s.shard from shards s join wanted w on w.shard = s.shard order by s.shard for update of s)
     update shards s set owner = ${parameters.add(node)}, epoch = s.epoch + 1, attempts = s.attempts + 1
     from wanted w
     where s.shard = w.shard and s.owner is not distinct from w.owner and s.epoch = w.epoch
       and (select count(*) from locked) > 0
     returning ${SHARD_ROW}`,
    parameters.values,
    URGENT,
  );
  return rows.map(whole).sort((a, b) => a.shard - b.shard);
}

export async function release(
  sql: Sql,
  node: string,
  given: readonly { shard: number; epoch: number }[],
): Promise<void> {
  if (given.length === 0) return;
  const parameters = new Parameters();
  const batch = new Batch(parameters, given.length)
    .int4('shard', (i) => given[i].shard)
    .int8('epoch', (i) => given[i].epoch);
  await sql.query(
    `with given as materialized (select * from ${batch.from('g')}),
     locked as materialized (
       select s.shard from shards s join given g on g.shard = s.shard order by s.shard for update of s)
     update shards s set owner = null from given g
     where s.shard = g.shard and s.owner = ${parameters.add(node)} and s.epoch = g.epoch and (select count(*) from locked) > 0`,
    parameters.values,
    URGENT,
  );
}

/** Milliseconds come out of a float: whole again. */
function whole(row: ShardRow): ShardRow {
  return row.positionAt === null ? row : { ...row, positionAt: Math.round(row.positionAt) };
}
