import net from 'node:net';

/**
 * A TCP relay between one node and one server: where a connection can be cut at a chosen moment, and where a network is
 * played on machines without network namespaces.
 *
 *  1  `hold` stops bytes without closing anything: neither side hears of it, as with a network that drops packets.
 *  2  `cutAfterNextLarge` lets the next large request through to the server and closes the client's connection when the
 *     answer comes: the server has done it, the client does not know.
 */
export class Relay {
  readonly #server: net.Server;
  readonly #pairs = new Set<Pair>();
  readonly #targetPort: number;
  #held = { out: false, in: false };
  #cut: (() => void) | null = null;
  #cutBytes = 0;

  private constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = net.createServer((client) => this.#accept(client));
  }

  static async open(host: string, targetPort: number): Promise<Relay> {
    const relay = new Relay(targetPort);
    await new Promise<void>((resolve, reject) => {
      relay.#server.once('error', reject);
      relay.#server.listen(0, host, resolve);
    });
    return relay;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  /** `out`: what the node sends; `in`: what it is sent. */
  hold(held: { out: boolean; in: boolean }): void {
    this.#held = held;
    for (const pair of this.#pairs) pair.hold(held);
  }

  /** Resolves once a connection was cut behind a request of at least `bytes`. */
  cutAfterNextLarge(bytes: number): Promise<void> {
    this.#cutBytes = bytes;
    return new Promise((resolve) => {
      this.#cut = resolve;
    });
  }

  /** Nothing is to be cut any more. */
  disarm(): void {
    this.#cut = null;
  }

  /** Every connection ends, as when a server or a machine between goes away. */
  reset(): void {
    for (const pair of this.#pairs) pair.close();
  }

  async close(): Promise<void> {
    this.reset();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(client: net.Socket): void {
    const pair = new Pair(client, net.connect(this.#targetPort, '127.0.0.1'));
    this.#pairs.add(pair);
    pair.hold(this.#held);
    pair.onClose = () => this.#pairs.delete(pair);
    pair.onRequest = (bytes) => {
      const cut = this.#cut;
      if (cut === null || bytes < this.#cutBytes) return;
      this.#cut = null;
      pair.cutAtAnswer(cut);
    };
  }
}

/** One connection of a node and its other half to the server. */
class Pair {
  readonly #client: net.Socket;
  readonly #upstream: net.Socket;
  #cut: (() => void) | null = null;
  #held = { out: false, in: false };
  onClose = (): void => {};
  onRequest = (_bytes: number): void => {};

  constructor(client: net.Socket, upstream: net.Socket) {
    this.#client = client;
    this.#upstream = upstream;
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ]) {
      from.setNoDelay(true);
      from.on('error', () => from.destroy());
      from.on('close', () => {
        this.onClose();
        // What has been cut on one side goes on with the other until it is done.
        if (this.#cut === null) to.destroy();
      });
      from.on('drain', () => {
        if (!(to === client ? this.#held.out : this.#held.in)) to.resume();
      });
    }
    client.on('data', (data) => {
      this.onRequest(data.length);
      if (!upstream.write(data)) client.pause();
    });
    upstream.on('data', (data) => {
      const cut = this.#cut;
      if (cut !== null) {
        client.destroy();
        upstream.destroy();
        cut();
      } else if (!client.write(data)) upstream.pause();
    });
  }

  cutAtAnswer(done: () => void): void {
    this.#cut = done;
  }

  hold(held: { out: boolean; in: boolean }): void {
    this.#held = held;
    if (held.out) this.#client.pause();
    else this.#client.resume();
    if (held.in) this.#upstream.pause();
    else this.#upstream.resume();
  }

  close(): void {
    this.#cut = null;
    this.#client.destroy();
    this.#upstream.destroy();
  }
}
