import http from 'node:http';
import { type BenchNode, startNode } from '../node.ts';
import { percentile, type Scenario } from '../scenario.ts';

const TWINS = 2_000;
const READINGS_PER_SECOND = 2_000;
const REQUESTS_PER_SECOND = 500;
const SECONDS = 20;

/** Reads of a whole node over HTTP while telemetry comes in: half of the requests ask for one twin, half for a page. */
const scenario: Scenario = {
  name: 'queries',
  title: `${REQUESTS_PER_SECOND} requests/s over HTTP while ${READINGS_PER_SECOND.toLocaleString('en-US')} readings/s come in, ${TWINS.toLocaleString('en-US')} twins`,
  async run(say) {
    const node = await startNode();
    try {
      const telemetry = new Telemetry(node);
      await telemetry.seed();
      say('seeded');
      telemetry.start();
      const pool = new http.Agent({ keepAlive: true, maxSockets: 64 });
      const one: number[] = [];
      const page: number[] = [];
      const open: Promise<void>[] = [];
      const startedAt = performance.now();
      for (let k = 0; k < REQUESTS_PER_SECOND * SECONDS; k++) {
        const due = startedAt + (k / REQUESTS_PER_SECOND) * 1000;
        const early = due - performance.now();
        if (early > 1) await new Promise((resolve) => setTimeout(resolve, early));
        const single = k % 2 === 0;
        const path = single ? `/api/v1/twins/machine:Q${(k * 7919) % TWINS}` : `/api/v1/twins?kind=machine&limit=50`;
        open.push(request(node, pool, path, single ? one : page));
      }
      await Promise.all(open);
      await telemetry.stop();
      pool.destroy();
      say(`${telemetry.sent} readings came in meanwhile`);
      return [
        {
          what: 'one twin by id, p95',
          value: percentile(one, 0.95),
          unit: 'ms',
          atMost: 5,
          note: `p50 ${percentile(one, 0.5).toFixed(1)}, p99 ${percentile(one, 0.99).toFixed(1)}`,
        },
        {
          what: 'a page of 50 twins, p95',
          value: percentile(page, 0.95),
          unit: 'ms',
          atMost: 15,
          note: `p50 ${percentile(page, 0.5).toFixed(1)}, p99 ${percentile(page, 0.99).toFixed(1)}`,
        },
      ];
    } finally {
      await node.stop();
    }
  },
};
export default scenario;

function request(node: BenchNode, pool: http.Agent, path: string, samples: number[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    http
      .get(`${node.http}${path}`, { agent: pool, headers: { authorization: `Bearer ${node.key}` } }, (response) => {
        response.resume();
        response.on('end', () => {
          if (response.statusCode !== 200) reject(new Error(`${path}: ${response.statusCode}`));
          samples.push(performance.now() - startedAt);
          resolve();
        });
      })
      .on('error', reject);
  });
}

class Telemetry {
  readonly #node: BenchNode;
  #running = false;
  #loop: Promise<void> = Promise.resolve();
  #base = Date.now() - 3_600_000;
  sent = 0;

  constructor(node: BenchNode) {
    this.#node = node;
  }

  seed(): Promise<void> {
    return this.#post(Array.from({ length: TWINS }, (_, i) => this.#message(i, this.#base)));
  }

  start(): void {
    this.#running = true;
    this.#loop = this.#run();
  }

  stop(): Promise<void> {
    this.#running = false;
    return this.#loop;
  }

  /** Forty batches a second. */
  async #run(): Promise<void> {
    const batch = READINGS_PER_SECOND / 40;
    const startedAt = performance.now();
    for (let n = 0; this.#running; n++) {
      const early = startedAt + n * 25 - performance.now();
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
      const messages = Array.from({ length: batch }, (_, i) => {
        const k = n * batch + i;
        return this.#message(k % TWINS, this.#base + 1000 + Math.floor(k / TWINS) * 1000);
      });
      await this.#post(messages);
      this.sent += batch;
    }
  }

  #message(i: number, at: number): object {
    return {
      twinId: `machine:Q${i}`,
      at,
      values: { temperature: 65 + Math.sin(at / 9000), vibration: 1.2, pressure: 45, power: 250 },
    };
  }

  async #post(messages: object[]): Promise<void> {
    const response = await fetch(`${this.#node.http}/api/v1/telemetry`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.#node.key}`, 'content-type': 'application/json' },
      body: JSON.stringify(messages),
    });
    const { data } = (await response.json()) as { data?: { accepted: number } };
    if (data?.accepted !== messages.length) throw new Error(`${response.status}: ${JSON.stringify(data)}`);
  }
}
