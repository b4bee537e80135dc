import { MemoryLog } from '../../actors/log/memory.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import type { Emitted } from '../../actors/protocol/event.ts';
import { shardOf } from '../../actors/protocol/twin-id.ts';
import { Activation } from '../../actors/runtime/activation.ts';
import { Host } from '../../actors/runtime/host.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { H } from '../../actors/runtime/layout.ts';
import { snapshotOf, summaryOf } from '../../actors/runtime/snapshots.ts';
import { newState } from '../../actors/runtime/state.ts';
import { fold } from '../../actors/runtime/turn.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import type { Scenario } from '../scenario.ts';
import { seconds } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const TWINS = 100_000;
const SHARDS = 256;
/** Two hours of a mote that speaks every 31 seconds: every window has readings in every pane it can have by then. */
const READINGS = 232;
const EVERY_MS = 31_000;
/** Two hours ago, so that nobody counts as silent. */
const T0 = Math.floor(Date.now() / 1000) * 1000 - (READINGS + 1) * EVERY_MS;

const scenario: Scenario = {
  name: 'resident',
  title: `${TWINS.toLocaleString('en-US')} motes with two hours behind them: bytes each, and back from snapshots`,
  async run(say) {
    const kinds = await loadKinds();
    const mote = kinds.get('mote');
    const out: Emitted[] = [];
    globalThis.gc?.();
    const before = process.memoryUsage();
    const activations: Activation[] = [];
    for (let i = 0; i < TWINS; i++) {
      const id = `R${i}`;
      const state = newState(mote, `mote:${id}`);
      // a twin in ten is folded from readings, the others start from a copy of its numbers
      if (i % 10 === 0) {
        for (let k = 0; k < READINGS; k++) {
          const at = T0 + k * EVERY_MS;
          const values = {
            temperature: 20 + Math.sin(k / 9),
            humidity: 45 + Math.cos(k / 7),
            light: 250 + (k % 3),
            voltage: 2.7 - k / 9_000,
          };
          fold(
            state,
            {
              type: 'reading',
              revision: state.n[H.REVISION] + 1,
              receivedAt: at,
              reading: { kind: 'mote', id, at, values },
            },
            out,
          );
          out.length = 0;
        }
      } else {
        const like = activations[i - (i % 10)].state;
        state.n.set(like.n);
        const recent = like.recent.toArray();
        for (let r = 0; r < recent.length; r += 3) state.recent.add(recent[r], recent[r + 1], recent[r + 2]);
      }
      activations.push(
        new Activation(shardOf(state.twinId, SHARDS) * 2 ** 32 + i + 1, state, { duplicates: 0, backfilled: 0 }, 0),
      );
    }
    globalThis.gc?.();
    const after = process.memoryUsage();
    const bytes = (after.heapUsed + after.external - before.heapUsed - before.external) / TWINS;

    const folder = temporaryFolder('resident');
    const sql = await Pglite.open({ dataDir: folder.path });
    const store = new PostgresStore(sql);
    await store.open(kinds.all(), SHARDS);
    say('storing snapshots');
    const rows = await store.claim(
      'bench',
      (await store.shards()).map(({ shard, owner, epoch }) => ({ shard, owner, epoch })),
    );
    const byShard = new Map<number, Activation[]>();
    for (const a of activations) {
      const shard = shardOf(a.twinId, SHARDS);
      byShard.set(shard, [...(byShard.get(shard) ?? []), a]);
    }
    for (const row of rows) {
      const mine = byShard.get(row.shard) ?? [];
      await store.commit({
        node: 'bench',
        shards: [{ ...row, clean: true }],
        readings: [],
        entries: [],
        events: [],
        snapshots: mine.map((a) => snapshotOf(row.shard, a, systemClock)),
        summaries: mine.map((a) => summaryOf(row.shard, a)),
        deadLetters: [],
        cursors: [],
      });
    }
    await store.release(
      'bench',
      rows.map(({ shard, epoch }) => ({ shard, epoch })),
    );
    const ids = activations.map(({ twinId }) => twinId);
    activations.length = 0;

    const log = new MemoryLog({ clock: systemClock, maxReadings: 200_000 });
    const host = new Host({
      node: 'bench',
      kinds,
      store,
      log,
      clock: systemClock,
      random: Math.random,
      shards: SHARDS,
      ttlMs: 60_000,
    });
    await host.start();
    while (host.status().shards.owned < SHARDS) await new Promise((resolve) => setTimeout(resolve, 5));
    const batches = new Map<number, string[]>();
    for (const id of ids) batches.set(shardOf(id, SHARDS), [...(batches.get(shardOf(id, SHARDS)) ?? []), id]);
    const took = await seconds(async () => {
      const done = [...batches].map(([shard, twins]) =>
        log.append({
          shard,
          id: `wake-${shard}`,
          receivedAt: Date.now(),
          readings: twins.map((twinId) => ({
            kind: 'mote',
            id: twinId.slice(5),
            at: T0 + READINGS * EVERY_MS,
            values: { temperature: 20 },
          })),
        }),
      );
      await Promise.all(done);
    });
    const { resident } = host.status().twins;
    if (resident !== TWINS) throw new Error(`${resident} of ${TWINS} twins are resident`);
    const view = await host.get(ids[0]);
    if (view.revision !== READINGS + 1) throw new Error(`revision ${view.revision}`);
    await host.stop();
    await sql.close();
    folder.remove();
    return [
      {
        what: 'a resident mote',
        value: bytes,
        unit: 'bytes',
        atMost: 8192,
        note: globalThis.gc ? 'heap and array buffers, after gc' : 'without gc: run node with --expose-gc',
      },
      {
        what: `${TWINS.toLocaleString('en-US')} motes resident again from snapshots, each with its next reading committed`,
        value: took,
        unit: 's',
        atMost: 20,
      },
    ];
  },
};
export default scenario;
