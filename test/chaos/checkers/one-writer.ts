import type { Audit } from '../audit.ts';
import type { Checker } from './checker.ts';

interface CommitRow {
  shard: number;
  session: string;
  what: 'commit' | 'claim' | 'release';
  owner: string | null;
  epoch: number;
  commitNo: number;
}

const PAGE = 50_000;

/** What contradicts it so far, a sentence each. */
export async function staleCommits(audit: Audit): Promise<string[]> {
  const faults: string[] = [];
  const last = new Map<number, { epoch: number; commitNo: number }>();
  for (let no = '0'; ; ) {
    const rows = await audit.query<CommitRow & { no: string }>(
      `select no::text as no, shard, session, what, owner, epoch::int as epoch, commit_no::int as "commitNo"
       from chaos_commits where no > $1 order by chaos_commits.no limit ${PAGE}`,
      [no],
    );
    for (const row of rows) {
      const { shard, session, what, owner, epoch, commitNo } = row;
      const before = last.get(shard);
      last.set(shard, { epoch, commitNo });
      const [, node] = session.split(' ');
      if (what === 'commit' && node !== owner)
        faults.push(`shard ${shard}: ${node} committed ${commitNo}; ${owner} owns it under epoch ${epoch}`);
      if (!before) continue;
      if (epoch !== before.epoch + (what === 'claim' ? 1 : 0))
        faults.push(`shard ${shard}: a ${what} under epoch ${epoch} follows epoch ${before.epoch}`);
      if (commitNo !== before.commitNo + (what === 'commit' ? 1 : 0))
        faults.push(`shard ${shard}: a ${what} at commit ${commitNo} follows commit ${before.commitNo}`);
    }
    if (rows.length < PAGE) return faults;
    no = rows[rows.length - 1].no;
  }
}

/**
 * P1: by what the database wrote down of each change of `shards`: the one who commits is the owner, epochs grow by one a
 * claim and never go back, and commit numbers run without a hole or a double.
 */
export const oneWriter: Checker = { name: 'stale commits', whole: staleCommits };
