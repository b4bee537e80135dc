import type { Kind } from '../../protocol/kind.ts';
import { CommitAborted, type Cut, OutcomeUnknown } from '../port.ts';
import { type Sql, SqlError } from '../sql.ts';
import { happenings } from './commit-happenings.ts';
import { readings } from './commit-readings.ts';
import { snapshots, summaries } from './commit-states.ts';
import { Batch, nameOf, Parameters } from './statement.ts';

/**
 * A checkpoint on a busy server may take seconds. One that is broken off costs its shards their memory, and reading them
 * back makes the server busier still; a node that is cut off is found out by its beat, not by this.
 */
const ANSWER_MS = 15_000;

/**
 * The checkpoint: one statement, one round trip, one transaction for all shards of a cut.
 *
 *  1 Rows of `shards` are locked in shard order before anything else, as `claim` and `release` do: no deadlock.
 *  2 The fence is an update on (shard, owner, epoch, commit_no), re-checked by PostgreSQL on the newest row version
 *    after the lock was waited for; every insert is joined to what it returns. (S1, S2)
 *  3 Everything is encoded before the first await: the caller may go on changing its objects.
 *
 * A statement has only the parts that the cut has, and one name for each text, so that the server plans it once.
 */
export class Checkpoint {
  readonly #sql: Sql;
  readonly #answerMs: number;
  readonly #names = new Map<string, string>();

  constructor(sql: Sql, answerMs = ANSWER_MS) {
    this.#sql = sql;
    this.#answerMs = answerMs;
  }

  async commit(cut: Cut, kinds: ReadonlyMap<string, Kind>): Promise<Set<number>> {
    const { text, values } = statementOf(cut, kinds);
    try {
      const rows = await this.#sql.query<{ shard: number }>(text, values, {
        priority: true,
        answerMs: this.#answerMs,
        giveAway: true,
        name: this.#nameOf(text),
      });
      return new Set(rows.map((row) => row.shard));
    } catch (error) {
      if (!(error instanceof SqlError)) throw error;
      // Not the cut's fault: a smaller one would fail too, and its last reading would be condemned for a full disk.
      if (error.outcome === 'refused' && error.code === 'store_down') throw error;
      if (error.outcome === 'refused') throw new CommitAborted(error.message, { cause: error });
      if (error.outcome === 'unknown') throw new OutcomeUnknown(error.message, { cause: error });
      throw error;
    }
  }

  /** Texts differ by kinds, columns and parts that are there: few in practice; beyond the bound they go unprepared. */
  #nameOf(text: string): string | undefined {
    let name = this.#names.get(text);
    if (name === undefined && this.#names.size < MAX_PREPARED) {
      name = nameOf(text);
      this.#names.set(text, name);
    }
    return name;
  }
}

const MAX_PREPARED = 64;
const FEW_SHARDS = 16;

export function statementOf(cut: Cut, kinds: ReadonlyMap<string, Kind>): { text: string; values: readonly unknown[] } {
  const parameters = new Parameters();
  const parts = [fence(cut, parameters)];
  parts.push(...readings(cut.readings, kinds, parameters));
  if (cut.snapshots.length > 0) parts.push(snapshots(cut.snapshots, parameters));
  if (cut.summaries.length > 0) parts.push(...summaries(cut.summaries, parameters));
  parts.push(...happenings(cut, parameters));
  return { text: `with ${parts.join(',\n')}\nselect shard from fence`, values: parameters.values };
}

function fence(cut: Cut, parameters: Parameters): string {
  const { shards } = cut;
  const batch = new Batch(parameters, shards.length)
    .int4('shard', (i) => shards[i].shard)
    .int8('epoch', (i) => shards[i].epoch)
    .int8('commit_no', (i) => shards[i].commitNo)
    .int8('position', (i) => shards[i].position)
    .text('position_id', (i) => shards[i].positionId)
    .timestamp('position_at', (i) => shards[i].positionAt)
    .int8('event_seq', (i) => shards[i].eventSeq)
    .bool('clean', (i) => shards[i].clean);
  const node = `${parameters.add(cut.node)}::text`;
  // A cached plan takes an unnest for ten rows and would compare every shard with every other; the second branch never
  // runs, and makes the planner expect hundreds.
  const many = `union all select ${batch.names.map(() => 'null').join(', ')} from generate_series(1, 100000) where ${node} is null`;
  return `
cut as materialized (select * from ${batch.from('c')} ${shards.length > FEW_SHARDS ? many : ''}),
locked as materialized (
  select s.shard from shards s join cut c on c.shard = s.shard order by s.shard for update of s),
fence as (
  update shards s set
    commit_no = s.commit_no + 1, position = c.position, position_id = c.position_id, position_at = c.position_at,
    event_seq = c.event_seq, snapshot_floor = case when c.clean then s.commit_no + 1 else s.snapshot_floor end, attempts = 0
  from cut c
  where s.shard = c.shard and s.owner = ${node} and s.epoch = c.epoch and s.commit_no = c.commit_no
    and (select count(*) from locked) > 0
  returning s.shard)`;
}
