import { MemoryLog } from '../../../actors/log/memory.ts';
import { type Clock, seededRandom, systemClock } from '../../../actors/protocol/clock.ts';
import type { Command, Tuning } from '../../../actors/protocol/entry.ts';
import { defineTwin, type Kind, type KindDefinition } from '../../../actors/protocol/kind.ts';
import type { Prediction, Predictor, PredictRequest } from '../../../actors/protocol/prediction.ts';
import type { Reading } from '../../../actors/protocol/reading.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import type { Activation } from '../../../actors/runtime/activation.ts';
import { isDue } from '../../../actors/runtime/foretelling.ts';
import { Host } from '../../../actors/runtime/host.ts';
import { registryOf } from '../../../actors/runtime/kind-registry.ts';
import { H } from '../../../actors/runtime/layout.ts';
import { encodeSnapshot } from '../../../actors/runtime/snapshot.ts';
import type { Store } from '../../../actors/store/port.ts';

/** A host that lives a journal under a clock of the test, and what its one twin was at each moment. */
export const SHARDS = 2;
export const T0 = 1_750_000_000_000;
export const TWIN = 'valve:v1';

const VALVE: KindDefinition = {
  kind: 'valve',
  version: 1,
  title: 'Valve',
  description: 'for tests',
  metrics: { flow: { unit: 'l/s', min: -1e6, max: 1e6 }, heat: { unit: '°C', min: -1e6, max: 1e6 } },
  formats: [{ name: 'plain', example: {}, decode: () => ({ id: 'p', at: 0, values: {} }) }],
  windows: { '1m': { spanMs: 60_000, panes: 6 } },
  detectors: { cooldownMs: 10_000, zscore: { window: '1m', threshold: 3, minCount: 5 } },
  models: {
    wear: { model: 'valve-wear', inputs: ['heat', 'flow.1m.mean'], everyMs: 5_000, anomaly: { cooldownMs: 20_000 } },
  },
  rules: [
    {
      name: 'hot',
      metric: 'heat',
      above: 90,
      hysteresis: 5,
      holdMs: 10_000,
      cooldownMs: 0,
      severity: 'high',
      message: 'Hot: {value}',
    },
    {
      name: 'worn',
      metric: 'predictions.wear',
      above: 1,
      hysteresis: 0.1,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'warning',
      message: 'Worn: {value}',
    },
  ],
  silentAfterMs: 60_000,
  graph: { type: 'Valve' },
  digest: () => '',
};

export const valve: Kind = defineTwin(VALVE);
/** Another window, and another limit of a rule: it comes to another state. */
export const valve2: Kind = defineTwin({
  ...VALVE,
  version: 2,
  windows: { ...VALVE.windows, '5m': { spanMs: 300_000, panes: 10 } },
  rules: [{ ...VALVE.rules[0], above: 60 }, VALVE.rules[1]],
});

/** Says what it is asked: heat over a hundred, as a score. */
export function wearModel(version: string, scale = 1): Predictor & { asked: number } {
  return {
    asked: 0,
    async predict({ inputs, rows, at }: PredictRequest) {
      this.asked += rows;
      const width = inputs.length / rows;
      const predictions = at.map((time, i): Prediction | null => {
        const heat = inputs[i * width];
        return Number.isNaN(heat)
          ? null
          : {
              model: `valve-wear@${version}`,
              at: time,
              score: (heat * scale) / 100,
              threshold: 1,
              contributions: { heat: 1 },
            };
      });
      return { predictions };
    },
  };
}

export interface Moment {
  at: number;
  revision: number;
  bytes: Uint8Array;
}

let unique = 0;

export class Live {
  now = T0;
  readonly moments: Moment[] = [];
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #predictor: Predictor;
  #kind = valve;
  #host!: Host;
  #log!: MemoryLog;
  #tuning = 0;

  constructor(store: Store, predictor: Predictor = wearModel('1.0.0')) {
    this.#store = store;
    this.#predictor = predictor;
    this.#clock = { ...systemClock, now: () => this.now };
  }

  get host(): Host {
    return this.#host;
  }

  async start(kind: Kind = this.#kind): Promise<void> {
    this.#kind = kind;
    this.#log = new MemoryLog({ clock: this.#clock, maxReadings: 100_000 });
    this.#host = new Host({
      node: 'one',
      kinds: registryOf([kind]),
      store: this.#store,
      log: this.#log,
      clock: this.#clock,
      random: seededRandom(1),
      shards: SHARDS,
      ttlMs: 2_000,
      housekeepingMs: 5,
      summaryEveryMs: 5,
      predictor: this.#predictor,
    });
    await this.#host.start();
    if (this.#tuning > 0) this.#host.setTuning('valve', this.#tuningNow());
    await until(() => this.#host.status().shards.owned === SHARDS, 'the shards');
  }

  /** In order: what had a tail has a snapshot. */
  async stop(): Promise<void> {
    await this.#host.stop();
    await this.#log.close();
  }

  async crash(): Promise<void> {
    this.#host.kill();
    await this.#log.close();
  }

  /** The twin leaves memory, with a snapshot. */
  async passivate(): Promise<void> {
    const { options, checkpoint } = this.#host;
    const { passivateAfterMs } = options;
    Object.assign(options, { passivateAfterMs: 0 });
    await until(() => {
      // chosen anew each time: housekeeping chooses too, and not all that is chosen can leave at once
      checkpoint.closing.sweep();
      this.#host.signal();
      return this.#activation() === undefined;
    }, 'the twin to leave memory');
    Object.assign(options, { passivateAfterMs });
  }

  async send(...readings: Omit<Reading, 'kind' | 'id'>[]): Promise<void> {
    await this.#log.append({
      shard: shardOf(TWIN, SHARDS),
      id: `l${++unique}`,
      receivedAt: this.now,
      readings: readings.map((reading) => ({ ...reading, kind: 'valve', id: 'v1' })),
    });
  }

  command(command: Command): Promise<unknown> {
    return this.#host.command(TWIN, command).catch(() => undefined);
  }

  tune(): void {
    this.#tuning++;
    this.#host.setTuning('valve', this.#tuningNow());
  }

  #tuningNow(): Tuning {
    return {
      version: this.#tuning,
      latenessMs: 600_000 + this.#tuning * 1_000,
      rules: { hot: { above: 80 + (this.#tuning % 3) * 10 } },
    };
  }

  /** Waits until nothing of the twin is under way, and remembers what it is. */
  async settle(): Promise<void> {
    if ((await this.#host.get(TWIN).catch(() => null)) === null) return;
    let before = -1;
    await until(() => {
      const activation = this.#activation();
      if (activation === undefined || activation.part !== null) return false;
      const wake = activation.state.n[H.WAKE];
      const { state } = activation;
      const asks = state.layout.predictions.some((plan) => isDue(state, plan));
      const isStill = before === activation.revision && !asks && !(wake > 0 && wake <= this.now);
      before = activation.revision;
      return isStill;
    }, 'the twin to settle');
    const { state, revision } = this.#activation()!;
    this.moments.push({ at: this.now, revision, bytes: encodeSnapshot(state, { duplicates: 0, backfilled: 0 }) });
  }

  #activation(): Activation | undefined {
    return this.#host.custody.shards.get(shardOf(TWIN, SHARDS))?.twins.get(TWIN);
  }
}

export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 3_000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
  throw new Error(`gave up waiting for ${what}`);
}
