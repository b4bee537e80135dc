import { Feed } from '../feed.ts';
import { INSPECTED, Plant, pause, sizeOf, spent, type Vitals } from '../plant.ts';
import type { Figure, Scenario } from '../scenario.ts';

const TWINS = sizeOf('TWINS', 1_000_000);
const SHARDS = 256;
const HOSTS = ['host-1', 'host-2'];
const PER_BATCH = 100;
/** Estimated size of the resident twins of a host: about a third of its half of them, so that both lives are seen. */
const RESIDENT_MB = sizeOf('RESIDENT_MB', Math.max(16, Math.ceil((TWINS / 1_000_000) * 1280)));
/** One reading each a minute. */
const RATE = Math.round(TWINS / 60);
const STEADY_S = sizeOf('SECONDS', 45);
const WITHIN_MS = sizeOf('WITHIN_MS', 240_000);
const SETTLE_MS = 3_000;

const scenario: Scenario = {
  name: 'million-twins',
  title: `${TWINS.toLocaleString('en-US')} motes over ${HOSTS.length} hosts, one reading each a minute, no model asked; ${RESIDENT_MB} MB of them resident a host`,
  async run(say) {
    const plant = await Plant.open({
      shards: SHARDS,
      env: { MAX_RESIDENT_MB: String(RESIDENT_MB), ROLES: 'host', INFERENCE_MAX_PER_SECOND: '0', ...INSPECTED },
    });
    if (plant === null) return [];
    try {
      for (const name of HOSTS) await plant.start(name);
      await plant.balanced();
      const empty = await cleaned(plant);
      const feed = new Feed({ kind: 'mote', twins: TWINS, shards: SHARDS, perBatch: PER_BATCH });

      say(`first readings of ${TWINS} twins, as fast as they are taken`);
      const beforeCpu = plant.cpuS();
      const stopped = watch(plant, feed, say);
      let publishing = true;
      const filled = feed.publish(plant.log, TWINS).finally(() => {
        publishing = false;
      });
      const first = await feed.drained(plant.sql, 0, { withinMs: WITHIN_MS, publishing: () => publishing });
      await filled;
      const cpu = spent(beforeCpu, plant.cpuS());
      const activations = first.readings / first.seconds;
      say(
        `${Math.round(activations)} activations/s; CPU ${((cpu.total * 1e6) / TWINS).toFixed(0)} µs each, nodes ${((cpu.nodes * 1e6) / TWINS).toFixed(0)}`,
      );

      const full = await cleaned(plant);
      say(memoryText('filled', full, empty));

      say(`then ${RATE} readings/s for ${STEADY_S} s: the longest idle leave, and each reading brings one back`);
      const from = feed.published;
      const startedAt = performance.now();
      let behind = 0;
      await feed.publish(plant.log, RATE * STEADY_S, () => {
        const early = ((feed.published - from) / RATE) * 1000 - (performance.now() - startedAt);
        return early > 1 ? pause(early) : undefined;
      });
      behind = feed.published - (await feed.committed(plant.sql));
      const steady = await feed.drained(plant.sql, from, { withinMs: WITHIN_MS });
      const steadyS = (performance.now() - startedAt) / 1000;
      await pause(SETTLE_MS);
      stopped();

      const [{ rows, twins, snapshots }] = await plant.sql.query<{ rows: number; twins: number; snapshots: number }>(
        `select (select count(*) from mote_readings)::float8 as rows, (select count(*) from twins)::float8 as twins,
                (select count(*) from twin_snapshots where latest)::float8 as snapshots`,
      );
      const lost = feed.published - rows;
      const now = await cleaned(plant);
      say(memoryText('at the end', now, empty));
      const perResident = (now.heapBytes - empty.heapBytes) / now.resident;
      const passive =
        (await plant.bytesOf('twins')) / twins + (await plant.bytesOf('twin_snapshots')) / Math.max(1, snapshots);
      say(
        `${rows} rows, ${twins} twins, ${snapshots} latest snapshots, ${now.resident} resident, ${Math.round(now.rssBytes / 2 ** 20)} MB in both hosts`,
      );
      return [
        { what: 'first activations', value: activations, unit: 'twins/s', atLeast: 5_000 },
        { what: 'readings lost or stored twice', value: Math.abs(lost), unit: 'readings', atMost: 0 },
        { what: 'twins without a row', value: TWINS - twins, unit: 'twins', atMost: 0 },
        {
          what: `one reading a minute each, most of them of twins that had left memory (${RATE.toLocaleString('en-US')}/s asked)`,
          value: (feed.published - from) / steadyS,
          unit: 'readings/s',
          note: `${behind.toLocaleString('en-US')} behind when the publisher ended, caught up in ${Math.max(0, steadyS - STEADY_S).toFixed(1)} s`,
        },
        { what: 'share of the twins resident at the end', value: now.resident / twins, unit: '' },
        {
          what: 'memory of a resident mote',
          value: perResident,
          unit: 'bytes',
          note: 'after a reading or two: heap and buffers of both hosts after garbage collections, less what they held empty, over the twins resident then: what hosts remember of the others is in it; `resident` has those of two hours',
        },
        {
          what: 'a passive mote in the database: its row and its latest snapshot, with indexes',
          value: passive,
          unit: 'bytes',
        },
        { what: 'CPU of a first activation, servers included', value: (cpu.total * 1e6) / TWINS, unit: 'µs' },
        { what: 'commits looked at', value: steady.readings, unit: 'readings' },
      ] satisfies Figure[];
    } finally {
      for (const complaint of plant.complaints()) say(complaint);
      await plant.close();
    }
  },
};
export default scenario;

function memoryText(when: string, { resident, heapBytes, rssBytes }: Vitals, empty: Vitals): string {
  const mb = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`;
  return `${when}: ${resident} resident; after a collection ${mb(heapBytes)} of heap and buffers in both hosts, ${mb(empty.heapBytes)} of them when they were empty; ${mb(rssBytes)} of memory`;
}

/** After a garbage collection. */
async function cleaned(plant: Plant): Promise<Vitals> {
  await Promise.all(HOSTS.map((name) => plant.collectGarbage(name)));
  return await vitals(plant);
}

async function vitals(plant: Plant): Promise<Vitals> {
  const all = await Promise.all(HOSTS.map((name) => plant.vitals(name)));
  return {
    resident: all.reduce((sum, v) => sum + v.resident, 0),
    rssBytes: all.reduce((sum, v) => sum + v.rssBytes, 0),
    heapBytes: all.reduce((sum, v) => sum + v.heapBytes, 0),
  };
}

/** Says every five seconds how far it is. */
function watch(plant: Plant, feed: Feed, say: (line: string) => void): () => void {
  const timer = setInterval(async () => {
    try {
      const committed = await feed.committed(plant.sql);
      const { resident, rssBytes, heapBytes } = await vitals(plant);
      say(
        `${committed} committed of ${feed.published}; ${resident} resident, ${Math.round(rssBytes / 2 ** 20)} MB (${Math.round(heapBytes / 2 ** 20)} MB heap and buffers)`,
      );
    } catch {
      // a node that is busy answers the next time
    }
  }, 5_000);
  return () => clearInterval(timer);
}
