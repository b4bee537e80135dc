import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Aedes, type Client, type ConnectPacket, type PublishPacket, type Subscription } from 'aedes';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import type { Speaker } from '../actors/ingress/speaker.ts';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { mayReceive, maySubscribe } from './mqtt-access.ts';
import { listen } from './mqtt-listen.ts';
import { limitPackets, type PacketLimit } from './mqtt-packet-limit.ts';
import { boundQueues } from './mqtt-session-queues.ts';

/**
 * The embedded MQTT broker (3.1 and 3.1.1, over TCP and WebSocket): a door for devices, not a store for messages.
 *
 * Owns: connections, who they are, what they may hear. Does not own what becomes of a message: `onMessage` does.
 *
 * Invariants:
 *  1  A message is acknowledged after `onMessage` has called back, never before; until then its connection reads no
 *     further than the chunk it is in, which is the backpressure. When the broker stops, what was not acknowledged is not.
 *  2  No message costs its sender the connection: what is refused is acknowledged too, and reaches no subscriber. What
 *     is stored is passed on beside the acknowledgement: no device waits for a subscriber that is slow.
 *  3  Only the server retains: what devices mark as retained is not kept.
 *  4  Session and client id belong to a key: nobody takes over the session of another, or hears what waited there.
 *  5  Bounded: packets, connections, failed sign-ins, the queue of a session that is away. Devices have no such session:
 *     what they must not miss (the delta) is retained.
 *  6  A will is a message of the device; that the broker stops is not the device's death, so no wills are sent then.
 */
export interface MqttBrokerOptions {
  host: string;
  /** 0: any free port. */
  port: number;
  /** Null: no WebSocket. */
  wsPort: number | null;
  /** Whose key this is; null to refuse. Throws when it cannot be told now. */
  authenticate(username: string, password: string): Promise<Speaker | null>;
  /** Takes a message; `done('stored')` once it is durable, 'refused' when nothing of it was, 'lost' to break the connection. */
  onMessage(message: MqttMessage, done: (fate: 'stored' | 'refused' | 'lost') => void): void;
  /** A packet announced more than the limit; its connection is closed. */
  onOversize?(speaker: Speaker | null, bytes: number): void;
  onError?(error: Error): void;
  anonymous?: 'refuse' | 'loopback' | 'on';
  limits?: Partial<MqttBrokerLimits>;
}

export interface MqttMessage {
  topic: string;
  payload: Uint8Array;
  speaker: Speaker;
}

export interface MqttBrokerLimits {
  maxPacketBytes: number;
  /** Over TCP and over WebSocket, each. */
  maxConnections: number;
  /** Failed sign-ins of one address a minute; beyond them it is refused unasked. */
  maxFailures: number;
  /** QoS 1 messages kept for a session that is away. */
  maxQueued: number;
  /** Sessions that are kept while away. */
  maxSessions: number;
  /** Messages on their way to subscribers; more are not passed on. */
  maxPassing: number;
  connectWithinMs: number;
  /** A reader that takes nothing for so long is disconnected. */
  drainWithinMs: number;
}

const LIMITS: MqttBrokerLimits = {
  maxPacketBytes: 16 * 2 ** 20,
  maxConnections: 10_000,
  maxFailures: 60,
  maxQueued: 5000,
  maxSessions: 1000,
  maxPassing: 20_000,
  connectWithinMs: 10_000,
  drainWithinMs: 30_000,
};

/** Before it is known who speaks, a packet may hold a CONNECT with a will, no more. */
const CONNECT_BYTES = 70_000;
/** What one read takes from a connection, and so what a device may have unacknowledged in our memory. */
const CHUNK_BYTES = 262_144;
const NOWHERE = '$SYS/taken';
const NOTHING = Buffer.alloc(0);
const ANONYMOUS: Speaker = Object.freeze({ keyId: 'anonymous', name: 'anonymous', role: 'device', gateway: true });
const BAD_CREDENTIALS = 4;
const UNAVAILABLE = 3;

export class MqttBroker {
  /** Connections refused for wrong or missing keys, since start. */
  refusedSignIns = 0;
  /** Messages that a slow or absent subscriber did not get, since start. */
  droppedForSubscribers = 0;
  readonly #options: MqttBrokerOptions;
  readonly #limits: MqttBrokerLimits;
  /** Kept as long as the client: its will comes after its connection. */
  readonly #speakers = new WeakMap<Client, Speaker>();
  readonly #live = new Set<Client>();
  readonly #addresses = new WeakMap<Client, string>();
  readonly #connects = new WeakMap<Client, ConnectPacket>();
  readonly #packetLimits = new WeakMap<Duplex, PacketLimit>();
  readonly #failures = new Map<string, number>();
  readonly #servers: Server[] = [];
  #aedes: Aedes | null = null;
  #webSockets: WebSocketServer | null = null;
  #failuresSince = performance.now();
  #waiting = 0;
  #passing = 0;
  #closing = false;
  #address = { port: 0, wsPort: null as number | null };

  constructor(options: MqttBrokerOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
  }

  /** Ports it listens on. */
  get address(): { port: number; wsPort: number | null } {
    return this.#address;
  }

  get connections(): number {
    return this.#aedes?.connectedClients ?? 0;
  }

  /** Messages whose acknowledgement is held. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Throws `bad_settings` naming the setting when a port cannot be opened. */
  async listen(): Promise<void> {
    const { host, port, wsPort } = this.#options;
    const aedes = await Aedes.createBroker({
      // No queue inside: behind one full of messages for a slow subscriber all others would wait. `maxPassing` bounds it.
      concurrency: 0,
      connectTimeout: this.#limits.connectWithinMs,
      drainTimeout: this.#limits.drainWithinMs,
      maxTopicLevels: 32,
      preConnect: (client, packet, done) => this.#connecting(client, packet as ConnectPacket, done),
      authenticate: (client, username, password, done) => {
        void this.#authenticate(client, username, password).then(
          (refusal) => done(refusal as never, refusal === null),
          (error) => done(refusalOf(UNAVAILABLE, String(error)) as never, false),
        );
      },
      authorizePublish: (client, packet, done) => this.#publishing(client, packet, done),
      authorizeSubscribe: (client, subscription, done) => done(null, this.#subscribing(client, subscription)),
      authorizeForward: (client, packet) => {
        const speaker = this.#speakers.get(client);
        return speaker !== undefined && mayReceive(speaker, packet.topic) ? packet : null;
      },
    });
    this.#aedes = aedes;
    boundQueues(aedes, this.#limits.maxQueued, () => this.droppedForSubscribers++);
    (aedes as unknown as NodeJS.EventEmitter).on('error', (error: Error) => this.#options.onError?.(error));

    try {
      const tcp = createServer({
        highWaterMark: CHUNK_BYTES,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: 60_000,
      });
      tcp.maxConnections = this.#limits.maxConnections;
      tcp.on('connection', (socket: Socket) => this.#accept(socket, socket.remoteAddress));
      this.#servers.push(tcp);
      this.#address.port = await listen(tcp, 'MQTT_LISTEN_PORT', host, port);
      if (wsPort !== null) this.#address.wsPort = await this.#listenWebSocket(host, wsPort);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Sends a message of the server to all who may hear it. An empty payload with `retain` clears what was retained. */
  async publish(topic: string, payload: string, options: { retain: boolean; qos: 0 | 1 }): Promise<void> {
    if (this.#aedes === null || this.#closing) throw new TwinmeshError('unavailable', 'The MQTT broker is closed.');
    if (!this.#pass(topic, Buffer.from(payload), options)) {
      throw new TwinmeshError('overloaded', 'Too many messages are on their way to MQTT subscribers.');
    }
  }

  /** Ends the connections of a key that is no longer good. */
  disconnect(keyId: string): void {
    for (const client of [...this.#live]) if (this.#speakers.get(client)?.keyId === keyId) client.close();
  }

  /** Takes nothing more, gives what waits `withinMs` to be acknowledged, and ends all connections. */
  async close(withinMs = 1000): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    const until = performance.now() + withinMs;
    while (this.#waiting > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 10));
    const aedes = this.#aedes;
    if (aedes !== null) await new Promise<void>((resolve) => aedes.close(() => resolve()));
    for (const socket of this.#webSockets?.clients ?? []) socket.terminate();
    this.#webSockets?.close();
    await Promise.all(closed);
  }

  async #listenWebSocket(host: string, port: number): Promise<number> {
    const http = createHttpServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, (_, response) => {
      response.writeHead(426, { 'Content-Length': 0, Connection: 'close', Upgrade: 'websocket' }).end();
    });
    http.maxConnections = this.#limits.maxConnections;
    this.#servers.push(http);
    this.#webSockets = new WebSocketServer({
      server: http,
      maxPayload: this.#limits.maxPacketBytes + 16,
      perMessageDeflate: false,
      handleProtocols: (offered) => (offered.has('mqtt') ? 'mqtt' : offered.has('mqttv3.1') ? 'mqttv3.1' : false),
    });
    // It repeats the errors of its server; those of listening are answered by `listen`.
    this.#webSockets.on('error', () => {});
    this.#webSockets.on('connection', (socket: WebSocket, request) => {
      const stream = createWebSocketStream(socket, { readableHighWaterMark: CHUNK_BYTES });
      stream.on('error', () => socket.terminate());
      this.#accept(stream, request.socket.remoteAddress);
    });
    return listen(http, 'MQTT_WS_PORT', host, port);
  }

  #accept(connection: Duplex, address: string | undefined): void {
    if (this.#closing || this.#aedes === null) {
      connection.destroy();
      return;
    }
    const limit: PacketLimit = { maxBytes: Math.min(CONNECT_BYTES, this.#limits.maxPacketBytes) };
    this.#packetLimits.set(connection, limit);
    let client: Client | null = null;
    limitPackets(connection, limit, (bytes) => {
      this.#options.onOversize?.((client && this.#speakers.get(client)) ?? null, bytes);
    });
    client = this.#aedes.handle(connection);
    this.#addresses.set(client, address ?? 'unknown');
  }

  #connecting(client: Client, packet: ConnectPacket, done: (error: Error | null, go: boolean) => void): void {
    if (this.#closing) {
      done(new Error('stopping'), false);
      return;
    }
    // A client without an id of its own cannot be found again, so that it has no session to keep.
    if (!packet.clientId) packet.clean = true;
    this.#connects.set(client, packet);
    done(null, true);
  }

  /** Null, or why not. */
  async #authenticate(
    client: Client,
    username: string | undefined,
    password: Uint8Array | undefined,
  ): Promise<Error | null> {
    const address = this.#addresses.get(client) ?? 'unknown';
    const speaker = await this.#whoIs(address, username, password);
    if (speaker === null) {
      this.refusedSignIns++;
      this.#failures.set(address, (this.#failures.get(address) ?? 0) + 1);
      return refusalOf(BAD_CREDENTIALS, 'bad user name or password');
    }
    if (client.closed) return null;
    this.#speakers.set(client, speaker);
    this.#live.add(client);
    client.conn.once('close', () => this.#live.delete(client));
    const limit = this.#packetLimits.get(client.conn);
    if (limit) limit.maxBytes = this.#limits.maxPacketBytes;
    const packet = this.#connects.get(client);
    // Invariant 4: aedes looks up session and earlier connection by this id, and only after this.
    (client as { id: string }).id = `${speaker.keyId}/${client.id}`;
    if (packet && !packet.clean && !(await this.#mayKeepSession(speaker))) {
      packet.clean = true;
      (client as { clean: boolean }).clean = true;
    }
    return null;
  }

  async #whoIs(address: string, username?: string, password?: Uint8Array): Promise<Speaker | null> {
    const now = performance.now();
    if (now - this.#failuresSince > 60_000) {
      this.#failures.clear();
      this.#failuresSince = now;
    }
    if (username === undefined && password === undefined) {
      const anonymous = this.#options.anonymous ?? 'refuse';
      const allowed = anonymous === 'on' || (anonymous === 'loopback' && isLoopback(address));
      return allowed ? ANONYMOUS : null;
    }
    if ((this.#failures.get(address) ?? 0) >= this.#limits.maxFailures) return null;
    return this.#options.authenticate(username ?? '', Buffer.from(password ?? []).toString('utf8'));
  }

  async #mayKeepSession(speaker: Speaker): Promise<boolean> {
    if (speaker.role === 'device' && speaker.gateway !== true) return false;
    const { persistence } = this.#aedes as unknown as {
      persistence: { countOffline(): Promise<{ clientsCount: number }> };
    };
    return (await persistence.countOffline()).clientsCount < this.#limits.maxSessions;
  }

  #publishing(client: Client | null, packet: PublishPacket, done: (error?: Error | null) => void): void {
    const speaker = client === null ? undefined : this.#speakers.get(client);
    if (speaker === undefined || this.#closing) {
      // During a stop a will is dropped (invariant 6), and a message is left unanswered (1).
      if (speaker === undefined || client?.closed) done(new Error('not connected'));
      return;
    }
    packet.retain = false;
    this.#waiting++;
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    this.#options.onMessage({ topic: packet.topic, payload, speaker }, (fate) => {
      this.#waiting--;
      if (fate === 'lost') {
        done(new Error('not stored'));
        return;
      }
      if (fate === 'stored') this.#pass(packet.topic, payload, { retain: false, qos: packet.qos === 0 ? 0 : 1 });
      // What aedes does with the message after the acknowledgement, it does where nobody listens (invariant 2).
      packet.topic = NOWHERE;
      packet.payload = NOTHING;
      done(null);
    });
  }

  /** Hands a message to its subscribers and waits for none of them. False: too many are on their way already. */
  #pass(topic: string, payload: Buffer, options: { retain: boolean; qos: 0 | 1 }): boolean {
    if (this.#passing >= this.#limits.maxPassing) {
      this.droppedForSubscribers++;
      return false;
    }
    this.#passing++;
    this.#aedes?.publish({ cmd: 'publish', topic, payload, dup: false, ...options }, () => this.#passing--);
    return true;
  }

  #subscribing(client: Client, subscription: Subscription): Subscription | null {
    const speaker = this.#speakers.get(client);
    if (speaker === undefined || !maySubscribe(speaker, subscription.topic)) return null;
    return subscription;
  }
}

function refusalOf(returnCode: number, message: string): Error {
  return Object.assign(new Error(message), { returnCode });
}

function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/.test(address);
}
