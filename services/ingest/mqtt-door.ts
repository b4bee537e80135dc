import { Collector } from '../../actors/ingress/collector.ts';
import type { Ingress } from '../../actors/ingress/ingress.ts';
import type { Intake } from '../../actors/ingress/intake.ts';
import type { Speaker } from '../../actors/ingress/speaker.ts';
import type { Clock, Random } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { MqttBroker, type MqttBrokerOptions } from '../../mixins/mqtt-broker.ts';
import { MqttClient } from '../../mixins/mqtt-client.ts';
import { type TlsSettings, tlsFiles } from '../../mixins/tls.ts';
import type { Publish } from './mqtt-events.ts';
import { ShareGroup } from './share-group.ts';

/**
 * MQTT telemetry, from the embedded broker or from somebody else's, into ingress; a message is acknowledged when its
 * readings are durable or refused.
 */
export interface MqttDoorOptions {
  ingress: Ingress;
  clock: Clock;
  random: Random;
  wait: 'durable' | 'commit';
  /** Topics to subscribe to on another broker. */
  filters: readonly string[];
  settings: Partial<TlsSettings> & {
    host: string;
    mqttUrl: string | null;
    /** The group that shares the messages of another broker, in a mesh; 'none' is none. */
    mqttShareGroup?: string;
    natsUrl: string | null;
    mqttListenPort: number;
    mqttWsPort: number;
    nodeId: string;
    maxPayloadBytes: number;
  };
  authenticate: MqttBrokerOptions['authenticate'];
  anonymous?: MqttBrokerOptions['anonymous'];
  /** A device has said goodbye, or its connection has (last will). */
  onOffline(twinId: string, speaker: Speaker | null): void;
  logger: { info(facts: object, text: string): void; warn(facts: object, text: string): void };
}

export interface MqttStatus {
  role: 'broker' | 'client' | 'off';
  /** Connections of the broker, or 1 while the client has its own. */
  connections: number;
  port: number | null;
  wsPort: number | null;
  refusedSignIns: number;
  /** Messages that subscribers did not get, because they were slow or away for too long. */
  dropped: number;
}

type Done = (fate: 'stored' | 'refused' | 'lost') => void;

/** What a message waits for others while some are on their way, and how many go together. */
const LINGER_MS = 3;
const MAX_MESSAGES = 5000;
/**
 * A packet may be so large at least: what MAX_PAYLOAD_BYTES refuses below is acknowledged and becomes a dead letter, while
 * a packet above costs its connection.
 */
const PACKET_BYTES = 16 * 2 ** 20;
/** Topic and properties of a packet, beside its payload. */
const HEADER_BYTES = 131_072;
/** A twin's goodbyes within this time are one. */
const GOODBYE_MS = 5000;
const MAX_GOODBYES = 10_000;

export class MqttDoor {
  readonly #options: MqttDoorOptions;
  readonly #collector: Collector;
  readonly #goodbyes = new Map<string, number>();
  #broker: MqttBroker | null = null;
  #client: MqttClient | null = null;
  #group: ShareGroup | null = null;

  constructor(options: MqttDoorOptions) {
    this.#options = options;
    const { clock, wait } = options;
    this.#collector = new Collector(options.ingress, { clock, wait, lingerMs: LINGER_MS, maxMessages: MAX_MESSAGES });
  }

  /** Throws `bad_settings` when a port is taken. Another broker may be away: it is tried for ever. */
  async open(): Promise<void> {
    const { settings, authenticate, anonymous, logger, ingress } = this.#options;
    const maxPacketBytes = Math.max(PACKET_BYTES, settings.maxPayloadBytes + HEADER_BYTES);
    // A broker inside one node would serve only those who happen to reach that node.
    if (settings.mqttUrl === null && settings.natsUrl !== null) return;
    if (settings.mqttUrl !== null) {
      this.#follow(settings.mqttUrl, maxPacketBytes);
      return;
    }
    this.#broker = new MqttBroker({
      host: settings.host,
      port: settings.mqttListenPort,
      wsPort: settings.mqttWsPort,
      limits: { maxPacketBytes },
      authenticate,
      anonymous,
      onMessage: ({ topic, payload, speaker }, done) => this.#take(topic, payload, speaker, done),
      onOversize: (speaker, bytes) => {
        const message = `A packet announced ${bytes} bytes; its connection was closed.`;
        ingress.refuse({ protocol: 'mqtt', address: '', speaker }, new TwinmeshError('too_large', message));
      },
      onError: (error) => logger.warn({ err: error }, 'MQTT broker'),
    });
    await this.#broker.listen();
  }

  #follow(url: string, maxPacketBytes: number): void {
    const { settings, logger, clock, random, filters } = this.#options;
    const { mqttShareGroup = 'none', natsUrl, tlsCaFile = null, tlsCertFile = null, tlsKeyFile = null } = settings;
    const tls = tlsFiles({ tlsCaFile, tlsCertFile, tlsKeyFile });
    // Alone there is nobody to share with.
    const shareGroup = natsUrl === null || mqttShareGroup === 'none' ? undefined : mqttShareGroup;
    const client = (clientId: string, onTakenOver?: () => void) =>
      new MqttClient({
        url,
        tls,
        clientId,
        filters,
        shareGroup,
        clock,
        maxPacketBytes,
        random,
        onTakenOver,
        onMessage: (topic, payload, done) => this.#take(topic, payload, null, done),
        onState: (state, reason) => {
          if (reason === null) logger.info({ state, clientId }, 'MQTT broker');
          else logger.warn({ state, clientId, reason }, 'MQTT broker');
        },
      });
    const member = `twinmesh-${settings.nodeId}`;
    const own = client(member);
    this.#client = own;
    if (shareGroup === undefined) {
      own.open();
      return;
    }
    this.#group = new ShareGroup({ url, tls, group: shareGroup, member, clock, random, logger, standIn: client });
    this.#group.open(() => own.open());
  }

  readonly publish: Publish = (topic, payload, options) => {
    const door = this.#broker ?? this.#client;
    if (door === null) return Promise.reject(new TwinmeshError('unavailable', 'MQTT is closed.'));
    return door.publish(topic, payload, options);
  };

  /** A key has been revoked or rotated. */
  disconnect(keyId: string): void {
    this.#broker?.disconnect(keyId);
  }

  status(): MqttStatus {
    const broker = this.#broker;
    if (broker === null) {
      const connections = this.#client?.state === 'connected' ? 1 : 0;
      const role = this.#client === null ? 'off' : 'client';
      return { role, connections, port: null, wsPort: null, refusedSignIns: 0, dropped: 0 };
    }
    const { connections, address, refusedSignIns, droppedForSubscribers: dropped } = broker;
    return { role: 'broker', connections, ...address, refusedSignIns, dropped };
  }

  async close(): Promise<void> {
    await this.#group?.close();
    this.#client?.close();
    await this.#broker?.close();
  }

  #take(topic: string, payload: Uint8Array, speaker: Speaker | null, done: Done): void {
    const intake = this.#options.ingress.read({ protocol: 'mqtt', address: topic, speaker }, payload);
    if (intake.status !== undefined) {
      if (!intake.status.online) this.#goodbye(intake.status.twinId, speaker);
      done('stored');
    } else if (!hasGood(intake)) done('refused');
    else this.#collector.push(intake, (_, error) => done(error ? 'lost' : hasGood(intake) ? 'stored' : 'refused'));
  }

  #goodbye(twinId: string, speaker: Speaker | null): void {
    const now = this.#options.clock.monotonic();
    const last = this.#goodbyes.get(twinId);
    if (last !== undefined && now - last < GOODBYE_MS) return;
    if (this.#goodbyes.size >= MAX_GOODBYES) this.#goodbyes.clear();
    this.#goodbyes.set(twinId, now);
    this.#options.onOffline(twinId, speaker);
  }
}

function hasGood({ items }: Intake): boolean {
  for (let i = 0; i < items.length; i++) if (items[i].refusal === null) return true;
  return false;
}
