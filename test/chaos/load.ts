import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TwinView } from '../../actors/protocol/view.ts';
import { judge, type Verdict } from './checkers/all.ts';
import { type Asset, Ledger } from './ledger.ts';
import type { Mesh } from './mesh.ts';
import { HttpLane } from './senders/http.ts';
import { KafkaLane } from './senders/kafka.ts';
import { type Lane, Pace } from './senders/lane.ts';
import { MqttLane } from './senders/mqtt.ts';
import { NatsLane } from './senders/nats.ts';

/**
 * Devices that send to a mesh, people who look at twins, and the judgement of both: what a run and a demonstration share.
 *
 *  1  Views that were shown are compared with the oracle at their revision when the whole history is judged.
 *  2  Judgement looks at the database after all nodes have stopped in order, and at nothing that a node says of itself.
 */
export interface LoadOptions {
  assets: number;
  shards: number;
  /** Readings a second of all devices. */
  rate: number;
  random: () => number;
  print(line: string): void;
}

export interface Judgement {
  verdicts: Verdict[];
  stored: number;
  events: number;
}

const DRAIN_WITHIN_MS = 90_000;
/** A consumer of Kafka that lost it looks for it every 30 s. */
const ARRIVED_WITHIN_MS = 60_000;
/** What is more than was acknowledged (sent, and never answered) arrives within this. */
const SETTLED_MS = 2_500;
/** Longer than a failover: a read that waits for one is answered late rather than not at all. */
const VIEW_WITHIN_MS = 5_000;
const VIEW_TRIES = 2;
const EPOCH_BACK_MS = 12 * 3_600_000;

export class Load {
  readonly ledger: Ledger;
  /** Twins that nobody showed when asked for, tried twice. */
  unanswered = 0;
  asked = 0;
  readonly #mesh: Mesh;
  readonly #options: LoadOptions;
  readonly #lanes: Lane[];
  readonly #views = new Map<string, TwinView[]>();
  #sending: Promise<unknown> = Promise.resolve();

  constructor(mesh: Mesh, options: LoadOptions) {
    this.#mesh = mesh;
    this.#options = options;
    const baseMs = Math.floor((Date.now() - EPOCH_BACK_MS) / 3_600_000) * 3_600_000;
    this.ledger = new Ledger(options.assets, options.shards, join(mesh.folder, 'acknowledged'), baseMs);
    this.#lanes = this.#makeLanes();
  }

  start(): void {
    this.#sending = Promise.all(this.#lanes.map((lane) => lane.run()));
  }

  /** Asks for some twins as people do, at any gateway. */
  async look(count: number): Promise<void> {
    const { assets } = this.ledger;
    const some = new Set(
      Array.from({ length: count }, () => assets[Math.floor(this.#options.random() * assets.length)]),
    );
    await this.#show([...some]);
  }

  /** No new readings; everything acknowledged; everything committed; and a last look at every twin. */
  async rest(drainMs = DRAIN_WITHIN_MS, arriveMs = ARRIVED_WITHIN_MS): Promise<void> {
    for (const lane of this.#lanes) lane.stop();
    const late = await Promise.race([this.#sending.then(() => false), sleep(drainMs, true)]);
    if (late) {
      const open = this.#lanes.reduce((sum, lane) => sum + lane.waiting, 0);
      this.ledger.fault(`${open} readings were not acknowledged within ${drainMs} ms of rest`);
    }
    // Brokers and the log acknowledge before the commit: until all is in the history, or nothing more arrives for long.
    let before = -1;
    let sinceMs = performance.now();
    for (;;) {
      const count = await this.#stored();
      if (count !== before) sinceMs = performance.now();
      before = count;
      const stillMs = performance.now() - sinceMs;
      if (stillMs > (count >= this.ledger.acknowledged ? SETTLED_MS : arriveMs)) break;
      await sleep(1_000);
    }
    if (before < this.ledger.acknowledged)
      this.#options.print(`${before} of ${this.ledger.acknowledged} are stored, and no more for ${arriveMs} ms`);
    const { assets } = this.ledger;
    for (let i = 0; i < assets.length; i += 20) await this.#show(assets.slice(i, i + 20));
  }

  /** Stops the nodes in order and judges. */
  async judge(): Promise<Judgement> {
    for (const node of this.#mesh.nodes) {
      if (!node.running) continue;
      const code = await node.stop();
      if (code !== 0) this.#options.print(`${node.name} ended with ${code}`);
    }
    for (const [why, count] of this.ledger.refusals)
      this.#options.print(`senders tried again ${count} times after ${why}`);
    this.#options.print(
      `${this.asked} twins were asked for, ${this.unanswered} of them in vain, ${VIEW_WITHIN_MS} ms twice`,
    );
    this.#options.print('judging the history');
    const all: string[] = [];
    const judgement = await judge(this.#mesh.audit, this.ledger, this.#views, (violation) => all.push(violation));
    writeFileSync(join(this.#mesh.folder, 'violations'), all.map((violation) => `${violation}\n`).join(''));
    const { faults } = this.ledger;
    judgement.verdicts.push({ name: 'wrong answers', violations: faults.length, examples: faults.slice(0, 5) });
    await this.ledger.close();
    return judgement;
  }

  /** Each asset has one sender; over NATS and Kafka where they are. */
  #makeLanes(): Lane[] {
    const { ledger } = this;
    const { rate, random } = this.#options;
    const { servers } = this.#mesh;
    const mesh = this.#mesh;
    const gateways = {
      get key() {
        return mesh.key;
      },
      urls: () => mesh.urls(),
    };
    type Make = (assets: readonly Asset[], pace: Pace) => Lane;
    const http: Make = (...of) => new HttpLane(ledger, ...of, random).to(gateways);
    const mqtt: Make = (...of) => new MqttLane(ledger, ...of, random).to(servers.mosquitto.url);
    const { nats, kafka } = servers;
    const overNats: Make = nats === null ? http : (...of) => new NatsLane(ledger, ...of, random).to(nats.url);
    const overKafka: Make =
      kafka === null ? overNats : (...of) => new KafkaLane(ledger, ...of, random).to(kafka.brokers);
    const makes = [http, mqtt, http, mqtt, overNats, overKafka];
    return makes.map((make, number) => {
      const assets = ledger.assets.filter((_, i) => i % makes.length === number);
      const lane = make(assets, new Pace(rate / makes.length));
      for (const asset of assets) asset.way = lane.way;
      return lane;
    });
  }

  /** Rows of the history and of poisoned readings: as many as were acknowledged, once all are there. */
  async #stored(): Promise<number> {
    const [{ count }] = await this.#mesh.audit.query<{ count: number }>(
      `select (select count(*) from counter_readings)::int + (select count(distinct (twin_id, payload)) from dead_letters where code = 'poison')::int as count`,
    );
    return count;
  }

  async #show(assets: readonly Asset[]): Promise<void> {
    await Promise.all(
      assets.map(async ({ twinId }) => {
        const view = await this.#view(twinId);
        if (view !== null) this.#views.set(twinId, [...(this.#views.get(twinId) ?? []), view]);
      }),
    );
  }

  async #view(twinId: string): Promise<TwinView | null> {
    this.asked++;
    const urls = this.#mesh.urls();
    for (let i = 0; i < VIEW_TRIES; i++) {
      try {
        const url = urls[Math.floor(this.#options.random() * urls.length)];
        const answer = await fetch(`${url}/api/v1/twins/${twinId}`, {
          headers: { authorization: `Bearer ${this.#mesh.key}` },
          signal: AbortSignal.timeout(VIEW_WITHIN_MS),
        });
        const body = (await answer.json()) as { status: string; data: TwinView };
        // A view marked stale is what was last committed: at its revision it has to be as right as any.
        if (body.status === 'success') return body.data;
      } catch {
        // Another gateway.
      }
      await sleep(100);
    }
    this.unanswered++;
    return null;
  }
}
