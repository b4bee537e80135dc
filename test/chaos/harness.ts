import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import { judge, type Verdict } from './checkers/all.ts';
import { Draw } from './draw.ts';
import type { Fault, Scene } from './fault.ts';
import { possible } from './faults/all.ts';
import { Ledger } from './ledger.ts';
import { Mesh } from './mesh.ts';
import type { ChaosOptions } from './options.ts';
import type { Injected } from './record.ts';
import { allMoved, standing } from './recovery.ts';
import { HttpLane } from './senders/http.ts';
import { type Lane, Pace } from './senders/lane.ts';
import { MqttLane } from './senders/mqtt.ts';

/**
 * One run: a mesh under load, faults one after the other, rest, and judgement.
 *
 *  1  After each fault every shard has to commit again within PROGRESS_WITHIN_MS, or that is a violation.
 *  2  After each fault some twins are asked for as people ask; what they are shown is compared with the oracle at that
 *     revision when the whole history is judged.
 *  3  Judgement looks at the database after all nodes have stopped in order, and at nothing that a node says of itself.
 */
export const PROGRESS_WITHIN_MS = 30_000;
const DRAIN_WITHIN_MS = 90_000;
const VIEWS_A_FAULT = 8;
const VIEW_WITHIN_MS = 10_000;
const EPOCH_BACK_MS = 12 * 3_600_000;

export const COUNTERS = [
  'twinmesh_commits_total',
  'twinmesh_commits_fenced_total',
  'twinmesh_commits_aborted_total',
  'twinmesh_commits_unknown_total',
  'twinmesh_readings_duplicate_total',
  'twinmesh_readings_poison_total',
] as const;

export interface Outcome {
  injected: Injected[];
  verdicts: Verdict[];
  counters: Record<string, number>;
  acknowledged: number;
  byWay: ReadonlyMap<string, number>;
  sentTwice: number;
  outOfOrder: number;
  poison: number;
  takenBack: number;
  stored: number;
  events: number;
  /** Under faults. */
  minutes: number;
  network: string;
}

export async function runChaos(options: ChaosOptions, print: (line: string) => void): Promise<Outcome> {
  const random = seededRandom(options.seed);
  const mesh = await Mesh.start({
    hosts: options.nodes,
    ttlMs: options.ttlMs,
    shards: options.shards,
    ack: options.ack,
    servers: options.servers,
    withoutFence: options.withoutFence,
    print,
  });
  try {
    return await new Run(mesh, options, random, print).go();
  } finally {
    await mesh.close(options.keep);
  }
}

class Run {
  readonly #mesh: Mesh;
  readonly #options: ChaosOptions;
  readonly #random: () => number;
  readonly #print: (line: string) => void;
  readonly #ledger: Ledger;
  readonly #lanes: Lane[];
  readonly #injected: Injected[] = [];
  readonly #views = new Map<string, TwinView[]>();

  constructor(mesh: Mesh, options: ChaosOptions, random: () => number, print: (line: string) => void) {
    this.#mesh = mesh;
    this.#options = options;
    this.#random = random;
    this.#print = print;
    const baseMs = Math.floor((Date.now() - EPOCH_BACK_MS) / 3_600_000) * 3_600_000;
    this.#ledger = new Ledger(options.assets, options.shards, join(mesh.folder, 'acknowledged'), baseMs);
    this.#lanes = this.#makeLanes();
  }

  async go(): Promise<Outcome> {
    const { minutes, everyMs, shards, seed } = this.#options;
    const mesh = this.#mesh;
    const faults = possible({ mesh }, this.#options.faults);
    if (faults.length === 0) throw new Error('None of these faults can be done here; --list shows them.');
    this.#print(`${mesh.nodes.length} nodes by ${mesh.network.means}, ${faults.length} faults, seed ${seed}`);
    const sending = Promise.all(this.#lanes.map((lane) => lane.run()));
    const since = Date.now();
    if ((await allMoved(mesh.audit, shards, since, 60_000)) === null)
      throw new Error(`Shards do not move before any fault: ${await standing(mesh.audit, shards, since)}`);
    this.#print(`every shard has committed ${((Date.now() - since) / 1000).toFixed(1)} s after the first reading`);

    const draw = new Draw(faults, this.#random);
    const startedAt = performance.now();
    while (performance.now() - startedAt < minutes * 60_000) {
      await sleep(everyMs * this.#random());
      await this.#inject(draw.next());
    }
    const lasted = (performance.now() - startedAt) / 60_000;
    const counters = await mesh.counters(COUNTERS);
    await this.#rest(sending);
    for (const node of mesh.nodes) {
      const code = await node.stop();
      if (code !== 0) this.#print(`${node.name} ended with ${code}`);
    }
    for (const [why, count] of this.#ledger.refusals) this.#print(`HTTP senders tried again ${count} times after ${why}`);
    this.#print('judging the history');
    const { verdicts, stored, events } = await judge(mesh.audit, this.#ledger, this.#views);
    const { ledger } = { ledger: this.#ledger };
    await ledger.close();
    const stuck = this.#injected.filter((one) => one.failed === null && one.settledMs === null);
    verdicts.push(
      {
        name: 'stuck shards',
        violations: stuck.length,
        examples: stuck.map((one) => `${one.fault.name} on ${one.fault.target}: ${one.detail}`).slice(0, 5),
      },
      { name: 'wrong answers', violations: ledger.faults.length, examples: ledger.faults.slice(0, 5) },
    );
    return {
      injected: this.#injected,
      verdicts,
      counters,
      acknowledged: ledger.acknowledged,
      byWay: ledger.byWay,
      sentTwice: ledger.sentTwice,
      outOfOrder: ledger.outOfOrder,
      poison: ledger.poisonSent,
      takenBack: ledger.takenBack,
      stored,
      events,
      minutes: lasted,
      network: mesh.network.means,
    };
  }

  /** Half over HTTP, half over MQTT; each asset has one sender. */
  #makeLanes(): Lane[] {
    const { assets } = this.#ledger;
    const pace = () => new Pace(this.#options.rate / 6);
    const lanes: Lane[] = [];
    const of = (number: number) => assets.filter((_, i) => i % 6 === number);
    const mesh = this.#mesh;
    const gateways = {
      get key() {
        return mesh.key;
      },
      urls: () => mesh.urls(),
    };
    for (const number of [0, 1, 2]) lanes.push(new HttpLane(this.#ledger, of(number), pace(), this.#random).to(gateways));
    for (const number of [3, 4, 5])
      lanes.push(new MqttLane(this.#ledger, of(number), pace(), this.#random).to(mesh.servers.mosquitto.url));
    for (const lane of lanes) for (const asset of lane.assets) asset.way = lane.way;
    return lanes;
  }

  async #inject(fault: Fault): Promise<void> {
    const mesh = this.#mesh;
    const { shards } = this.#options;
    const scene: Scene = { mesh, ledger: this.#ledger, random: this.#random };
    const begunAt = Date.now();
    const injecting = fault.inject(scene).then(
      (detail) => ({ detail, failed: null, endedAt: Date.now() }),
      (error) => ({ detail: '', failed: messageOf(error), endedAt: Date.now() }),
    );
    let over = false;
    const recovering = allMoved(mesh.audit, shards, begunAt, 120_000, () => over);
    const { detail, failed, endedAt } = await injecting;
    const settledMs = failed === null ? await allMoved(mesh.audit, shards, endedAt, PROGRESS_WITHIN_MS) : null;
    over = true;
    const recoveredMs = await recovering;
    const injected: Injected = {
      fault,
      detail,
      means: fault.means?.(scene) ?? null,
      lastedMs: endedAt - begunAt,
      recoveredMs: recoveredMs ?? (settledMs === null ? null : settledMs + endedAt - begunAt),
      settledMs,
      failed,
    };
    this.#injected.push(injected);
    await this.#look();
    const counters = await mesh.counters(COUNTERS);
    const number = this.#injected.length.toString().padStart(3);
    const recovered = injected.recoveredMs === null ? 'never' : `${(injected.recoveredMs / 1000).toFixed(1)} s`;
    this.#print(
      `${number} ${fault.target.padEnd(9)} ${fault.name.padEnd(30)} ${(failed ?? detail).slice(0, 200).padEnd(34)} back after ${recovered}; ` +
        `${this.#ledger.acknowledged} acknowledged, ${counters.twinmesh_commits_fenced_total} fenced`,
    );
    if (failed === null && settledMs === null)
      this.#print(`    stand still: shards ${(await standing(mesh.audit, shards, endedAt)).join(', ')}`);
  }

  /** Asks for some twins as people do, at any gateway. */
  async #look(assets = this.#sample()): Promise<void> {
    await Promise.all(
      assets.map(async ({ twinId }) => {
        const view = await this.#view(twinId);
        if (view !== null) this.#views.set(twinId, [...(this.#views.get(twinId) ?? []), view]);
      }),
    );
  }

  #sample() {
    const { assets } = this.#ledger;
    return Array.from({ length: VIEWS_A_FAULT }, () => assets[Math.floor(this.#random() * assets.length)]).filter(
      (asset, i, all) => all.indexOf(asset) === i,
    );
  }

  async #view(twinId: string): Promise<TwinView | null> {
    const urls = this.#mesh.urls();
    for (let i = 0; i < 3; i++) {
      try {
        const answer = await fetch(`${urls[Math.floor(this.#random() * urls.length)]}/api/v1/twins/${twinId}`, {
          headers: { authorization: `Bearer ${this.#mesh.key}` },
          signal: AbortSignal.timeout(VIEW_WITHIN_MS),
        });
        const body = (await answer.json()) as { status: string; data: TwinView };
        // A view marked stale is what was last committed: at its revision it has to be as right as any.
        if (body.status === 'success') return body.data;
      } catch {
        // Another gateway.
      }
      await sleep(200);
    }
    return null;
  }

  /** No new readings; everything acknowledged; everything committed; and a last look at every twin. */
  async #rest(sending: Promise<unknown>): Promise<void> {
    this.#print('no more faults; waiting until everything is acknowledged');
    for (const lane of this.#lanes) lane.stop();
    const late = await Promise.race([sending.then(() => false), sleep(DRAIN_WITHIN_MS, true)]);
    if (late) {
      const open = this.#lanes.reduce((sum, lane) => sum + lane.waiting, 0);
      this.#ledger.fault(`${open} readings were not acknowledged within ${DRAIN_WITHIN_MS} ms of rest`);
    }
    // Mosquitto and the log acknowledge before the commit: until nothing more arrives in the history.
    let before = -1;
    for (let same = 0; same < 3; ) {
      const [{ count }] = await this.#mesh.audit.query<{ count: number }>(
        'select count(*)::int as count from counter_readings',
      );
      same = count === before ? same + 1 : 0;
      before = count;
      await sleep(1_000);
    }
    for (let i = 0; i < this.#ledger.assets.length; i += 20) await this.#look(this.#ledger.assets.slice(i, i + 20));
  }
}
