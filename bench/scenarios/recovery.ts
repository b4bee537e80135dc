import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { activate } from '../../actors/runtime/recovery.ts';
import { DEFAULT_LATENESS_MS } from '../../actors/runtime/state.ts';
import { Tunings } from '../../actors/runtime/tunings.ts';
import { Pg } from '../../actors/store/pg.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { ownCpuS, treeCpuS } from '../cpu.ts';
import { type Figure, type Scenario, seconds } from '../scenario.ts';
import { Fleet } from './store-commit.ts';

const SHARDS = 256;
const TWINS = 10_000;
/** Readings of each twin: all inside the lateness window, the last ones above its snapshot. */
const LIVED = 120;
const TAIL = 20;
/** Shards that are recovered at a time; connections bound it further. */
const AT_ONCE = 8;

/** What a node does that takes over all shards of a dead one: snapshots and tails read, decoded, folded. */
const scenario: Scenario = {
  name: 'recovery',
  title: `${SHARDS} shards of ${TWINS.toLocaleString('en-US')} machines with ${TAIL} entries above each snapshot`,
  async run(say) {
    const server = await findPostgres();
    if (server === null) {
      say('skipped: no PostgreSQL here');
      return [];
    }
    const sql = await Pg.open({ url: await server.database() });
    try {
      const kinds = await loadKinds();
      const byName = new Map(kinds.all().map((kind) => [kind.kind, kind]));
      const store = new PostgresStore(sql);
      await store.open(kinds.all(), SHARDS);
      const free = (await store.shards()).map(({ shard, owner, epoch }) => ({ shard, owner, epoch }));
      const owned = new Map((await store.claim('bench', free)).map((row) => [row.shard, row]));
      const fleet = new Fleet(byName.get('machine')!, 0);
      for (let i = 0; i < LIVED; i++) {
        const cut = fleet.cut(owned, TWINS, SHARDS, i === 0 ? TWINS : 0, i === LIVED - TAIL ? TWINS : 0);
        const landed = await store.commit(cut);
        for (const shard of landed) owned.get(shard)!.commitNo++;
      }
      const tunings = new Tunings(DEFAULT_LATENESS_MS);
      const figures: Figure[] = [];
      for (let round = 0; round < 3; round++) {
        const cpuBefore = [ownCpuS(), server.pid === null ? Number.NaN : treeCpuS(server.pid)];
        const queue = [...owned.keys()];
        let entries = 0;
        const tookS = await seconds(async () => {
          await Promise.all(
            Array.from({ length: AT_ONCE }, async () => {
              for (let shard = queue.shift(); shard !== undefined; shard = queue.shift()) {
                for (const stored of await store.loadTail(shard)) {
                  entries += activate(stored, kinds, tunings, 0).activation.tail;
                }
              }
            }),
          );
        });
        const cpu = [ownCpuS(), server.pid === null ? Number.NaN : treeCpuS(server.pid)];
        const us = cpu.map((now, i) => (((now - cpuBefore[i]) * 1e6) / entries).toFixed(1));
        const note = `${entries.toLocaleString('en-US')} entries in ${tookS.toFixed(2)} s; CPU an entry: host ${us[0]} µs, database ${us[1]} µs`;
        say(`round ${round}: ${Math.round(entries / tookS).toLocaleString('en-US')} entries/s; ${note}`);
        // the first round warms up
        if (round === 2) figures.push({ what: 'tail replayed', value: entries / tookS, unit: 'entries/s', note });
      }
      return figures;
    } finally {
      await sql.close();
      await server.stop();
    }
  },
};
export default scenario;
