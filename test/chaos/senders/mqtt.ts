import { setTimeout as sleep } from 'node:timers/promises';
import mqtt, { type MqttClient } from 'mqtt';
import { Lane, type Sent } from './lane.ts';

const IN_FLIGHT = 100;
/** Of MQTT 5: the broker has taken the message and given it to nobody. */
const NO_MATCHING_SUBSCRIBERS = 16;

/**
 * QoS 1 to Mosquitto, one reading a message, many in flight. Mosquitto acknowledges once it keeps the message for the mesh.
 * A broker that says in MQTT 5 that it gave the message to nobody has not done so.
 */
export class MqttLane extends Lane {
  readonly way = 'mqtt';
  #url = '';

  to(url: string): this {
    this.#url = url;
    return this;
  }

  async run(): Promise<void> {
    while (!this.finished) {
      const client = mqtt.connect(this.#url, { protocolVersion: 5, reconnectPeriod: 0, connectTimeout: 5_000 });
      client.on('error', () => undefined);
      const gone = new Promise<false>((resolve) => client.once('close', () => resolve(false)));
      const here = await Promise.race([
        gone,
        new Promise<true>((resolve) => client.once('connect', () => resolve(true))),
      ]);
      if (here) await this.#send(client, gone);
      client.end(true);
      await sleep(100);
    }
  }

  async #send(client: MqttClient, gone: Promise<false>): Promise<void> {
    let open = true;
    let inFlight = 0;
    void gone.then(() => {
      open = false;
    });
    while (open && !this.finished) {
      const room = IN_FLIGHT - inFlight;
      const batch = room < 20 ? [] : this.take(Math.min(room, 20));
      if (batch.length === 0) await this.rest();
      for (const sent of batch) {
        inFlight++;
        void this.#publish(client, sent, gone).then((done) => {
          inFlight--;
          if (done) this.acknowledged([sent]);
          else this.again([sent]);
        });
      }
    }
  }

  #publish(client: MqttClient, sent: Sent, gone: Promise<false>): Promise<boolean> {
    const payload = JSON.stringify(this.bodyOf(sent));
    const acknowledged = new Promise<boolean>((resolve) => {
      const topic = `twins/${sent.asset.twinId.replace(':', '/')}/telemetry`;
      client.publish(topic, payload, { qos: 1 }, (error, packet) => {
        const dropped = (packet as { reasonCode?: number } | undefined)?.reasonCode === NO_MATCHING_SUBSCRIBERS;
        if (dropped) this.ledger.refused('MQTT: no matching subscribers');
        resolve(!error && !dropped);
      });
    });
    return Promise.race([acknowledged, gone]);
  }
}
