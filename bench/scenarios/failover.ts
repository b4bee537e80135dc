import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { Load } from '../../test/chaos/load.ts';
import { Mesh } from '../../test/chaos/mesh.ts';
import type { ChaosNode } from '../../test/chaos/node.ts';
import { allMoved } from '../../test/chaos/recovery.ts';
import { type Figure, percentile, type Scenario } from '../scenario.ts';

const KILLS = 30;
const SHARDS = 64;
const RATE = 1_000;
const TTL_MS = 2_000;
const WITHIN_MS = 30_000;

/** kill -9 of one of three nodes under load, again and again: from the kill to the first commit of each of its shards by somebody else. */
const scenario: Scenario = {
  name: 'failover',
  title: `kill -9 of one of three nodes, ${KILLS} times, ttl ${TTL_MS / 1000} s, ${RATE} readings/s, ${SHARDS} shards`,
  async run(say) {
    const random = seededRandom(1);
    const mesh = await Mesh.start({
      hosts: 3,
      layout: 'whole',
      ttlMs: TTL_MS,
      shards: SHARDS,
      ack: 'log',
      servers: new Set(['nats'] as const),
      withoutFence: false,
      print: say,
    });
    const wholes: number[] = [];
    const each: number[] = [];
    try {
      const load = new Load(mesh, { assets: 2 * SHARDS, shards: SHARDS, rate: RATE, random, print: say });
      load.start();
      await allMoved(mesh.audit, SHARDS, Date.now(), WITHIN_MS);
      for (let kill = 1; kill <= KILLS; kill++) {
        const times = await failover(mesh, mesh.nodes[kill % mesh.nodes.length]);
        each.push(...times);
        wholes.push(Math.max(...times));
        say(`kill ${kill}: ${times.length} shards, the last after ${Math.round(Math.max(...times))} ms`);
      }
      await load.rest();
      const { verdicts } = await load.judge();
      const broken = verdicts.filter(({ violations }) => violations > 0);
      if (broken.length > 0) throw new Error(`Promises were broken: ${JSON.stringify(broken)}`);
      const acknowledged = load.ledger.acknowledged;
      say(`${acknowledged} readings acknowledged, none lost, none twice`);
    } finally {
      await mesh.close();
    }
    const figures: Figure[] = [
      { what: 'until its last shard has committed, p50', value: percentile(wholes, 0.5), unit: 'ms', atMost: 3_500 },
      { what: 'until its last shard has committed, p95', value: percentile(wholes, 0.95), unit: 'ms', atMost: 5_000 },
      { what: 'until its last shard has committed, max', value: Math.max(...wholes), unit: 'ms', atMost: 8_000 },
      {
        what: 'until a shard has committed, p50',
        value: percentile(each, 0.5),
        unit: 'ms',
        note: `${each.length} shards`,
      },
    ];
    return figures;
  },
};

export default scenario;

/** Kills it, answers when each of its shards was committed by another (ms after the kill), brings it back. */
async function failover({ audit }: Mesh, node: ChaosNode): Promise<number[]> {
  const owned = await audit.query<{ shard: number }>('select shard from shards where owner = $1', [node.name]);
  if (owned.length === 0) throw new Error(`${node.name} owns nothing.`);
  const killedAt = Date.now();
  await node.kill();
  const until = performance.now() + WITHIN_MS;
  let rows: { shard: number; at: Date }[] = [];
  while (rows.length < owned.length) {
    if (performance.now() > until) throw new Error(`${owned.length - rows.length} shards were not taken over.`);
    await sleep(50);
    rows = await audit.query<{ shard: number; at: Date }>(
      `select shard, min(at) as at from chaos_commits
       where at > $1 and what = 'commit' and owner <> $2 and shard = any($3) group by shard`,
      [new Date(killedAt), node.name, owned.map(({ shard }) => shard)],
    );
  }
  node.start();
  await node.ready();
  // The next kill is of a node that has its share.
  for (let share = 0; share < owned.length / 3; ) {
    await sleep(200);
    const [{ count }] = await audit.query<{ count: number }>(
      'select count(*)::int as count from shards where owner is not null group by owner order by count limit 1',
    );
    const owners = await audit.query('select distinct owner from shards where owner is not null');
    share = owners.length < 3 ? 0 : count;
  }
  return rows.map(({ at }) => at.getTime() - killedAt);
}
