import type { Duplex } from 'node:stream';
import mqtt, { type IConnackPacket, type IPublishPacket, type ISubackPacket, type Packet } from 'mqtt-packet';
import { type Clock, type Random, sleep, type TimerHandle } from '../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { openTransport } from './mqtt-transport.ts';
import type { TlsFiles } from './tls.ts';

/**
 * A subscriber to somebody's broker (MQTT 5, or 3.1.1 where the broker knows no better), on the packets themselves:
 * the usual client handles one message after the other, which with a commit of 5 ms is 188 a second.
 *
 * Owns: the connection, its session, acknowledgements in order. Does not own what becomes of a message.
 *
 * Invariants:
 *  1  A message is acknowledged after `onMessage` has called back, in the order in which they came (MQTT-4.6.0-2), many
 *     acknowledgements in one write. What was not acknowledged comes again: the session is persistent.
 *  2  With `maxWaiting` messages waiting nothing more is read; a chunk that was read (64 KiB) is taken in whole.
 *  3  A lost connection is opened again with growing pauses and chance in them, for ever; each time it subscribes anew.
 *  4  What the broker hands out as retained is not taken: it was taken when it was sent.
 */
export interface MqttClientOptions {
  /** mqtt://, mqtts://, ws:// or wss://, with user and password where the broker wants them. */
  url: string;
  /** Stable over restarts: the session is found by it. */
  clientId: string;
  filters: readonly string[];
  /** Subscribes as one of a group that shares the messages between its members (MQTT 5). */
  shareGroup?: string;
  onMessage(topic: string, payload: Uint8Array, done: (fate: 'stored' | 'refused' | 'lost') => void): void;
  onState?(state: MqttClientState, reason: string | null): void;
  /** Another connection goes on with the session. Where this is given the session is left to it, else it is taken back. */
  onTakenOver?(): void;
  /** For mqtts:// and wss://. */
  tls?: TlsFiles;
  clock: Clock;
  random: Random;
  maxWaiting?: number;
  /** The broker is asked to send no larger packet (MQTT 5). Default 16 MiB. */
  maxPacketBytes?: number;
  keepaliveS?: number;
  backoffMs?: { first: number; most: number };
}

export type MqttClientState = 'connecting' | 'connected' | 'waiting' | 'closed';

interface Unacknowledged {
  messageId: number;
  done: boolean;
}

interface Publishing {
  resolve(): void;
  reject(error: Error): void;
}

type Version = 5 | 4;

const MAX_PUBLISHING = 1000;
const MAX_PACKET_BYTES = 16 * 2 ** 20;
const SUBSCRIBE_ID = 65_535;
const UNSUBSCRIBE_ID = 65_534;
const TAKEN_OVER = 142;
/** What a session holds back comes within this time after its subscriptions ended. */
const QUIET_MS = 1_000;
const UNSUPPORTED_VERSION = [1, 132];
const CONNACK_WITHIN_MS = 15_000;

export class MqttClient {
  readonly #options: MqttClientOptions;
  readonly #url: URL;
  readonly #maxWaiting: number;
  readonly #publishing = new Map<number, Publishing>();
  #state: MqttClientState = 'closed';
  #version: Version = 5;
  #connection: Duplex | null = null;
  #acknowledgements: Unacknowledged[] = [];
  #waiting = 0;
  #paused = false;
  #nextId = 0;
  #attempts = 0;
  #heard = false;
  #timers: TimerHandle[] = [];
  /** CONNECT was sent and not answered. */
  #asked = false;
  /** The broker has said that it does not speak MQTT 5. */
  #knowsNoFive = false;
  #unsubscribed: (() => void) | null = null;
  /** When the last message came. */
  #heardAt = 0;

  constructor(options: MqttClientOptions) {
    this.#options = options;
    this.#url = new URL(options.url);
    this.#maxWaiting = options.maxWaiting ?? 5000;
  }

  get state(): MqttClientState {
    return this.#state;
  }

  /** MQTT version of the connection. */
  get version(): Version {
    return this.#version;
  }

  /** Starts, and keeps at it. */
  open(): void {
    if (this.#state === 'closed') this.#connect();
  }

  /** QoS 1: resolves when the broker has it. Throws `unavailable` without a connection, `overloaded` with too many on their way. */
  publish(topic: string, payload: string, options: { retain: boolean; qos: 0 | 1 }): Promise<void> {
    if (this.#state !== 'connected') {
      return Promise.reject(new TwinmeshError('unavailable', 'There is no connection to the MQTT broker.'));
    }
    if (this.#publishing.size >= MAX_PUBLISHING) {
      return Promise.reject(new TwinmeshError('overloaded', 'The MQTT broker does not keep up.'));
    }
    const packet: IPublishPacket = { cmd: 'publish', topic, payload, dup: false, ...options };
    if (options.qos === 0) {
      this.#write(packet);
      return Promise.resolve();
    }
    do this.#nextId = (this.#nextId % (UNSUBSCRIBE_ID - 1)) + 1;
    while (this.#publishing.has(this.#nextId));
    const messageId = this.#nextId;
    return new Promise((resolve, reject) => {
      this.#publishing.set(messageId, { resolve, reject });
      this.#write({ ...packet, messageId });
    });
  }

  /** Ends the session for good, with nothing left in it. False where the connection was lost meanwhile. */
  async retire(): Promise<boolean> {
    const connection = this.#connection;
    const { clock, filters } = this.#options;
    const here = () => this.#state === 'connected' && this.#connection === connection;
    if (!here()) return false;
    const unsubscriptions = filters.map((filter) => `${this.#prefix()}${filter}`);
    const answered = new Promise<void>((resolve) => {
      this.#unsubscribed = resolve;
    });
    this.#write({ cmd: 'unsubscribe', messageId: UNSUBSCRIBE_ID, unsubscriptions });
    await Promise.race([answered, sleep(clock, CONNACK_WITHIN_MS)]);
    this.#heardAt = clock.monotonic();
    while (here() && (this.#waiting > 0 || clock.monotonic() - this.#heardAt < QUIET_MS)) await sleep(clock, 50);
    if (!here()) return false;
    this.#write({ cmd: 'disconnect', reasonCode: 0, properties: { sessionExpiryInterval: 0 } } as Packet);
    this.#leave();
    return true;
  }

  /** Leaves; the session stays with the broker, so that nothing is missed until the next start. */
  close(): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'connected') this.#write({ cmd: 'disconnect', reasonCode: 0 } as Packet);
    this.#leave();
  }

  #leave(): void {
    const connection = this.#connection;
    this.#become('closed', null);
    this.#forget('The node is stopping.');
    connection?.end();
    // Time for the goodbye to leave.
    this.#options.clock.after(200, () => connection?.destroy());
  }

  #connect(): void {
    this.#become('connecting', null);
    const connection = openTransport(this.#url, this.#options.tls ?? {}, () => {
      if (this.#connection === connection) this.#sendConnect();
    });
    this.#connection = connection;
    const version = this.#version;
    const parser = mqtt.parser({ protocolVersion: version } as never);
    const lost = (reason: string) => {
      if (this.#connection === connection) this.#lost(reason);
    };
    parser.on('packet', (packet: Packet) => {
      if (this.#connection === connection) this.#received(packet);
    });
    parser.on('error', (error: Error) => lost(`The broker sent no MQTT: ${error.message}.`));
    connection.on('data', (chunk: Buffer) => {
      this.#heard = true;
      parser.parse(chunk);
      if (this.#waiting >= this.#maxWaiting && !this.#paused) {
        this.#paused = true;
        connection.pause();
      }
    });
    connection.on('error', (error) => lost(messageOf(error)));
    connection.on('close', () => lost('The broker closed the connection.'));
    this.#after(CONNACK_WITHIN_MS, () => {
      if (this.#state === 'connecting') lost('The broker does not answer.');
    });
  }

  #sendConnect(): void {
    const five = this.#version === 5;
    this.#asked = true;
    this.#write({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: this.#version,
      clientId: this.#options.clientId,
      clean: false,
      keepalive: this.#options.keepaliveS ?? 30,
      ...(this.#url.username ? { username: decodeURIComponent(this.#url.username) } : {}),
      ...(this.#url.password ? { password: Buffer.from(decodeURIComponent(this.#url.password)) } : {}),
      ...(five
        ? {
            properties: {
              sessionExpiryInterval: 0xffffffff,
              receiveMaximum: Math.min(this.#maxWaiting, 65_535),
              maximumPacketSize: this.#options.maxPacketBytes ?? MAX_PACKET_BYTES,
            },
          }
        : {}),
    });
  }

  #received(packet: Packet): void {
    switch (packet.cmd) {
      case 'connack':
        this.#acknowledged(packet);
        break;
      case 'publish':
        this.#message(packet);
        break;
      case 'puback': {
        const publishing = this.#publishing.get(packet.messageId as number);
        this.#publishing.delete(packet.messageId as number);
        const code = packet.reasonCode ?? 0;
        if (code < 128) publishing?.resolve();
        else publishing?.reject(new TwinmeshError('unavailable', `The MQTT broker refused the message (${code}).`));
        break;
      }
      case 'suback':
        this.#subscribedAs(packet);
        break;
      case 'unsuback':
        this.#unsubscribed?.();
        break;
      case 'disconnect':
        if (packet.reasonCode === TAKEN_OVER && this.#options.onTakenOver) {
          this.close();
          this.#options.onTakenOver();
        } else this.#lost(`The broker said goodbye (${packet.reasonCode ?? 0}).`);
        break;
      default:
    }
  }

  #acknowledged(packet: IConnackPacket): void {
    this.#asked = false;
    const code = packet.reasonCode ?? packet.returnCode ?? 0;
    if (code !== 0) {
      if (this.#version === 5 && UNSUPPORTED_VERSION.includes(code)) this.#knowsNoFive = true;
      this.#lost(`The broker refuses the connection (${code}).`);
      return;
    }
    this.#attempts = 0;
    this.#become('connected', null);
    const { filters } = this.#options;
    if (filters.length > 0) this.#subscribe(filters, this.#prefix());
    this.#watchSilence();
  }

  /** Of every filter, where the subscription is shared. */
  #prefix(): string {
    const { shareGroup } = this.#options;
    return this.#version === 5 && shareGroup !== undefined ? `$share/${shareGroup}/` : '';
  }

  #subscribe(filters: readonly string[], prefix: string): void {
    this.#write({
      cmd: 'subscribe',
      messageId: SUBSCRIBE_ID,
      subscriptions: filters.map((filter) => ({
        topic: `${prefix}${filter}`,
        qos: 1 as const,
        ...(this.#version === 5 ? { rh: 2 } : {}),
      })),
    });
    // The session may be from a time before the group: every message would come twice.
    if (prefix !== '') this.#write({ cmd: 'unsubscribe', messageId: UNSUBSCRIBE_ID, unsubscriptions: [...filters] });
  }

  #subscribedAs(packet: ISubackPacket): void {
    const refused = this.#options.filters.filter((_, i) => Number(packet.granted[i]) >= 128);
    if (refused.length > 0)
      this.#options.onState?.('connected', `The broker refuses to hand out ${refused.join(', ')}.`);
  }

  /** A broker that lets a ping unanswered is gone. */
  #watchSilence(): void {
    const connection = this.#connection;
    const everyMs = (this.#options.keepaliveS ?? 30) * 500;
    let silent = 0;
    const beat = () => {
      if (this.#connection !== connection || this.#state !== 'connected') return;
      silent = this.#heard || this.#paused ? 0 : silent + 1;
      this.#heard = false;
      if (silent >= 4) {
        this.#lost('The broker is silent.');
        return;
      }
      this.#write({ cmd: 'pingreq' });
      this.#after(everyMs, beat);
    };
    this.#after(everyMs, beat);
  }

  #message(packet: IPublishPacket): void {
    const connection = this.#connection;
    this.#heardAt = this.#options.clock.monotonic();
    const entry: Unacknowledged | null =
      packet.qos === 0 ? null : { messageId: packet.messageId as number, done: false };
    if (entry) this.#acknowledgements.push(entry);
    this.#waiting++;
    let called = false;
    const done = (fate: 'stored' | 'refused' | 'lost') => {
      if (called) return;
      called = true;
      this.#waiting--;
      // Of an earlier connection: the message comes again, and is recognised.
      if (this.#connection !== connection) return;
      if (fate === 'lost') {
        this.#lost('A message could not be stored.');
        return;
      }
      if (entry) entry.done = true;
      if (entry === this.#acknowledgements[0]) queueMicrotask(() => this.#acknowledge());
      if (this.#paused && this.#waiting < this.#maxWaiting / 2) {
        this.#paused = false;
        connection?.resume();
      }
    };
    if (packet.retain) done('refused');
    else this.#options.onMessage(packet.topic, packet.payload as Buffer, done);
  }

  /** Acknowledges what is done, up to the first that is not. */
  #acknowledge(): void {
    const connection = this.#connection;
    if (connection === null || this.#state !== 'connected') return;
    let ready = 0;
    while (ready < this.#acknowledgements.length && this.#acknowledgements[ready].done) ready++;
    if (ready === 0) return;
    connection.cork();
    for (const { messageId } of this.#acknowledgements.splice(0, ready)) this.#write({ cmd: 'puback', messageId });
    connection.uncork();
  }

  #write(packet: Packet): void {
    const connection = this.#connection;
    if (connection === null || connection.destroyed) return;
    mqtt.writeToStream(packet, connection, { protocolVersion: this.#version });
  }

  #lost(reason: string): void {
    // Some brokers only hang up on a version they do not know: then the other one has its turn.
    const hungUp = this.#asked && this.#version === 5;
    this.#version = this.#knowsNoFive || hungUp ? 4 : 5;
    this.#asked = false;
    const connection = this.#connection;
    this.#forget(reason);
    connection?.destroy();
    const { first, most } = this.#options.backoffMs ?? { first: 500, most: 30_000 };
    const pauseMs = Math.min(most, first * 2 ** Math.min(this.#attempts++, 16)) * (0.5 + this.#options.random() / 2);
    this.#become('waiting', reason);
    this.#after(pauseMs, () => this.#connect());
  }

  /** Forgets all that belonged to the connection. */
  #forget(reason: string): void {
    for (const timer of this.#timers.splice(0)) timer.cancel();
    this.#connection = null;
    this.#acknowledgements = [];
    this.#paused = false;
    this.#heard = false;
    for (const { reject } of this.#publishing.values()) reject(new TwinmeshError('unavailable', reason));
    this.#publishing.clear();
  }

  #after(delayMs: number, callback: () => void): void {
    const timer = this.#options.clock.after(delayMs, () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
      callback();
    });
    this.#timers.push(timer);
  }

  #become(state: MqttClientState, reason: string | null): void {
    this.#state = state;
    this.#options.onState?.(state, reason);
  }
}
