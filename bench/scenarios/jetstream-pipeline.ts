import { type Drained, Feed } from '../feed.ts';
import { raw } from '../pipeline.ts';
import { type CpuS, Plant, pause, sizeOf, spent } from '../plant.ts';
import { type Figure, median, type Scenario } from '../scenario.ts';

const TWINS = 10_000;
const SHARDS = 256;
/** Readings a message, as ingest makes them under load. */
const PER_BATCH = 100;
const READINGS = sizeOf('READINGS', 1_500_000);
const ROUNDS = sizeOf('ROUNDS', 3);
const WITHIN_MS = 180_000;
/** Readings that the publisher of the second part may be ahead of the commits. */
const AHEAD = 100_000;

/**
 * A log that was filled before is drained by a node in a process of its own: JetStream → turns → PostgreSQL. The first
 * round warms node and tables; then the same while the log is filled at the same time.
 */
const scenario: Scenario = {
  name: 'jetstream-pipeline',
  title: `JetStream → turns → PostgreSQL committed, ${TWINS.toLocaleString('en-US')} machine twins, one host process, all servers on this machine`,
  async run(say) {
    const plant = await Plant.open({ shards: SHARDS });
    if (plant === null) return [];
    try {
      const feed = new Feed({ kind: 'machine', twins: TWINS, shards: SHARDS, perBatch: PER_BATCH });
      const rates: number[] = [];
      const raws: number[] = [];
      const costs: (CpuS & { total: number })[] = [];
      await plant.start('host', { ROLES: 'host' });
      await plant.balanced();
      await warm(plant, feed, say);
      for (let round = 0; round < ROUNDS; round++) {
        await plant.end('host');
        const from = feed.published;
        const fillMs = await timed(() => feed.publish(plant.log, READINGS));
        const readings = feed.published - from;
        say(`log filled with ${readings} readings, ${Math.round((readings / fillMs) * 1000)}/s`);
        const before = plant.cpuS();
        await plant.start('host', { ROLES: 'host' });
        const drained = await feed.drained(plant.sql, from, { withinMs: WITHIN_MS });
        costs.push(spent(before, plant.cpuS()));
        rates.push(rateOf(drained));
        raws.push(await raw(plant.sql, { twins: TWINS, readings }, from));
        say(
          `round ${round}: ${Math.round(rates[round])} readings/s over ${drained.seconds.toFixed(1)} s, raw ${Math.round(raws[round])} rows/s; CPU ${costText(costs[round], readings)}`,
        );
      }
      const wal = await plant.walBytes();
      const both = await atOnce(plant, feed, say);
      const walBytes = ((await plant.walBytes()) - wal) / both.published;
      const [{ n }] = await plant.sql.query<{ n: number }>('select count(*)::int as n from machine_readings');
      if (n !== feed.published) throw new Error(`${n} rows are stored of ${feed.published} readings`);
      const { bytes, messages } = await plant.log.size();
      const perMessage = feed.published / feed.messages;
      const value = median(rates);
      const ceiling = { what: 'the same rows inserted raw by unnest', value: median(raws) };
      return [
        { what: 'a filled log drained by one host', value, unit: 'readings/s', ceiling, atLeast: 80_000 },
        { what: 'share of raw', value: value / ceiling.value, unit: '', atLeast: 0.5 },
        { what: 'the same while the log is being filled', value: both.rate, unit: 'readings/s', ceiling },
        {
          what: 'a reading in history, with its index',
          value: (await plant.bytesOf('machine_readings')) / n,
          unit: 'bytes',
        },
        { what: 'write-ahead log a reading', value: walBytes, unit: 'bytes', note: 'full pages included' },
        {
          what: 'a reading in the log',
          value: bytes / (messages * perMessage),
          unit: 'bytes',
          note: `messages of ${Math.round(perMessage)} readings`,
        },
      ] satisfies Figure[];
    } finally {
      for (const complaint of plant.complaints()) say(complaint);
      await plant.close();
    }
  },
};
export default scenario;

/** All twins are there and the tables have pages before anything is measured. */
async function warm(plant: Plant, feed: Feed, say: (line: string) => void): Promise<void> {
  await feed.publish(plant.log, TWINS * 10);
  const { seconds } = await feed.drained(plant.sql, 0, { withinMs: WITHIN_MS });
  say(`warm: ${feed.published} readings in ${seconds.toFixed(1)} s`);
  // snapshots and summaries of what was just folded
  await pause(2_000);
}

async function atOnce(
  plant: Plant,
  feed: Feed,
  say: (line: string) => void,
): Promise<{ rate: number; published: number }> {
  const from = feed.published;
  let publishing = true;
  let committed = from;
  const look = setInterval(async () => {
    committed = await feed.committed(plant.sql).catch(() => committed);
  }, 100);
  const paced = async (): Promise<void> => {
    while (feed.published - committed > AHEAD) await pause(5);
  };
  const done = feed
    .publish(plant.log, READINGS, () => (feed.published - committed > AHEAD ? paced() : undefined))
    .finally(() => {
      publishing = false;
    });
  const drained = await feed.drained(plant.sql, from, { withinMs: WITHIN_MS, publishing: () => publishing });
  clearInterval(look);
  await done;
  const rate = rateOf(drained);
  say(`filled and drained at once: ${Math.round(rate)} readings/s over ${drained.seconds.toFixed(1)} s`);
  return { rate, published: feed.published - from };
}

function rateOf({ readings, seconds }: Drained): number {
  return readings / seconds;
}

function costText(cost: CpuS & { total: number }, readings: number): string {
  const a = (seconds: number): string => ((seconds * 1e6) / readings).toFixed(1);
  return `µs a reading: host ${a(cost.nodes)}, database ${a(cost.database)}, NATS ${a(cost.nats)}`;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const from = performance.now();
  await work();
  return performance.now() - from;
}
