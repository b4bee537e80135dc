import mqtt, { type MqttClient } from 'mqtt';
import type { Whereabouts } from './node-process.ts';

/**
 * Devices that number their readings, note every acknowledgement, and send what was not acknowledged again when the
 * server is back: what they noted is what a server may not lose. They share no code with it.
 *
 * The n-th reading of an asset has the time BASE + n * STEP_MS and values that follow from n.
 */
export const STEP_MS = 20;

export interface Numbered {
  id: string;
  n: number;
}

export function valuesOf(n: number): { temperature: number; vibration: number; pressure: number } {
  return { temperature: 40 + (n % 64) / 8, vibration: 1 + (n % 16) / 16, pressure: 40 + (n % 1024) / 128 };
}

export class Asset {
  readonly id: string;
  /** Numbers 0 … next-1 have been sent at least once. */
  next = 0;
  readonly acknowledged = new Set<number>();

  constructor(id: string) {
    this.id = id;
  }

  unacknowledged(): number[] {
    return Array.from({ length: this.next }, (_, n) => n).filter((n) => !this.acknowledged.has(n));
  }
}

export interface Loader {
  readonly assets: readonly Asset[];
  /** Sends again what was not acknowledged and some of what was, then on until `stop` or until the server is gone. */
  run(at: Whereabouts): Promise<void>;
  /** No new readings; `run` ends when everything has been acknowledged. */
  stop(): void;
}

export interface LoaderOptions {
  name: string;
  key: string;
  baseMs: number;
  random: () => number;
  assets?: number;
}

abstract class Sender implements Loader {
  readonly assets: readonly Asset[];
  protected readonly options: LoaderOptions;
  protected stopped = false;
  #turn = 0;

  constructor(options: LoaderOptions) {
    this.options = options;
    this.assets = Array.from({ length: options.assets ?? 4 }, (_, i) => new Asset(`${options.name}-${i}`));
  }

  abstract run(at: Whereabouts): Promise<void>;

  stop(): void {
    this.stopped = true;
  }

  protected fresh(): Numbered {
    const asset = this.assets[this.#turn++ % this.assets.length];
    return { id: asset.id, n: asset.next++ };
  }

  protected unacknowledged(): Numbered[] {
    return this.assets.flatMap((asset) => asset.unacknowledged().map((n) => ({ id: asset.id, n })));
  }

  /** Newest readings that have been acknowledged: sending them again must change nothing. */
  protected repeats(count: number): Numbered[] {
    return this.assets.flatMap(({ id, acknowledged }) => [...acknowledged].slice(-count).map((n) => ({ id, n })));
  }

  protected noted({ id, n }: Numbered): void {
    this.assets.find((asset) => asset.id === id)?.acknowledged.add(n);
  }

  protected bodyOf({ n }: Numbered): Record<string, unknown> {
    return { at: new Date(this.options.baseMs + n * STEP_MS).toISOString(), seq: n, values: valuesOf(n) };
  }
}

/** QoS 1, one reading a message, many in flight. */
export class MqttLoader extends Sender {
  static readonly IN_FLIGHT = 60;

  async run(at: Whereabouts): Promise<void> {
    const client = mqtt.connect(`mqtt://127.0.0.1:${at.mqttPort}`, {
      username: this.options.name,
      password: this.options.key,
      reconnectPeriod: 0,
      connectTimeout: 20_000,
    });
    client.on('error', () => undefined);
    const gone = new Promise<void>((resolve) => client.once('close', () => resolve()));
    const here = new Promise<boolean>((resolve) => {
      client.once('connect', () => resolve(true));
      client.once('close', () => resolve(false));
    });
    if (await here) await Promise.race([gone, this.#send(client)]);
    client.end(true);
  }

  async #send(client: MqttClient): Promise<void> {
    const waiting = [...this.repeats(5), ...this.unacknowledged()];
    let lost = false;
    const lane = async () => {
      while (!lost) {
        const reading = waiting.shift() ?? (this.stopped ? null : this.fresh());
        if (reading === null) return;
        // Some go out twice at once.
        const twice = this.options.random() < 0.05;
        const sent = [this.#publish(client, reading), ...(twice ? [this.#publish(client, reading)] : [])];
        if (!(await Promise.all(sent)).every(Boolean)) lost = true;
      }
    };
    await Promise.all(Array.from({ length: MqttLoader.IN_FLIGHT }, lane));
  }

  #publish(client: MqttClient, reading: Numbered): Promise<boolean> {
    const payload = JSON.stringify(this.bodyOf(reading));
    return new Promise((resolve) => {
      client.publish(`twins/machine/${reading.id}/telemetry`, payload, { qos: 1 }, (error) => {
        if (!error) this.noted(reading);
        resolve(!error);
      });
    });
  }
}

/** NDJSON, a batch a request, one request at a time. */
export class HttpLoader extends Sender {
  static readonly BATCH = 40;
  /** Answers that no server may give to good readings, and repeats that were not recognised. */
  readonly faults: string[] = [];

  async run(at: Whereabouts): Promise<void> {
    const repeats = this.repeats(5);
    if (repeats.length > 0) {
      const answer = await this.#post(at, repeats);
      if (answer === null) return;
      if (answer.accepted !== 0) this.faults.push(`took repeats as new: ${JSON.stringify(answer)}`);
    }
    const waiting = this.unacknowledged();
    for (;;) {
      const batch = waiting.splice(0, HttpLoader.BATCH);
      while (!this.stopped && batch.length < HttpLoader.BATCH) batch.push(this.fresh());
      if (batch.length === 0) return;
      if (this.options.random() < 0.2) batch.push(batch[0]);
      if ((await this.#post(at, batch)) === null) return;
    }
  }

  async #post(at: Whereabouts, batch: readonly Numbered[]): Promise<{ accepted: number } | null> {
    const lines = batch.map((reading) => JSON.stringify({ twinId: `machine:${reading.id}`, ...this.bodyOf(reading) }));
    const headers = { authorization: `Bearer ${this.options.key}`, 'content-type': 'application/x-ndjson' };
    for (;;) {
      let status: number;
      let text: string;
      try {
        const answer = await fetch(`${at.http}/api/v1/telemetry`, { method: 'POST', headers, body: lines.join('\n') });
        status = answer.status;
        text = await answer.text();
      } catch {
        return null;
      }
      if (status === 503) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        continue;
      }
      const data = status === 200 ? JSON.parse(text).data : null;
      if (data === null || data.rejected.length > 0 || data.accepted + data.duplicates !== batch.length) {
        this.faults.push(`${status} ${text}`);
        return null;
      }
      for (const reading of batch) this.noted(reading);
      return data;
    }
  }
}
