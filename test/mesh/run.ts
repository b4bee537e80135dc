import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import { Load } from '../chaos/load.ts';
import { Mesh } from '../chaos/mesh.ts';
import type { ChaosNode } from '../chaos/node.ts';
import { type NodeFacts, tableText } from './table.ts';

/**
 * `npm run mesh`: a mesh of several nodes on this machine to look at and to hurt, over servers of its own.
 *
 *  1  At the end, however it ends, the history is judged as in `npm run chaos`, and nothing of it stays on the machine.
 *  2  Without a terminal it prints a table every ten seconds and takes no keys.
 */
const HELP = `A mesh of several nodes on this machine, under load from devices that count.

  npm run mesh -- --nodes 3             until q (or --minutes N)
  npm run mesh -- --nodes 3 --chaos     it kills, pauses, drains and adds nodes by itself, and prints the proof

  --nodes N      nodes, each with every role (3)      --rate N    readings a second from the devices (300)
  --minutes N    ends by itself (--chaos: 2)          --seed N    chooses what --chaos does
  --keep         leaves the folder with logs

PostgreSQL, NATS and Mosquitto are started from what is installed here; each says what is missing if it cannot be.
`;
const KEYS = 'a add a node   k kill -9 one   p pause one 4 s   d drain one   q quit';
const SHARDS = 64;
const ASSETS = 240;
const TTL_MS = 2_000;
const PAUSE_MS = 4_000;
const LOOK_EVERY_MS = 1_000;
const PRINT_EVERY = 10;

class Demonstration {
  readonly #mesh: Mesh;
  readonly #load: Load;
  readonly #random: () => number;
  readonly #happened: string[] = [];
  readonly #folded = new Map<string, { at: number; readings: number }>();
  readonly #startedAt = performance.now();
  #next: number;
  #facts = new Map<string, NodeFacts>();
  #rates = new Map<string, number>();
  #alerts = 0;
  over = false;

  constructor(mesh: Mesh, load: Load, random: () => number) {
    this.#mesh = mesh;
    this.#load = load;
    this.#random = random;
    this.#next = mesh.nodes.length + 1;
  }

  /** One key, or what --chaos does in its place. */
  async act(key: string): Promise<void> {
    const acts: Record<string, () => Promise<void>> = {
      a: () => this.#add(),
      k: () => this.#kill(),
      p: () => this.#pause(),
      d: () => this.#drain(),
    };
    if (key === 'q' || key === '\u0003') this.over = true;
    await acts[key]?.().catch((error) => this.#tell(messageOf(error)));
  }

  /** Looks at everything once; answers the text to show. */
  async look(interactive: boolean): Promise<string> {
    const gateway = this.#alive()[0] ?? null;
    if (gateway) await this.#ask(gateway).catch(() => undefined);
    const { nodes, key } = this.#mesh;
    return tableText({
      nodes,
      facts: this.#facts,
      rates: this.#rates,
      alerts: this.#alerts,
      acknowledged: this.#load.ledger.acknowledged,
      gateway: gateway?.url ?? null,
      key,
      keys: interactive ? KEYS : '',
      happened: interactive ? this.#happened : [],
    });
  }

  /** Brings back what is down, so that the end is judged over a whole mesh. */
  async heal(): Promise<void> {
    for (const node of this.#mesh.nodes) {
      if (node.paused) node.signal('SIGCONT');
      if (!node.running) node.start();
    }
    await Promise.all(this.#mesh.nodes.map((node) => node.ready()));
  }

  async #ask(gateway: ChaosNode): Promise<void> {
    const answer = await this.#call(gateway, 'GET', '/api/v1/nodes', 3_000);
    const { items } = ((await answer.json()) as { data: { items: NodeFacts[] } }).data;
    const now = performance.now();
    this.#facts = new Map(items.map((item) => [item.node, item]));
    this.#rates = new Map();
    for (const { node, readings } of items) {
      const before = this.#folded.get(node);
      if (before && readings >= before.readings)
        this.#rates.set(node, ((readings - before.readings) / (now - before.at)) * 1000);
      this.#folded.set(node, { at: now, readings });
    }
    const [{ count }] = await this.#mesh.audit.query<{ count: number }>(
      `select count(*)::int as count from alerts where state in ('raised', 'acknowledged')`,
    );
    this.#alerts = count;
  }

  async #add(): Promise<void> {
    const node = await this.#mesh.add(`node-${this.#next++}`, null);
    this.#tell(`${node.name} is starting`);
    await node.ready();
    this.#tell(`${node.name} has joined`);
  }

  async #kill(): Promise<void> {
    const node = this.#one();
    const owned = this.#facts.get(node.name)?.shards ?? 0;
    await node.kill();
    this.#tell(`kill -9 ${node.name}, which owned ${owned} shards; it comes back in 5 s`);
    await sleep(5_000);
    if (this.over) return;
    node.start();
    await node.ready();
    this.#tell(`${node.name} is back`);
  }

  async #pause(): Promise<void> {
    const node = this.#one();
    node.signal('SIGSTOP');
    this.#tell(`${node.name} stands still for ${PAUSE_MS / 1000} s (ttl ${TTL_MS / 1000} s)`);
    await sleep(PAUSE_MS);
    node.signal('SIGCONT');
    this.#tell(`${node.name} goes on`);
  }

  async #drain(): Promise<void> {
    const node = this.#one();
    const gateway = this.#alive().find((other) => other !== node) ?? node;
    this.#tell(`${node.name} is drained`);
    await this.#call(gateway, 'POST', `/api/v1/nodes/${node.name}/drain`, 30_000);
    for (let looks = 0; looks < 30 && !this.over; looks++) {
      await this.#ask(gateway).catch(() => undefined);
      if ((this.#facts.get(node.name)?.shards ?? 0) === 0) break;
      await sleep(1_000);
    }
    this.#tell(`${node.name} owns ${this.#facts.get(node.name)?.shards ?? 0} shards; it takes some again in 5 s`);
    await sleep(5_000);
    await this.#call(gateway, 'POST', `/api/v1/nodes/${node.name}/undrain`, 10_000);
  }

  async #call(gateway: ChaosNode, method: string, path: string, withinMs: number): Promise<Response> {
    const answer = await fetch(`${gateway.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.#mesh.key}` },
      signal: AbortSignal.timeout(withinMs),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${(await answer.text()).slice(0, 200)}`);
    return answer;
  }

  /** Never the last one that answers. */
  #one(): ChaosNode {
    const alive = this.#alive();
    if (alive.length < 2) throw new Error('Only one node answers; it is left alone.');
    return alive[Math.floor(this.#random() * alive.length)];
  }

  #alive(): ChaosNode[] {
    return this.#mesh.nodes.filter((node) => node.running && !node.paused);
  }

  #tell(text: string): void {
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(0).padStart(4);
    this.#happened.push(`${seconds} s  ${text}`);
    if (!process.stdout.isTTY) process.stdout.write(`${seconds} s  ${text}\n`);
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '3' },
      minutes: { type: 'string' },
      rate: { type: 'string', default: '300' },
      seed: { type: 'string' },
      chaos: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const minutes = Number(values.minutes ?? (values.chaos || !process.stdin.isTTY ? 2 : Number.POSITIVE_INFINITY));
  const [hosts, rate, seed] = [Number(values.nodes), Number(values.rate), Number(values.seed ?? Date.now() % 2 ** 31)];
  if (!(minutes > 0) || !(rate > 0) || !Number.isInteger(hosts) || hosts < 1 || hosts > 20 || !Number.isInteger(seed)) {
    process.stderr.write(
      '--minutes and --rate are numbers above 0, --nodes is one of 1 to 20, --seed a whole number.\n',
    );
    return 2;
  }
  const random = seededRandom(seed);
  const mesh = await Mesh.start({
    hosts,
    layout: 'whole',
    ttlMs: TTL_MS,
    shards: SHARDS,
    ack: 'log',
    servers: new Set(['nats'] as const),
    withoutFence: false,
    demo: true,
    print,
  });
  try {
    const load = new Load(mesh, { assets: ASSETS, shards: SHARDS, rate, random, print });
    load.start();
    const demonstration = new Demonstration(mesh, load, random);
    await show(demonstration, minutes, values.chaos, random);
    print('\nno more readings; waiting until everything is acknowledged and committed');
    await demonstration.heal();
    await load.rest();
    const { verdicts, stored } = await load.judge();
    print(`\n${load.ledger.acknowledged} readings acknowledged, ${stored} stored`);
    for (const { name, violations, examples } of verdicts) {
      print(`${String(violations).padStart(6)} ${name}`);
      for (const example of examples) print(`         ${example}`);
    }
    return verdicts.some(({ violations }) => violations > 0) ? 1 : 0;
  } finally {
    await mesh.close(values.keep);
  }
}

async function show(
  demonstration: Demonstration,
  minutes: number,
  chaos: boolean,
  random: () => number,
): Promise<void> {
  const interactive = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const acting = new Set<Promise<void>>();
  const act = (key: string): void => {
    const done = demonstration.act(key).finally(() => acting.delete(done));
    acting.add(done);
  };
  const onKey = (data: Buffer): void => act(data.toString('latin1'));
  if (interactive) process.stdin.setRawMode(true).on('data', onKey).resume();
  process.on('SIGINT', () => {
    // The second time at once; what was started ends with the process.
    if (demonstration.over) process.exit(130);
    demonstration.over = true;
  });
  const endsAt = performance.now() + minutes * 60_000;
  for (let looks = 0; !demonstration.over && performance.now() < endsAt; looks++) {
    const text = await demonstration.look(interactive);
    if (interactive) process.stdout.write(`\x1b[H\x1b[2J${text}`);
    else if (looks % PRINT_EVERY === 0) process.stdout.write(`\n${text}`);
    // One thing after the other: the next is done when the last is over.
    if (chaos && acting.size === 0 && looks % 4 === 3) act('kkkppda'[Math.floor(random() * 7)]);
    await sleep(LOOK_EVERY_MS);
  }
  if (interactive) process.stdin.off('data', onKey).setRawMode(false).pause();
  await Promise.all(acting);
}

process.exitCode = await main().catch((error) => {
  process.stderr.write(`${messageOf(error)}\n`);
  return 1;
});
process.exit();
