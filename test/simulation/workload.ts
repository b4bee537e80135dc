import type { LogMessage } from '../../actors/log/port.ts';
import type { Random } from '../../actors/protocol/clock.ts';
import type { Command } from '../../actors/protocol/entry.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { shardOf, twinIdOf } from '../../actors/protocol/twin-id.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import type { Cluster, Node } from './cluster.ts';
import { SHARDS } from './cluster.ts';
import { type Danger, Device } from './device.ts';
import { identityText } from './history.ts';

/** What a source has said under one identity, and what it was told about it. */
export interface Sent {
  twinId: string;
  identity: string;
  at: number;
  /** All values sent under it; more than one where a conflicting duplicate was sent. */
  variants: string[];
  acknowledged: boolean;
  /** Lost with the log before it was committed: nobody's fault. */
  vanished: boolean;
  /** Folding or storing it fails. */
  bad: boolean;
}

const DEVICES = 7;
const CLIENTS = 3;
const RETRIES = 40;

/** Sources and clients: devices that send, retry and fall silent; people who read and command. */
export class Workload {
  readonly devices: Device[] = [];
  readonly danger: Danger = { poison: 0, killer: 0, unstorable: 0 };
  readonly sent = new Map<string, Sent>();
  running = false;
  /** Batches that are neither acknowledged nor given up, and operations of clients under way. */
  outstanding = 0;
  /** Commands that retire twins are sent too. */
  retiring = false;
  /** Every operation of clients goes to any node, not to the owner. */
  lost = false;
  readonly #cluster: Cluster;
  readonly #random: Random;
  /** Client and shard → the node it asked last. */
  readonly #routes = new Map<string, Node>();
  readonly #pending = new Map<number, Reading[]>();
  /** Moves with each start: what was started before ends. */
  #round = 0;
  #messages = 0;
  #keys = 0;

  constructor(cluster: Cluster, random: Random) {
    this.#cluster = cluster;
    this.#random = random;
    for (let i = 0; i < DEVICES; i++) {
      this.devices.push(new Device(i, random, this.danger, cluster.models !== null));
    }
  }

  start(): void {
    this.running = true;
    const round = ++this.#round;
    const { scheduler } = this.#cluster;
    for (const device of this.devices) scheduler.after(this.#random() * 300, () => this.#speak(device, round));
    for (let client = 0; client < CLIENTS; client++)
      scheduler.after(this.#random() * 500, () => this.#act(client, round));
    scheduler.after(50, () => this.#flush(round));
    scheduler.after(25, () => this.#askStrangers(round));
  }

  stop(): void {
    this.running = false;
  }

  /** Nothing of it is under way. */
  get idle(): boolean {
    return this.outstanding === 0 && this.#pending.size === 0;
  }

  /** Messages that went with the log; what of them was committed before stands. */
  vanished(messages: readonly LogMessage[]): void {
    for (const { readings } of messages) {
      for (const reading of readings) {
        const sent = this.sent.get(sentKey(reading));
        if (sent) sent.vanished = true;
      }
    }
  }

  // ── devices ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #speak(device: Device, round: number): void {
    if (!this.running || round !== this.#round) return;
    const { scheduler, clients } = this.#cluster;
    for (const reading of device.speak(clients.clock.now())) {
      this.#remember(reading);
      const shard = shardOf(twinIdOf(reading.kind, reading.id), SHARDS);
      const pending = this.#pending.get(shard);
      if (pending) pending.push(reading);
      else this.#pending.set(shard, [reading]);
    }
    scheduler.after(device.pauseMs(), () => this.#speak(device, round));
  }

  #remember(reading: Reading): void {
    const name = sentKey(reading);
    const values = valuesText(reading.values);
    const sent = this.sent.get(name);
    if (sent) {
      if (!sent.variants.includes(values)) sent.variants.push(values);
      return;
    }
    this.sent.set(name, {
      twinId: twinIdOf(reading.kind, reading.id),
      identity: identityText(reading.at, reading),
      at: reading.at,
      variants: [values],
      acknowledged: false,
      vanished: false,
      bad: Device.isBad(reading),
    });
  }

  #flush(round: number): void {
    for (const [shard, readings] of this.#pending) void this.#publish(shard, readings);
    this.#pending.clear();
    if (this.running && round === this.#round)
      this.#cluster.scheduler.after(60 + this.#random() * 120, () => this.#flush(round));
  }

  /** Sends a batch until it is acknowledged: the same readings, sometimes as the same message, sometimes as another one. */
  async #publish(shard: number, readings: readonly Reading[]): Promise<void> {
    this.outstanding++;
    const { clients, network } = this.#cluster;
    let id = `m${++this.#messages}`;
    for (let attempt = 0; attempt < RETRIES; attempt++) {
      try {
        const receivedAt = clients.clock.now();
        const appended = await this.#cluster.append({
          shard,
          id,
          receivedAt,
          readings: structuredClone([...readings]),
        });
        for (const [i, reading] of readings.entries()) {
          const outcome = appended.outcomes?.[i] ?? null;
          const sent = this.sent.get(sentKey(reading))!;
          sent.acknowledged = true;
          for (const checker of this.#cluster.checkers) checker.onAcknowledged?.(sent, outcome);
        }
        break;
      } catch {
        if (this.#random() < 0.5) id = `m${++this.#messages}`;
        await new Promise<void>((resolve) => network.scheduler.after(100 + this.#random() * 900, resolve));
      }
    }
    this.outstanding--;
  }

  // ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #act(client: number, round: number): void {
    if (!this.running || round !== this.#round) return;
    const device = this.devices[Math.floor(this.#random() * this.devices.length)];
    this.outstanding++;
    const acting = this.#random() < 0.7 ? this.#read(client, device.twinId) : this.#command(client, device.twinId);
    void acting.finally(() => {
      this.outstanding--;
      this.#cluster.scheduler.after(20 + this.#random() * 250, () => this.#act(client, round));
    });
  }

  /** Where a client believes the twin to be: it looks again only when it was refused, or now and then. */
  #askStrangers(round: number): void {
    if (!this.running || round !== this.#round) return;
    this.#cluster.scheduler.after(25, () => this.#askStrangers(round));
    this.askStrangers();
  }

  /** Asks those who should not answer: nodes that do not own the twin any more, next to the process, without a network. */
  askStrangers(): void {
    const { scheduler, nodes, store, history, checkers } = this.#cluster;
    const rows = store.ledger.shards();
    for (const node of nodes.values()) {
      if (node.process.paused) continue;
      for (const { twinId, shard } of history.twins.values()) {
        if (rows[shard].owner === node.name || !node.host.custody.shards.has(shard)) continue;
        const askedAt = scheduler.time;
        node.process.run(() => {
          node.host.get(twinId).then(
            (view) => {
              if (!node.process.alive) return;
              for (const checker of checkers) checker.onRead?.({ client: -1, twinId, view, askedAt, node });
            },
            () => {},
          );
        });
      }
    }
  }

  #route(client: number, twinId: string): Node | undefined {
    if (this.#random() < 0.15) return this.#cluster.anyNode(this.#random);
    const shard = shardOf(twinId, SHARDS);
    const name = `${client} ${shard}`;
    const known = this.#routes.get(name);
    if (known && this.#random() < 0.9 && this.#cluster.nodes.get(known.name) === known) return known;
    const owner = this.#cluster.ownerOf(shard);
    if (owner) this.#routes.set(name, owner);
    return owner;
  }

  #refused(client: number, twinId: string): void {
    if (this.#random() < 0.7) this.#routes.delete(`${client} ${shardOf(twinId, SHARDS)}`);
  }

  async #read(client: number, twinId: string): Promise<void> {
    const { network, clients, scheduler, checkers } = this.#cluster;
    const node = this.#route(client, twinId);
    if (!node) return;
    const askedAt = scheduler.time;
    let view: TwinView | null;
    try {
      view = await network.call(clients, node.process, () => node.host.get(twinId), 1_000);
    } catch (error) {
      if (!(error instanceof TwinmeshError) || error.code !== 'not_found') {
        this.#refused(client, twinId);
        return;
      }
      view = null;
    }
    for (const checker of checkers) checker.onRead?.({ client, twinId, view, askedAt, node });
  }

  async #command(client: number, twinId: string): Promise<void> {
    const { network, clients, scheduler, checkers } = this.#cluster;
    const key = `k${++this.#keys}`;
    const command = this.#chooseCommand(twinId, key);
    if (!command) return;
    let refused = true;
    for (let attempt = 0; attempt < 6; attempt++) {
      const node = this.#route(client, twinId);
      if (node) {
        try {
          const ask = () => node.host.command(twinId, command, { deadlineMs: 2_000, create: this.#random() < 0.5 });
          const result = await network.call(clients, node.process, ask, 1_200);
          for (const checker of checkers) checker.onCommand?.({ twinId, key, result, refused: false });
          return;
        } catch (error) {
          if (error instanceof TwinmeshError && FINAL.has(error.code)) break;
          refused = false;
          this.#refused(client, twinId);
        }
      }
      await new Promise<void>((resolve) => scheduler.after(100 + this.#random() * 500, resolve));
    }
    for (const checker of checkers) checker.onCommand?.({ twinId, key, result: null, refused });
  }

  #chooseCommand(twinId: string, key: string): Command | null {
    const header = { key, by: 'somebody' };
    const draw = this.#random();
    const standing = this.#cluster.history.twins.get(twinId)?.oracle.expected().alerts[0]?.alertId;
    if (standing && draw < 0.6) {
      if (draw < 0.25) return { ...header, name: 'acknowledge', alert: standing };
      if (draw < 0.45) return { ...header, name: 'resolve', alert: standing };
      return { ...header, name: 'silence', alert: standing, untilMs: this.#cluster.clients.clock.now() + 5_000 };
    }
    if (draw < 0.3)
      return { ...header, name: 'desired', patch: { setpoint: Math.floor(this.#random() * 5), mode: key } };
    if (draw < 0.5) return { ...header, name: 'attributes', patch: { place: `p${Math.floor(this.#random() * 4)}` } };
    if (draw < 0.6) return { ...header, name: 'attributes', patch: { place: null } };
    if (draw < 0.8)
      return { ...header, name: 'maintenance', work: `work ${key}`, at: this.#cluster.clients.clock.now() };
    if (draw < 0.88) return { ...header, name: 'offline', reason: 'last will' };
    if (!this.retiring) return null;
    return { ...header, name: this.#random() < 0.5 ? 'retire' : 'restore' };
  }
}

/** Refusals that say that the command has not been carried out. */
const FINAL = new Set(['conflict', 'not_found', 'retired', 'precondition_failed', 'bad_request']);

export function sentKey(reading: Reading): string {
  return `${reading.kind}:${reading.id} ${identityText(reading.at, reading)}`;
}

export function valuesText(values: Record<string, number>): string {
  return Object.keys(values)
    .sort()
    .map((name) => `${name}=${values[name]}`)
    .join(' ');
}
