import { saidEvents } from '../history.ts';
import type { Checker } from './checker.ts';

/** Events are those that the oracle expects of the journal, revision by revision; and each shard's run without a hole. */
export const events: Checker = {
  name: 'wrong events',
  twin({ asset, oracle, events: rows }) {
    if (oracle.fault !== null) return [];
    const said = saidEvents(rows);
    const faults: string[] = [];
    for (const revision of new Set([...said.keys(), ...oracle.events.keys()])) {
      const is = JSON.stringify(said.get(revision) ?? []);
      const should = JSON.stringify(oracle.events.get(revision) ?? []);
      if (is !== should) faults.push(`${asset.twinId} at ${revision} emitted ${is}, expected ${should}`);
    }
    return faults;
  },
  async whole(audit) {
    const holes = await audit.query<{ shard: number; count: number; last: number; owned: number }>(
      `select e.shard, count(*)::int as count, max(e.seq)::int as last, s.event_seq::int as owned
       from events e join shards s using (shard) group by e.shard, s.event_seq
       having count(*) <> max(e.seq) or max(e.seq) <> s.event_seq or count(distinct e.event_id) <> count(*)`,
    );
    return holes.map(
      ({ shard, count, last, owned }) => `shard ${shard}: ${count} events up to ${last}, the shard says ${owned}`,
    );
  },
};
