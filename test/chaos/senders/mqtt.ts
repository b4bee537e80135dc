import { setTimeout as sleep } from 'node:timers/promises';
import mqtt, { type MqttClient } from 'mqtt';
import { Lane, type Sent } from './lane.ts';

const IN_FLIGHT = 100;

/** QoS 1 to Mosquitto, one reading a message, many in flight. Mosquitto acknowledges once it keeps the message for the mesh. */
export class MqttLane extends Lane {
  readonly way = 'mqtt';
  #url = '';

  to(url: string): this {
    this.#url = url;
    return this;
  }

  async run(): Promise<void> {
    while (!this.finished) {
      const client = mqtt.connect(this.#url, { reconnectPeriod: 0, connectTimeout: 5_000 });
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
      client.publish(`twins/${sent.asset.twinId.replace(':', '/')}/telemetry`, payload, { qos: 1 }, (error) =>
        resolve(!error),
      );
    });
    return Promise.race([acknowledged, gone]);
  }
}
