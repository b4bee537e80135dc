import { Feed } from '../feed.ts';
import { type CpuS, Plant, pause, sizeOf, spent } from '../plant.ts';
import type { Figure, Scenario } from '../scenario.ts';

/** `TWINS=200000 NODES=1`: each twin speaks every ten seconds, so that each reading moves its row in `twins` too. */
const TWINS = sizeOf('TWINS', 10_000);
const SHARDS = 256;
const PER_BATCH = 100;
const READINGS = sizeOf('READINGS', 800_000);
const NODES = (process.env.NODES ?? '1,2,4').split(',').map(Number);
/** Offered at a rate that every one of them keeps up with: what differs is the number of nodes, not how far behind they are. */
const RATE = sizeOf('RATE', 20_000);
const IDLE_S = 5;
const WITHIN_MS = 120_000;

interface Cost {
  nodes: number;
  /** CPU seconds a million readings. */
  total: number;
  parts: CpuS;
  /** CPU seconds a second and node, with no readings; the servers included. */
  idle: number;
  /** Bytes of write-ahead log a reading. */
  wal: number;
}

const scenario: Scenario = {
  name: 'nodes-cpu',
  title: `CPU of nodes, PostgreSQL and NATS together for the same ${READINGS.toLocaleString('en-US')} readings on ${NODES.join(', ')} hosts`,
  async run(say) {
    const costs: Cost[] = [];
    for (const nodes of NODES) {
      const cost = await measure(nodes, say);
      if (cost === null) return [];
      costs.push(cost);
    }
    const one = costs[0].total;
    return costs.flatMap(({ nodes, total, parts, idle, wal }): Figure[] => [
      {
        what: `CPU of a million readings on ${nodes} ${nodes === 1 ? 'node' : 'nodes'}, ${TWINS.toLocaleString('en-US')} twins, ${RATE.toLocaleString('en-US')} readings/s`,
        value: total,
        unit: 's',
        ...(nodes === 4 && NODES[0] === 1 ? { atMost: one * 1.3 } : {}),
        note: `nodes ${parts.nodes.toFixed(1)}, database ${parts.database.toFixed(1)}, NATS ${parts.nats.toFixed(1)}; ${(total / one).toFixed(2)} of ${NODES[0] === 1 ? 'one node' : 'the first'}; ${Math.round(wal)} bytes of write-ahead log a reading; without readings ${(idle * 100).toFixed(1)} % of a core a node, servers included`,
      },
    ]);
  },
};
export default scenario;

async function measure(nodes: number, say: (line: string) => void): Promise<Cost | null> {
  const plant = await Plant.open({ shards: SHARDS });
  if (plant === null) return null;
  try {
    for (let i = 0; i < nodes; i++) await plant.start(`host-${i}`, { ROLES: 'host' });
    await plant.balanced();
    const feed = new Feed({ kind: 'machine', twins: TWINS, shards: SHARDS, perBatch: PER_BATCH });
    // every twin is there, and the code of the nodes is warm
    await feed.publish(plant.log, Math.max(TWINS, READINGS / 10));
    await feed.drained(plant.sql, 0, { withinMs: WITHIN_MS });
    await pause(3_000);
    const quiet = plant.cpuS();
    await pause(IDLE_S * 1_000);
    const idle = spent(quiet, plant.cpuS()).total / IDLE_S / nodes;
    const from = feed.published;
    const walBefore = await plant.walBytes();
    const before = plant.cpuS();
    const startedAt = performance.now();
    await feed.publish(plant.log, READINGS, () => {
      const early = ((feed.published - from) / RATE) * 1000 - (performance.now() - startedAt);
      return early > 1 ? pause(early) : undefined;
    });
    const { seconds } = await feed.drained(plant.sql, from, { withinMs: WITHIN_MS });
    const wholeS = (performance.now() - startedAt) / 1000;
    // what follows a reading is of its cost: summaries, snapshots, the autovacuum that it wakes
    await pause(2_000);
    const cost = spent(before, plant.cpuS());
    const readings = feed.published - from;
    const a = (s: number): number => (s * 1e6) / readings;
    say(
      `${nodes}: ${a(cost.total).toFixed(1)} s a million (nodes ${a(cost.nodes).toFixed(1)}, database ${a(cost.database).toFixed(1)}, NATS ${a(cost.nats).toFixed(1)}); ${wholeS.toFixed(1)} s, the last ${seconds.toFixed(1)} s behind the publisher; idle ${(idle * 100).toFixed(1)} % of a core a node`,
    );
    const parts = { nodes: a(cost.nodes), database: a(cost.database), nats: a(cost.nats) };
    const wal = ((await plant.walBytes()) - walBefore) / readings;
    return { nodes, total: a(cost.total), parts, idle, wal };
  } finally {
    for (const complaint of plant.complaints()) say(complaint);
    await plant.close();
  }
}
