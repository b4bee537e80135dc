import type { Random } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import { TelemetryNeverWaits } from './checkers/p5-telemetry-never-waits.ts';
import { type Cluster, LATENESS_MS, type Node, TTL_MS } from './cluster.ts';
import { NEXT_KINDS } from './kind.ts';
import type { Mode } from './model.ts';
import type { Cutting } from './network.ts';

/** A kind of bad luck: begins, and what it leaves behind is undone when the round ends. */
interface Fault {
  name: string;
  /** Whether it makes sense with one process and the log inside it. */
  embedded: boolean;
  /** Only where there are models. */
  models?: boolean;
  /** How often it is drawn beside the others; default 1. */
  weight?: number;
  begin(f: Faults): void;
}

const FAULTS: readonly Fault[] = [
  { name: 'crash', embedded: true, weight: 2, begin: (f) => f.often(1_500, () => f.crash()) },
  { name: 'pause', embedded: true, weight: 3, begin: (f) => f.often(2_500, () => f.pause()) },
  { name: 'store partition', embedded: true, weight: 2, begin: (f) => f.partition('store') },
  { name: 'log partition', embedded: false, begin: (f) => f.partition('log') },
  { name: 'client partition', embedded: true, begin: (f) => f.partition('clients') },
  { name: 'clock jump', embedded: true, begin: (f) => f.often(1_500, () => f.jump()) },
  { name: 'bad connections', embedded: true, weight: 3, begin: (f) => f.weather('store') },
  { name: 'bad network', embedded: true, begin: (f) => f.everywhere() },
  { name: 'aborts', embedded: true, begin: (f) => f.abort() },
  { name: 'store down', embedded: true, begin: (f) => f.refuse() },
  { name: 'log goes back', embedded: false, weight: 2, begin: (f) => f.often(2_000, () => f.goBack()) },
  { name: 'sink', embedded: true, begin: (f) => f.sink() },
  { name: 'poison', embedded: true, begin: (f) => f.danger('poison', 0.03) },
  { name: 'killer', embedded: true, begin: (f) => f.danger('killer', 0.02) },
  { name: 'unstorable', embedded: true, begin: (f) => f.danger('unstorable', 0.03) },
  { name: 'rebalance', embedded: true, begin: (f) => f.often(1_500, () => f.rebalance()) },
  { name: 'join', embedded: false, begin: (f) => f.often(2_500, () => f.join()) },
  { name: 'drain', embedded: false, begin: (f) => f.often(1_500, () => f.drain()) },
  { name: 'upgrade', embedded: true, begin: (f) => f.upgrade() },
  { name: 'tuning', embedded: true, begin: (f) => f.tune() },
  { name: 'retirement', embedded: true, begin: (f) => f.retire() },
  { name: 'inference', embedded: true, models: true, weight: 6, begin: (f) => f.inference() },
];

/** The bad luck of one run, round by round. Everything in it is a function of the seed. */
export class Faults {
  readonly names: string[] = [];
  lengthMs = 0;
  readonly #cluster: Cluster;
  readonly #random: Random;
  /** Moves with each round: what belongs to an older one stops. */
  #round = 0;
  #active = false;
  #version = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#random = cluster.fork();
  }

  /** Draws the faults of a round: none, one, or several that overlap. */
  begin(): void {
    this.#round++;
    this.#active = true;
    this.lengthMs = 2_500 + this.#random() * 5_000;
    const { embedded, models } = this.#cluster;
    const possible = FAULTS.filter((f) => (f.embedded || !embedded) && (!f.models || models !== null));
    const likely = possible.flatMap((fault) => new Array<Fault>(fault.weight ?? 1).fill(fault));
    const count = this.#draw([1, 1, 2, 2, 3]);
    const chosen = new Set<Fault>(possible.filter(({ name }) => this.#cluster.only?.includes(name)));
    while (chosen.size < count && !this.#cluster.only) chosen.add(this.#draw(likely));
    for (const fault of chosen) {
      this.names.push(fault.name);
      this.#cluster.trace.note('faults', `begin ${fault.name}`);
      fault.begin(this);
    }
    const luxury = this.names.at(-1) === 'sink' || this.names.at(-1) === 'inference';
    if (chosen.size === 1 && luxury) this.#calm(this.#cluster.scheduler.time);
  }

  /** Heals what can be healed; processes that are down come back by themselves. */
  end(): void {
    this.#active = false;
    const { network, store, sink, log, models, nodes, workload, trace } = this.#cluster;
    trace.note('faults', 'end');
    this.#calm(null);
    network.heal();
    store.refusal = () => null;
    store.down = false;
    sink.down = false;
    sink.slowMs = 0;
    if (models) models.mode = 'fine';
    log.wallOffsetMs = 0;
    for (const { process } of nodes.values()) process.wallOffsetMs = 0;
    for (const { process, host } of nodes.values()) process.run(() => void host.undrain());
    for (const node of this.#outdated()) this.#cluster.crash(node, 200);
    workload.danger.poison = 0;
    workload.danger.killer = 0;
    workload.danger.unstorable = 0;
    workload.retiring = false;
  }

  /** Again and again while the round lasts, about every `everyMs`. */
  often(everyMs: number, what: () => void): void {
    const round = this.#round;
    const again = (): void => {
      if (!this.#active || round !== this.#round) return;
      what();
      this.#cluster.scheduler.after(everyMs * (0.3 + 1.4 * this.#random()), again);
    };
    this.#cluster.scheduler.after(this.#random() * 500, again);
  }

  crash(): void {
    const node = this.#node();
    if (!node) return;
    const name = this.#random() < 0.5 ? node.name : this.#cluster.newName();
    this.#cluster.crash(node, 100 + this.#random() * 3_000, name);
  }

  /** From a hiccup to twice the ttl. */
  pause(): void {
    const node = this.#node();
    if (!node) return;
    const forMs = this.#random() < 0.4 ? this.#random() * 800 : this.#random() * 2 * TTL_MS + 500;
    this.#cluster.trace.note(node.name, `stands still for ${Math.round(forMs)} ms`);
    node.process.pause(forMs);
    // in the moment in which it goes on it knows least
    const { scheduler, workload } = this.#cluster;
    for (let ms = 1; ms < 25; ms++) scheduler.after(forMs + ms, () => workload.askStrangers());
  }

  partition(from: 'store' | 'log' | 'clients'): void {
    this.often(2_000, () => {
      const { network, trace } = this.#cluster;
      const node = this.#node();
      if (!node) return;
      const how = this.#draw<Cutting>(['both', 'there', 'back']);
      trace.note('network', `${node.name} and ${from} are cut: ${how}`);
      network.cut(node.name, from, how);
      if (this.#random() < 0.5)
        this.#cluster.scheduler.after(this.#random() * 3_000, () => network.mend(node.name, from));
    });
  }

  jump(): void {
    const { log, trace } = this.#cluster;
    const byMs = (this.#random() - 0.5) * this.#draw([2_000, 20_000, 7_200_000]);
    if (this.#random() < 0.2) {
      // less than the margin that is read again when a log went back
      log.wallOffsetMs = (this.#random() - 0.5) * LATENESS_MS * 0.5;
      return;
    }
    const node = this.#node();
    if (!node) return;
    trace.note(node.name, `its clock jumps by ${Math.round(byMs)} ms`);
    node.process.wallOffsetMs = byMs;
  }

  /** Connections to a server break, answers are late, requests arrive twice or long after. */
  weather(server: string): void {
    const longest = this.#draw([20, 200, 700]);
    this.#cluster.network.weather.set(server, {
      delayMs: [0.5, longest],
      loss: this.#random() * 0.05,
      duplicate: this.#random() * 0.1,
      broken: this.#random() * 0.15,
      lateMs: this.#draw([500, 3_000, 8_000]),
    });
  }

  everywhere(): void {
    for (const place of ['store', 'log', 'clients', 'sink']) this.weather(place);
    if (this.#cluster.models) this.weather('inference');
  }

  /** Cuts that are large, or of several shards, are aborted: small ones pass, so no reading is to blame. */
  abort(): void {
    const most = this.#draw([1, 2, 4]);
    const chance = this.#draw([0.2, 1]);
    this.#cluster.store.refusal = ({ readings }) =>
      readings.length > most && this.#random() < chance ? `more than ${most} readings are too much` : null;
  }

  /** The store answers that it cannot: disk full, restarting, out of connections. */
  refuse(): void {
    this.often(1_500, () => {
      this.#cluster.store.down = this.#random() < 0.5;
    });
  }

  goBack(): void {
    const { log, workload, trace } = this.#cluster;
    const lost = log.goBack(1 + Math.floor(this.#random() * 12));
    trace.note('log', `went back to ${log.last}, losing ${lost.length} messages`);
    workload.vanished(lost);
  }

  sink(): void {
    const { sink } = this.#cluster;
    if (this.#random() < 0.5) sink.down = true;
    else sink.slowMs = 200 + this.#random() * 3_000;
  }

  /** Models are away, silent, slow, or say what is no answer; some change their ways. */
  inference(): void {
    this.often(2_500, () => {
      const { models, trace } = this.#cluster;
      if (!models) return;
      models.mode = this.#draw<Mode>(['down', 'hangs', 'hangs', 'slow', 'babbles', 'refuses']);
      models.slowMs = 100 + this.#random() * 3_000;
      trace.note('inference', `it ${models.mode}`);
    });
  }

  danger(what: 'poison' | 'killer' | 'unstorable', chance: number): void {
    this.#cluster.workload.danger[what] = chance;
  }

  rebalance(): void {
    const { nodes, embedded } = this.#cluster;
    if (embedded || (nodes.size > 1 && this.#random() < 0.6)) {
      const node = this.#node();
      if (!node) return;
      void this.#cluster
        .stop(node)
        .catch((error) => this.#cluster.trace.note(node.name, `did not stop: ${messageOf(error)}`))
        .finally(() => {
          const name = this.#random() < 0.5 ? node.name : this.#cluster.newName();
          if (nodes.size < 3 && !nodes.has(name)) this.#cluster.start(name);
        });
    } else if (nodes.size < 4) this.#cluster.start(this.#cluster.newName());
  }

  /** One more host, under load. */
  join(): void {
    if (this.#cluster.nodes.size < 6) this.#cluster.start(this.#cluster.newName());
  }

  /** A host gives up all that it has and goes on living; some take their share again before the round ends, and some while they still give it up. */
  drain(): void {
    const node = this.#node();
    if (!node) return;
    this.#cluster.trace.note(node.name, 'is to drain');
    node.process.run(() => void node.host.drain());
    if (this.#random() < 0.3) return;
    this.#cluster.scheduler.after(this.#random() * 2_000, () => node.process.run(() => void node.host.undrain()));
  }

  /** Processes are replaced, one after the other, by the next version of the program; some by a crash, some in order. */
  upgrade(): void {
    this.#cluster.kinds = NEXT_KINDS;
    this.often(1_000, () => {
      const old = this.#outdated();
      if (old.length > 0) this.#replace(this.#draw(old));
    });
  }

  #outdated(): Node[] {
    return [...this.#cluster.nodes.values()].filter(({ kinds }) => kinds !== this.#cluster.kinds);
  }

  #replace(node: Node): void {
    if (this.#random() < 0.6) this.#cluster.crash(node, 100 + this.#random() * 500);
    else
      void this.#cluster.stop(node).finally(() => this.#cluster.nodes.has(node.name) || this.#cluster.start(node.name));
  }

  tune(): void {
    this.often(2_000, () => {
      this.#version++;
      const rules = { hot: { above: 60 + Math.floor(this.#random() * 40), enabled: this.#random() < 0.8 } };
      const tuning = { version: this.#version, latenessMs: this.#draw([LATENESS_MS, 5_000, 15_000]), rules };
      this.#cluster.tuning = tuning;
      for (const { process, host } of this.#cluster.nodes.values()) {
        process.run(() => {
          for (const { kind } of this.#cluster.kinds) host.setTuning(kind, tuning);
        });
      }
    });
  }

  retire(): void {
    this.#cluster.workload.retiring = true;
  }

  #calm(since: number | null): void {
    for (const checker of this.#cluster.checkers) if (checker instanceof TelemetryNeverWaits) checker.calmSince = since;
  }

  #node(): Node | undefined {
    return this.#cluster.anyNode(this.#random);
  }

  #draw<T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)];
  }
}
