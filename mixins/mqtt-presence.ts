import mqtt, { type MqttClient } from 'mqtt';
import { messageOf } from '../actors/protocol/errors.ts';
import type { TlsFiles } from './tls.ts';

/**
 * What the members of a group say about themselves, retained at `<root>/<member>`: the broker says `gone` for one whose connection
 * is lost.
 */
export interface MqttPresenceOptions {
  url: string;
  tls?: TlsFiles;
  /** `twinmesh/<group>/members` */
  root: string;
  member: string;
  /** What a member says now; empty: it is forgotten. Also what was said before we came. */
  onSaid(member: string, said: string): void;
  /** What was heard before may be old. */
  onConnected(): void;
  /** The broker does not let us. */
  onRefused(reason: string): void;
}

export class MqttPresence {
  readonly #options: MqttPresenceOptions;
  readonly #client: MqttClient;

  constructor(options: MqttPresenceOptions) {
    this.#options = options;
    const { url, tls, root, member, onSaid, onConnected, onRefused } = options;
    const own = `${root}/${member}`;
    this.#client = mqtt.connect(url, {
      ...tls,
      clientId: `${member}-presence`,
      protocolVersion: 5,
      clean: true,
      keepalive: 10,
      reconnectPeriod: 1_000,
      connectTimeout: 5_000,
      will: { topic: own, payload: Buffer.from('gone'), qos: 1, retain: true },
    });
    // The state of the connection is told by the one that carries telemetry.
    this.#client.on('error', () => undefined);
    this.#client.on('connect', () => {
      onConnected();
      this.#client.subscribe(`${root}/+`, { qos: 1 }, (error) => {
        if (error) onRefused(messageOf(error));
      });
    });
    this.#client.on('message', (topic, payload) => {
      const name = topic.slice(root.length + 1);
      if (topic.startsWith(`${root}/`) && name.length <= 128 && payload.length <= 256) onSaid(name, payload.toString());
    });
  }

  /** Retained. An empty text forgets the member. */
  say(member: string, text: string): void {
    if (!this.#client.connected) return;
    this.#client.publish(`${this.#options.root}/${member}`, text, { qos: 1, retain: true }, (error) => {
      if (error && this.#client.connected) this.#options.onRefused(messageOf(error));
    });
  }

  /** Ends the connection; the broker says `gone`. */
  async close(): Promise<void> {
    if (this.#client.connected) {
      const { root, member } = this.#options;
      await Promise.race([
        this.#client.publishAsync(`${root}/${member}`, 'gone', { qos: 1, retain: true }).catch(() => undefined),
        new Promise((resolve) => setTimeout(resolve, 1_000)),
      ]);
    }
    await this.#client.endAsync(true).catch(() => undefined);
  }
}
