import { describe, expect, it } from 'vitest';
import { MemoryLog } from '../../../actors/log/memory.ts';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { defineTwin, type Kind } from '../../../actors/protocol/kind.ts';
import type { PredictAnswer, Predictor, PredictRequest } from '../../../actors/protocol/prediction.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { Host } from '../../../actors/runtime/host.ts';
import type { HostOptions } from '../../../actors/runtime/host-options.ts';
import { registryOf } from '../../../actors/runtime/kind-registry.ts';
import { MemoryStore } from '../../../actors/store/memory.ts';
import { EPOCH, Process, Scheduler } from '../../simulation/clock.ts';

/** A host on simulated time, and whoever answers for the models. */
const SHARDS = 4;

const kind = (name: string, model: string) =>
  defineTwin({
    kind: name,
    version: 1,
    title: name,
    description: 'for tests',
    metrics: { heat: { unit: '°C', min: -1e9, max: 1e9 } },
    formats: [{ name: 'x', example: {}, decode: () => ({ id: 'b', at: 0, values: {} }) }],
    windows: { '1m': { spanMs: 60_000, panes: 6 } },
    detectors: {},
    rules: [],
    models: { rul: { model, inputs: ['heat', 'heat.1m.count'], everyMs: 5_000 } },
    silentAfterMs: 6_000_000,
    graph: { type: 'X' },
    digest: () => '',
  });
/** Folding what is said of it throws: a rule is judged by it whose text cannot be told. */
function withHostileText(kindOf: Kind): Kind {
  const message = {
    replaceAll(): string {
      throw new Error('no text');
    },
  } as unknown as string;
  const limits = { above: 0, hysteresis: 0, holdMs: 0, cooldownMs: 0, severity: 'info' as const };
  return Object.freeze({ ...kindOf, rules: [{ name: 'any', metric: 'predictions.rul', message, ...limits }] });
}

const kinds = [kind('pump', 'pump-rul'), kind('fan', 'fan-rul'), withHostileText(kind('bomb', 'bomb-rul'))];

class Oracle implements Predictor {
  readonly asked: PredictRequest[] = [];
  under = 0;
  mostUnder = 0;
  say: (request: PredictRequest) => Promise<PredictAnswer> = async (request) => answerOf(request);

  async predict(request: PredictRequest): Promise<PredictAnswer> {
    this.asked.push(request);
    this.mostUnder = Math.max(this.mostUnder, ++this.under);
    try {
      return await this.say(request);
    } finally {
      this.under--;
    }
  }
}

function answerOf({ model, rows, inputs, at }: PredictRequest): PredictAnswer {
  const predictions = Array.from({ length: rows }, (_, i) => ({
    model: `${model}@1.0.0`,
    at: at[i],
    value: inputs[2 * i],
  }));
  return { predictions };
}

const down = async (): Promise<never> => {
  throw new TwinmeshError('inference_down', 'nobody is there');
};

class World {
  readonly scheduler = new Scheduler(2_000_000);
  readonly process = new Process('p', this.scheduler, 1);
  readonly oracle = new Oracle();
  readonly store: MemoryStore;
  readonly log: MemoryLog;
  readonly host: Host;
  #messages = 0;

  constructor(options: Partial<HostOptions> = {}, store = new MemoryStore()) {
    const { clock, breathe } = this.process;
    this.store = store;
    this.log = new MemoryLog({ clock, maxReadings: 10_000 });
    this.host = new Host({
      node: 'one',
      kinds: registryOf(kinds),
      store,
      log: this.log,
      clock,
      breathe,
      random: seededRandom(1),
      shards: SHARDS,
      ttlMs: 60_000,
      predictor: this.oracle,
      ...options,
    });
  }

  static async start(options: Partial<HostOptions> = {}, store?: MemoryStore): Promise<World> {
    const world = new World(options, store);
    await world.store.open(kinds, SHARDS);
    void world.host.start();
    await world.pass(2_000);
    expect(world.host.status().shards.owned).toBe(SHARDS);
    return world;
  }

  async pass(ms: number): Promise<void> {
    // what has begun outside of any step settles first
    await new Promise((resolve) => setImmediate(resolve));
    await this.scheduler.run(this.scheduler.time + ms);
  }

  wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.process.clock.after(ms, resolve));
  }

  /** Readings of now, a batch a twin; `value` by twin. */
  send(twinIds: readonly string[], value = 7): void {
    const at = this.process.clock.now();
    for (const twinId of twinIds) {
      const [kindName, id] = twinId.split(':');
      const readings = [{ kind: kindName, id, at, values: { heat: value } }];
      void this.log.append({ shard: shardOf(twinId, SHARDS), id: `m${++this.#messages}`, receivedAt: at, readings });
    }
  }

  async predictionsOf(twinId: string) {
    let found: unknown[] = [];
    void this.host.journal(twinId, 0, 1_000).then((entries) => {
      found = entries.filter(({ type }) => type === 'prediction');
    });
    await this.pass(50);
    return found;
  }

  async view(twinId: string) {
    let view: Awaited<ReturnType<Host['get']>> | null = null;
    void this.host.get(twinId).then((v) => {
      view = v;
    });
    await this.pass(50);
    return view!;
  }
}

const many = (count: number, name = 'pump'): string[] => Array.from({ length: count }, (_, i) => `${name}:t${i}`);

describe('asking', () => {
  it('asks after the commit, and journals the answer as one about the state that was asked', async () => {
    const world = await World.start();
    world.send(['pump:a'], 3);
    await world.pass(500);
    expect(world.oracle.asked).toHaveLength(1);
    const [request] = world.oracle.asked;
    expect(request).toMatchObject({ model: 'pump-rul', rows: 1, at: [EPOCH + 2_000] });
    expect([...request.inputs]).toEqual([3, 1]);
    expect(await world.predictionsOf('pump:a')).toEqual([
      {
        type: 'prediction',
        revision: 2,
        receivedAt: expect.any(Number),
        name: 'rul',
        basedOn: 1,
        prediction: { model: 'pump-rul@1.0.0', at: EPOCH + 2_000, value: 3 },
      },
    ]);
    expect((await world.view('pump:a')).predictions.rul).toMatchObject({ value: 3, basedOn: 1, stale: null });
    expect(world.host.status().inference).toMatchObject({ asked: 1, answered: 1, waiting: 0, failingSince: null });
  });

  it('asks again only after the period', async () => {
    const world = await World.start();
    for (let i = 0; i < 20; i++) {
      world.send(['pump:a'], i);
      await world.pass(1_000);
    }
    expect(world.oracle.asked.map(({ inputs }) => inputs[0])).toEqual([0, 5, 10, 15]);
  });

  it('asks nobody without a predictor, and nobody at a rate of 0', async () => {
    for (const options of [{ predictor: undefined }, { predictionsPerSecond: 0 }]) {
      const world = await World.start(options);
      world.send(['pump:a']);
      await world.pass(500);
      expect(world.oracle.asked).toEqual([]);
      expect(world.host.status().inference).toMatchObject({ asked: 0, waiting: 0, failingSince: null });
      expect((await world.view('pump:a')).stale).toBeNull();
    }
  });

  it('asks for many twins in one call of bounded size, one call a model at a time', async () => {
    const world = await World.start({ predictionsPerSecond: 1_000_000 });
    world.oracle.say = async (request) => {
      await world.wait(300);
      return answerOf(request);
    };
    const twins = many(1_500);
    world.send(twins);
    world.send(['fan:a']);
    await world.pass(4_000);
    const rows = world.oracle.asked.filter(({ model }) => model === 'pump-rul').map((request) => request.rows);
    expect(rows.reduce((a, b) => a + b)).toBe(1_500);
    expect(Math.max(...rows)).toBe(512);
    expect(rows.length).toBeLessThan(8);
    // two models: never more than two calls
    expect(world.oracle.mostUnder).toBe(2);
    expect(world.host.status().inference).toMatchObject({ asked: 1_501, answered: 1_501, waiting: 0 });
  });

  it('goes on with telemetry while nobody answers, says so, and catches up', async () => {
    const world = await World.start();
    world.oracle.say = down;
    const twins = many(20);
    world.send(twins);
    await world.pass(3_000);
    world.send(twins, 8);
    await world.pass(3_000);
    const { inference, stale, counters } = world.host.status();
    expect(counters.accepted).toBe(40);
    expect(stale).toBeNull();
    expect(inference).toMatchObject({ answered: 0, waiting: 20, failing: ['pump-rul'] });
    expect(Date.parse(inference.failingSince!)).toBeGreaterThanOrEqual(EPOCH + 2_000);
    expect(inference.failed).toBeLessThan(200);
    const view = await world.view('pump:t3');
    expect(view.reported).toEqual({ heat: 8 });
    expect(view.stale).toMatchObject({ reason: 'inference down', since: inference.failingSince });
    expect(view.stale!.remedy).not.toBe('');
    world.send(['fan:a']);
    await world.pass(100);
    world.oracle.say = async (request) => answerOf(request);
    await world.pass(40_000);
    expect(world.host.status().inference).toMatchObject({ answered: 21, waiting: 0, failingSince: null, failing: [] });
    expect((await world.view('pump:t3')).stale).toBeNull();
    expect((await world.view('pump:t3')).predictions.rul).toMatchObject({ value: 8, stale: null });
  });

  it('holds a model that does not answer against the twins that ask it, and no others', async () => {
    const world = await World.start();
    world.oracle.say = (request) => (request.model === 'fan-rul' ? down() : Promise.resolve(answerOf(request)));
    world.send(['pump:a', 'fan:a']);
    await world.pass(1_000);
    expect((await world.view('fan:a')).stale).toMatchObject({ reason: 'inference down' });
    expect((await world.view('pump:a')).stale).toBeNull();
    expect((await world.view('pump:a')).predictions.rul.value).toBe(7);
  });

  it('gives up an answer that takes too long, and does not take it when it comes', async () => {
    const world = await World.start({ predictionDeadlineMs: 400 });
    world.oracle.say = async (request) => {
      await world.wait(900);
      return answerOf(request);
    };
    world.send(['pump:a']);
    await world.pass(850);
    expect(world.host.status().inference).toMatchObject({ failed: 1, failing: ['pump-rul'] });
    world.oracle.say = () => new Promise(() => {});
    await world.pass(3_000);
    expect(world.host.status().inference.answered).toBe(0);
    expect(await world.predictionsOf('pump:a')).toEqual([]);
    world.oracle.say = async (request) => answerOf(request);
    await world.pass(10_000);
    expect(await world.predictionsOf('pump:a')).toHaveLength(1);
  });

  it('takes what is no answer for a failure', async () => {
    for (const wrong of [null, {}, { predictions: [] }, { predictions: 'no' }]) {
      const world = await World.start();
      world.oracle.say = async () => wrong as unknown as PredictAnswer;
      world.send(['pump:a']);
      await world.pass(300);
      expect(world.host.status().inference).toMatchObject({ asked: 1, failed: 1, answered: 0 });
      expect(world.host.status().inference.failingSince).not.toBeNull();
    }
  });

  it('waits longer and longer with a twin whose answer is none; the others are served', async () => {
    const world = await World.start();
    const asked: number[] = [];
    world.oracle.say = async (request) => {
      const { predictions } = answerOf(request);
      const refused = predictions.map((p, i) => (request.inputs[2 * i] === 13 ? null : p));
      if (refused.includes(null)) asked.push(world.scheduler.time);
      return { predictions: refused };
    };
    world.send(['pump:bad'], 13);
    world.send(['pump:good'], 1);
    await world.pass(60_000);
    expect(asked.length).toBe(4);
    const gaps = asked.slice(1).map((at, i) => at - asked[i]);
    [5_000, 10_000, 20_000].forEach((least, i) => {
      expect(gaps[i]).toBeGreaterThanOrEqual(least);
      expect(gaps[i]).toBeLessThan(least + 300);
    });
    expect(await world.predictionsOf('pump:good')).toHaveLength(1);
    expect(await world.predictionsOf('pump:bad')).toEqual([]);
    expect(world.host.status().inference).toMatchObject({ refused: 4, answered: 1, failingSince: null });
  });

  it('shows that the newest answer was refused, since when and why, until one stands again', async () => {
    const world = await World.start();
    world.oracle.say = async (request) => {
      const { predictions } = answerOf(request);
      return { predictions: predictions.map((p, i) => (request.inputs[2 * i] === 13 ? null : p)) };
    };
    world.send(['pump:a', 'pump:b'], 1);
    await world.pass(6_000);
    world.send(['pump:a'], 13);
    world.send(['pump:b'], 2);
    await world.pass(500);
    const refusedBy = EPOCH + world.scheduler.time;
    const { value, stale } = (await world.view('pump:a')).predictions.rul;
    expect(value).toBe(1);
    expect(stale).toMatchObject({ reason: 'refused', remedy: expect.stringMatching(/no answer that stands/) });
    expect(Date.parse(stale!.since)).toBeGreaterThanOrEqual(refusedBy - 500);
    expect(Date.parse(stale!.since)).toBeLessThanOrEqual(refusedBy);
    expect((await world.view('pump:b')).predictions.rul).toMatchObject({ value: 2, stale: null });
    // refused again: since the first time
    await world.pass(20_000);
    expect(world.host.status().inference.refused).toBeGreaterThan(1);
    expect((await world.view('pump:a')).predictions.rul.stale).toEqual(stale);
    world.send(['pump:a'], 3);
    await world.pass(60_000);
    expect((await world.view('pump:a')).predictions.rul).toMatchObject({ value: 3, stale: null });
  });

  it('drops an answer for a shard that has gone meanwhile', async () => {
    const world = await World.start();
    world.oracle.say = async (request) => {
      await world.wait(1_000);
      return answerOf(request);
    };
    world.send(['pump:a']);
    await world.pass(500);
    expect(world.oracle.under).toBe(1);
    const shard = shardOf('pump:a', SHARDS);
    world.host.custody.reclaim(world.host.custody.shards.get(shard)!, 'a test wants it so');
    await world.pass(400);
    world.oracle.say = () => new Promise(() => {});
    await world.pass(1_000);
    expect(world.host.status().inference).toMatchObject({ dropped: 1, answered: 0 });
    expect(await world.predictionsOf('pump:a')).toEqual([]);
  });

  it('keeps to the rate, whose answer is oldest first, and says who had to wait', async () => {
    const world = await World.start({ predictionsPerSecond: 20 });
    const twins = many(150);
    world.send(twins);
    await world.pass(1_000);
    const first = world.host.status().inference;
    expect(first.asked).toBeGreaterThanOrEqual(15);
    expect(first.asked).toBeLessThanOrEqual(25);
    for (let i = 0; i < 11; i++) {
      world.send(twins, i);
      await world.pass(1_000);
    }
    const { asked, throttled, waiting } = world.host.status().inference;
    expect(asked).toBeLessThanOrEqual(20 * 12 + 5);
    expect(asked).toBeGreaterThanOrEqual(20 * 11);
    expect(throttled).toBeGreaterThan(100);
    expect(waiting).toBeGreaterThan(0);
    const counts = await Promise.all(twins.map((twinId) => world.host.journal(twinId, 0, 1_000)));
    const answers = counts.map((entries) => entries.filter(({ type }) => type === 'prediction').length);
    expect(Math.max(...answers) - Math.min(...answers)).toBeLessThanOrEqual(1);
  });

  it('asks about twins that were due when their host ended: those with a tail at once, others when they come into memory', async () => {
    const world = await World.start();
    world.oracle.say = down;
    world.send(['pump:tail']);
    await world.pass(500);
    world.host.kill();
    const second = await World.start({ node: 'two', passivateAfterMs: 1_000, ttlMs: 500 }, world.store);
    await second.pass(3_000);
    expect(await second.predictionsOf('pump:tail')).toHaveLength(1);

    second.oracle.say = down;
    second.send(['pump:passive']);
    await second.pass(8_000);
    expect(second.host.status().twins.resident).toBe(0);
    second.oracle.say = async (request) => answerOf(request);
    await second.pass(40_000);
    const before = second.oracle.asked.length;
    await second.view('pump:passive');
    await second.pass(500);
    expect(second.oracle.asked.length).toBe(before + 1);
    expect(await second.predictionsOf('pump:passive')).toHaveLength(1);
  });

  it('asks no more where folding the answer throws, and telemetry goes on', async () => {
    const world = await World.start();
    world.send(['bomb:a']);
    await world.pass(10_000);
    expect(world.oracle.asked).toHaveLength(1);
    world.send(['bomb:a'], 9);
    await world.pass(10_000);
    expect(world.oracle.asked).toHaveLength(1);
    expect((await world.view('bomb:a')).reported).toEqual({ heat: 9 });
    expect(await world.predictionsOf('bomb:a')).toEqual([]);
  });

  it('does not ask about retired twins, and drops what comes for one', async () => {
    const world = await World.start();
    world.oracle.say = async (request) => {
      await world.wait(500);
      return answerOf(request);
    };
    world.send(['pump:a']);
    await world.pass(200);
    void world.host.command('pump:a', { name: 'retire', key: 'k', by: 'x' });
    await world.pass(1_000);
    expect(world.host.status().inference).toMatchObject({ asked: 1, dropped: 1, answered: 0, waiting: 0 });
  });
});
