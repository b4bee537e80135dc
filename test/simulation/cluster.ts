import { MemoryLog } from '../../actors/log/memory.ts';
import type { Appended, Log, LogBatch } from '../../actors/log/port.ts';
import { type Random, seededRandom } from '../../actors/protocol/clock.ts';
import type { Tuning } from '../../actors/protocol/entry.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { Host } from '../../actors/runtime/host.ts';
import { registryOf } from '../../actors/runtime/kind-registry.ts';
import type { Cut, ShardRow, Store } from '../../actors/store/port.ts';
import type { Checker } from './checker.ts';
import { checkers } from './checkers/all.ts';
import { Process, Scheduler } from './clock.ts';
import { History } from './history.ts';
import { KINDS, killing, UNSTORABLE } from './kind.ts';
import { LogConnection, LogServer } from './log.ts';
import { ModelServer } from './model.ts';
import { Network } from './network.ts';
import { SinkConsumer } from './sink.ts';
import { connectStore, StoreServer } from './store.ts';
import { Trace } from './trace.ts';
import { Workload } from './workload.ts';

export interface ClusterOptions {
  hosts?: number;
  /** `memory`: one host and the log of one process, as the embedded default has it. */
  log?: 'durable' | 'memory';
  print?: (line: string) => void;
  /** Faults by name, all of them in every round; by default they are drawn. */
  only?: readonly string[];
}

export const SHARDS = 8;
export const TTL_MS = 2_000;
export const LATENESS_MS = 10_000;
const MAX_STEPS = 1_500_000;
const LOG_MAX_READINGS = 400;
/** How many hosts a cluster has, where nobody says. */
const HOSTS = [1, 2, 3, 3, 3, 3, 5];

/** One node: a process that can be replaced, and what runs in it. */
export interface Node {
  name: string;
  process: Process;
  host: Host;
  store: Store;
  log: Log;
  kinds: readonly Kind[];
}

/** A whole cluster in one line: hosts on one store and one log, devices, a sink, the checkers. A function of its seed. */
export function cluster(seed: number, options: ClusterOptions = {}): Cluster {
  return new Cluster(seed, options);
}

export class Cluster {
  readonly seed: number;
  readonly embedded: boolean;
  readonly only: readonly string[] | undefined;
  readonly random: Random;
  readonly scheduler = new Scheduler(MAX_STEPS);
  readonly trace: Trace;
  readonly network: Network;
  readonly store: StoreServer;
  readonly log: LogServer;
  /** Every other seed has models: the others show that twins without any are as they were. */
  readonly models: ModelServer | null;
  readonly history: History;
  readonly sink: SinkConsumer;
  readonly clients: Process;
  readonly workload: Workload;
  readonly checkers: readonly Checker[];
  readonly nodes = new Map<string, Node>();
  /** The version of the program that processes start with. */
  kinds: readonly Kind[] = KINDS;
  tuning: Tuning | null = null;
  /** Readings that vanished with the log before they were committed. */
  vanished = new Set<string>();
  /** What each process folds with. */
  readonly #kindsOf = new Map<Process, readonly Kind[]>();
  /** Room for nearly all twins of a host, or for hardly any. */
  readonly #residentBytes: number;
  readonly #passivateAfterMs: number;
  #names = 0;
  #processes = 0;

  constructor(seed: number, options: ClusterOptions) {
    this.seed = seed;
    this.embedded = options.log === 'memory';
    this.only = options.only;
    this.random = seededRandom(seed);
    this.#residentBytes = this.random() < 0.5 ? 24_000 : 6_000;
    this.#passivateAfterMs = this.random() < 0.5 ? 2_500 : 60_000;
    this.trace = new Trace(() => this.scheduler.time, options.print ?? null);
    this.network = new Network(this.scheduler, this.fork());
    this.history = new History(SHARDS, (checker, message) => this.trace.fail(checker, message));
    this.store = new StoreServer(KINDS, SHARDS, {
      beaten: (node) => {
        for (const checker of this.checkers) checker.onBeat?.(node);
      },
      claimed: (rows, node) => this.#claimed(rows, node),
      committed: (cut, landed, process) => this.#committed(cut, landed, process),
    });
    this.store.unstorable = (cut) =>
      cut.readings.some(({ values }) => values.load === UNSTORABLE) ? 'a row cannot be stored' : null;
    this.log = new LogServer(this.scheduler, SHARDS, LOG_MAX_READINGS);
    this.models = seed % 2 === 0 ? new ModelServer(this.network, seededRandom(seed ^ 0x0de1)) : null;
    this.clients = new Process('clients', this.scheduler, seed ^ 0x5eed);
    this.sink = new SinkConsumer(this);
    this.workload = new Workload(this, this.fork());
    this.checkers = checkers(this);
    killing.now = () => {
      const process = this.scheduler.running;
      const node = [...this.nodes.values()].find((n) => n.process === process);
      if (node) this.crash(node, 300 + this.random() * 700);
    };
    const hosts = this.embedded ? 1 : (options.hosts ?? HOSTS[Math.floor(this.random() * HOSTS.length)]);
    for (let i = 0; i < hosts; i++) this.start(this.newName());
  }

  fork(): Random {
    return seededRandom(Math.floor(this.random() * 2 ** 32));
  }

  newName(): string {
    return `n${++this.#names}`;
  }

  /** Starts a process and the host in it; one that cannot start is started again. */
  start(name: string): Node {
    const process = new Process(name, this.scheduler, this.seed * 1_000 + ++this.#processes);
    this.#kindsOf.set(process, this.kinds);
    const store = connectStore(this.store, this.network, process);
    const log = this.embedded
      ? new MemoryLog({ clock: process.clock, maxReadings: 60 })
      : new LogConnection(this.log, this.network, process);
    const tell = (level: string) => (fields: object, message: string) => {
      if (process.alive) this.trace.note(name, `${level} ${message} ${JSON.stringify(fields)}`);
      for (const checker of this.checkers) checker.onLog?.(node, message, fields as { [name: string]: unknown });
    };
    const host = new Host({
      node: name,
      kinds: registryOf(this.kinds),
      store,
      log,
      clock: process.clock,
      random: process.random,
      breathe: process.breathe,
      logger: { info: tell('info'), warn: tell('warn'), error: tell('error') },
      shards: SHARDS,
      ttlMs: TTL_MS,
      latenessMs: LATENESS_MS,
      cutMaxEntries: 40,
      tailMaxEntries: 60,
      passivateAfterMs: this.#passivateAfterMs,
      maxResidentBytes: this.#residentBytes,
      claimAtOnce: 3,
      ...(this.models ? { predictor: this.models.connect(process), predictionsPerSecond: 200 } : {}),
      predictionDeadlineMs: 6_000,
      onMoved: () => this.#tellOthers(process),
    });
    const node: Node = { name, process, host, store, log, kinds: this.kinds };
    this.nodes.set(name, node);
    this.trace.note(name, 'starts');
    host.addSink({ name: 'notify', deliver: (events) => this.sink.deliver(node, events) });
    if (this.tuning) for (const kind of this.kinds) host.setTuning(kind.kind, this.tuning);
    process.run(() => {
      host.start().catch((error) => {
        if (!process.alive) return;
        this.trace.note(name, `did not start: ${messageOf(error)}`);
        this.crash(node, 500);
      });
    });
    return node;
  }

  /** What the mesh broadcasts: that ownership has moved. Now and then it is lost. */
  #tellOthers(from: Process): void {
    if (!from.alive) return;
    for (const { process, host } of this.nodes.values()) {
      if (process === from || this.random() < 0.1) continue;
      this.scheduler.after(0.5 + this.random() * 3, () => process.run(() => host.nudge()));
    }
  }

  /** The process is gone at once; another one takes its place after a while. */
  crash(node: Node, restartMs: number, name = node.name): void {
    if (!node.process.alive) return;
    this.trace.note(node.name, 'dies');
    node.process.kill();
    if (node.log instanceof LogConnection) this.log.connections.delete(node.log);
    if (this.nodes.get(node.name) === node) this.nodes.delete(node.name);
    this.scheduler.after(restartMs, () => {
      if (!this.nodes.has(name)) this.start(name);
    });
  }

  /** Stops in order: drains, snapshots, releases. */
  async stop(node: Node): Promise<void> {
    this.trace.note(node.name, 'stops');
    await node.host.stop();
    this.trace.note(node.name, 'has stopped');
    if (!node.process.alive) return;
    node.process.kill();
    if (node.log instanceof LogConnection) this.log.connections.delete(node.log);
    if (this.nodes.get(node.name) === node) this.nodes.delete(node.name);
  }

  /** The live node that the database says owns a shard. */
  ownerOf(shard: number): Node | undefined {
    const { owner } = this.store.ledger.shards()[shard];
    return owner === null ? undefined : this.nodes.get(owner);
  }

  anyNode(random: Random): Node | undefined {
    const nodes = [...this.nodes.values()];
    return nodes[Math.floor(random() * nodes.length)];
  }

  /** Appends a batch as ingest does, from the clients' side. */
  append(batch: LogBatch): Promise<Appended> {
    if (!this.embedded) {
      const serve = (): Appended => ({ position: this.log.append(batch) });
      return this.network.request(this.clients, 'log', serve, 700);
    }
    const node = this.anyNode(() => 0);
    if (!node) return Promise.reject(new Error('no process is there'));
    return this.network.call(this.clients, node.process, () => node.log.append(batch), 1_200);
  }

  get broken(): boolean {
    return this.trace.broken !== null;
  }

  /** Lets simulated time pass, unless a promise breaks. */
  async run(forMs: number, done: () => boolean = () => false): Promise<void> {
    await this.scheduler.run(this.scheduler.time + forMs, () => this.broken || done());
  }

  #claimed(rows: readonly ShardRow[], node: string): void {
    for (const row of rows) {
      this.trace.note('store', `${node} claims shard ${row.shard} epoch ${row.epoch} attempts ${row.attempts}`);
      for (const checker of this.checkers) checker.onClaimed?.(row, node);
    }
  }

  #committed(cut: Cut, landed: ReadonlySet<number>, process: Process): void {
    const parts = cut.shards.map(
      (s) => `${s.shard}@${s.epoch}.${s.commitNo}>${s.position}${landed.has(s.shard) ? '' : ' fenced'}`,
    );
    this.trace.note('store', `${cut.node} commits ${parts.join(' ')} (${cut.readings.length} readings)`);
    try {
      this.history.take(cut, landed, this.scheduler.time, this.#kindsOf.get(process)!);
      for (const checker of this.checkers) checker.onCommitted?.(cut, landed, process);
    } catch (error) {
      // must not look like a commit that was aborted
      this.trace.fail('simulation', String(error instanceof Error ? error.stack : error));
    }
  }
}
