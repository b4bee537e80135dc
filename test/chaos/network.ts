import { spawnSync } from 'node:child_process';
import { freePort } from '../servers/free-port.ts';
import { command } from './command.ts';
import { Relay } from './relay.ts';

/**
 * The network between nodes and servers. As root with `ip` and `iptables`, each node has a network namespace of its own,
 * joined to a bridge by a pair of virtual cards, and a partition is packets dropped in the kernel. Elsewhere, nodes share
 * the network of the machine and a partition is a relay that holds bytes back. `means` says which.
 *
 *  1  Both ways a node reaches each server through a relay of its own, so that one connection can be cut alone.
 *  2  `close` leaves nothing behind: namespaces, bridge and rules end with it.
 */
export interface Network {
  readonly means: 'network namespaces' | 'relays';
  /** Where the senders reach the nodes from, and nodes the relays. */
  readonly address: string;
  link(name: string): Promise<Link>;
  close(): Promise<void>;
  /** What would outlive this process, gone at once. */
  remove(): void;
}

export type Direction = 'both' | 'out' | 'in';

/** The network as one node sees it. */
export interface Link {
  /** Address that the node is reached at. */
  readonly host: string;
  /** Port that its gateway should take. */
  readonly port: number;
  /** What a program is started with to be on this link. */
  readonly prefix: readonly string[];
  readonly relays: ReadonlyMap<string, Relay>;
  /** Opens a relay to a server on this machine and answers `host:port` for the node. */
  reach(server: string, port: number): Promise<string>;
  /** The node itself asks for 127.0.0.1:port, because the server tells its own address (Kafka). */
  reachAsLocal(server: string, port: number): Promise<void>;
  /** Packets from or to the servers are lost; null: everything, also what comes to its gateway. */
  partition(servers: readonly string[] | null, direction: Direction): void;
  heal(): void;
  close(): Promise<void>;
}

/** `shared`: the machine's own network, whatever else could be had. */
export async function openNetwork(shared = false): Promise<Network> {
  return !shared && canNamespaces() ? new Namespaces() : new Shared();
}

function canNamespaces(): boolean {
  if (process.getuid?.() !== 0) return false;
  const name = `tmtry${process.pid}`;
  const tries = [
    ['ip', 'netns', 'add', name],
    ['ip', 'netns', 'exec', name, 'iptables', '-A', 'INPUT', '-i', 'none0', '-j', 'DROP'],
    ['ip', 'link', 'add', name, 'type', 'bridge'],
  ];
  const works = tries.every(([program, ...args]) => spawnSync(program, args).status === 0);
  spawnSync('ip', ['link', 'del', name]);
  spawnSync('ip', ['netns', 'del', name]);
  return works;
}

class Namespaces implements Network {
  readonly means = 'network namespaces';
  readonly address: string;
  readonly #name = `tm${process.pid % 100_000}`;
  readonly #subnet: string;
  readonly #links = new Set<NamespaceLink>();
  #next = 2;

  constructor() {
    // One of 250 subnets that no card of this machine has.
    const taken = command('ip', '-4', '-o', 'addr');
    let third = process.pid % 250;
    while (taken.includes(`10.213.${third}.`)) third = (third + 1) % 250;
    this.#subnet = `10.213.${third}`;
    this.address = `${this.#subnet}.1`;
    command('ip', 'link', 'add', this.#name, 'type', 'bridge');
    command('ip', 'addr', 'add', `${this.address}/24`, 'dev', this.#name);
    command('ip', 'link', 'set', this.#name, 'up');
  }

  async link(name: string): Promise<Link> {
    const number = this.#next++;
    const link = new NamespaceLink(
      `${this.#name}n${number}`,
      this.#name,
      `${this.#subnet}.${number}`,
      this.address,
      name,
    );
    this.#links.add(link);
    return link;
  }

  async close(): Promise<void> {
    for (const link of this.#links) await link.close();
    this.remove();
  }

  remove(): void {
    for (const link of this.#links) link.remove();
    spawnSync('ip', ['link', 'del', this.#name]);
  }
}

abstract class Relayed {
  readonly relays = new Map<string, Relay>();
  protected readonly relayHost: string;

  constructor(relayHost: string) {
    this.relayHost = relayHost;
  }

  async reach(server: string, port: number): Promise<string> {
    const relay = this.relays.get(server) ?? (await Relay.open(this.relayHost, port));
    this.relays.set(server, relay);
    return `${this.relayHost}:${relay.port}`;
  }

  async close(): Promise<void> {
    for (const relay of this.relays.values()) await relay.close();
    this.relays.clear();
  }
}

class NamespaceLink extends Relayed implements Link {
  readonly host: string;
  readonly port = 8080;
  readonly prefix: readonly string[];
  readonly #namespace: string;
  #closed = false;

  constructor(namespace: string, bridge: string, host: string, gateway: string, _name: string) {
    super(gateway);
    this.host = host;
    this.#namespace = namespace;
    this.prefix = ['ip', 'netns', 'exec', namespace];
    command('ip', 'netns', 'add', namespace);
    command('ip', 'link', 'add', namespace, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
    command('ip', 'link', 'set', namespace, 'master', bridge, 'up');
    this.#inside('ip', 'addr', 'add', `${host}/24`, 'dev', 'eth0');
    this.#inside('ip', 'link', 'set', 'eth0', 'up');
    this.#inside('ip', 'link', 'set', 'lo', 'up');
  }

  async reachAsLocal(server: string, port: number): Promise<void> {
    const to = await this.reach(server, port);
    this.#inside('sysctl', '-qw', 'net.ipv4.conf.all.route_localnet=1');
    const nat = ['iptables', '-t', 'nat', '-A'];
    this.#inside(
      ...nat,
      'OUTPUT',
      '-d',
      '127.0.0.1',
      '-p',
      'tcp',
      '--dport',
      `${port}`,
      '-j',
      'DNAT',
      '--to-destination',
      to,
    );
    this.#inside(...nat, 'POSTROUTING', '-o', 'eth0', '-j', 'MASQUERADE');
  }

  partition(servers: readonly string[] | null, direction: Direction): void {
    const ports = servers === null ? [null] : servers.map((server) => this.relays.get(server)?.port ?? 0);
    for (const port of ports) {
      const match = (side: string) => (port === null ? [] : ['-p', 'tcp', side, `${port}`]);
      if (direction !== 'in') this.#inside('iptables', '-A', 'OUTPUT', '-o', 'eth0', ...match('--dport'), '-j', 'DROP');
      if (direction !== 'out') this.#inside('iptables', '-A', 'INPUT', '-i', 'eth0', ...match('--sport'), '-j', 'DROP');
    }
  }

  heal(): void {
    this.#inside('iptables', '-F', 'INPUT');
    this.#inside('iptables', '-F', 'OUTPUT');
  }

  override async close(): Promise<void> {
    await super.close();
    this.remove();
  }

  remove(): void {
    if (this.#closed) return;
    this.#closed = true;
    // Its end of the pair goes with it.
    spawnSync('ip', ['netns', 'del', this.#namespace]);
    spawnSync('ip', ['link', 'del', this.#namespace]);
  }

  #inside(...args: string[]): void {
    command('ip', 'netns', 'exec', this.#namespace, ...args);
  }
}

class Shared implements Network {
  readonly means = 'relays';
  readonly address = '127.0.0.1';
  readonly #links: Link[] = [];

  async link(): Promise<Link> {
    const link = new SharedLink('127.0.0.1', await freePort());
    this.#links.push(link);
    return link;
  }

  async close(): Promise<void> {
    for (const link of this.#links) await link.close();
  }

  remove(): void {
    // Relays end with the process.
  }
}

class SharedLink extends Relayed implements Link {
  readonly host: string;
  readonly port: number;
  readonly prefix = [];

  constructor(host: string, port: number) {
    super(host);
    this.host = host;
    this.port = port;
  }

  async reachAsLocal(): Promise<void> {
    // It is on the same machine as it is.
  }

  partition(servers: readonly string[] | null, direction: Direction): void {
    for (const [server, relay] of this.relays) {
      if (servers === null || servers.includes(server))
        relay.hold({ out: direction !== 'in', in: direction !== 'out' });
    }
  }

  heal(): void {
    for (const relay of this.relays.values()) relay.hold({ out: false, in: false });
  }
}
