import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defineTwin, type Kind } from '../../../actors/protocol/kind.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { DemoFleet, type SavedFleet } from '../../../services/demo/fleet.ts';
import { FleetFile } from '../../../services/demo/fleet-file.ts';
import { HandClock } from './hand-clock.ts';

const kinds = await loadKinds();
const START = Date.UTC(2026, 0, 1, 9);
const HOUR_MS = 3_600_000;

type Values = Record<string, number>;

/** A node that comes and goes: a data folder, a wall clock that goes on meanwhile, and what its fleet said last. */
class Demo {
  readonly dataDir = mkdtempSync(join(tmpdir(), 'demo-'));
  readonly path = join(this.dataDir, 'demo-fleet.json');
  readonly warnings: string[] = [];
  readonly said = new Map<string, { at: number; values: Values }[]>();
  clock = new HandClock(START);
  fleet!: DemoFleet;
  anew: string[] = [];

  start(change: { seed?: number; kinds?: Kind[] } = {}): this {
    const seed = change.seed ?? 1;
    const file = new FleetFile(this.dataDir, seed, { warn: (sentence) => this.warnings.push(sentence) });
    this.clock = new HandClock(this.clock.now());
    this.fleet = new DemoFleet({
      kinds: change.kinds ?? kinds.all(),
      seed,
      clock: this.clock,
      intervalMs: null,
      speedFactor: 1,
      send: (topic, message) => {
        const { kind, format, topicId } = kinds.byMqttTopic(topic)[0];
        const raw = format.decode(message, topicId);
        const twinId = `${kind.kind}:${raw.id}`;
        this.said.set(twinId, [
          ...(this.said.get(twinId) ?? []),
          { at: Date.parse(String(raw.at)), values: raw.values as Values },
        ]);
      },
      keep: (saved) => file.write(saved),
    });
    const saved = file.read();
    this.anew = saved === null ? [] : this.fleet.resume(saved);
    this.fleet.start();
    return this;
  }

  /** What was saved last stays, as `kill -9` leaves it. */
  kill(): this {
    const left = readFileSync(this.path);
    this.fleet.stop();
    writeFileSync(this.path, left);
    return this;
  }

  /** The last values before, and the first ones after. */
  across(
    pauseMs: number,
    end: () => void,
    more: { seed?: number; kinds?: Kind[] } = {},
  ): Map<string, [Values, Values]> {
    end();
    const before = new Map([...this.said].map(([twinId, all]) => [twinId, all.at(-1)!.values]));
    this.said.clear();
    this.clock.sleep(pauseMs);
    this.start(more).clock.move(5_000);
    return new Map([...this.said].map(([twinId, all]) => [twinId, [before.get(twinId)!, all[0].values]]));
  }
}

let demo: Demo;
beforeEach(() => {
  demo = new Demo();
});
afterEach(() => rmSync(demo.dataDir, { recursive: true, force: true }));

/** What no sound asset of the demo changes by within a minute or two. */
const STEP: Record<string, Values> = {
  battery: { soc: 1.5, soh: 0.02, temperature: 2, cycles: 1 },
  machine: { temperature: 4.5 },
};

function jumps(across: Map<string, [Values, Values]>): string[] {
  const found: string[] = [];
  for (const [twinId, [before, after]] of across)
    for (const [metric, most] of Object.entries(STEP[twinId.split(':')[0]] ?? {})) {
      expect(Number.isFinite(before[metric]) && Number.isFinite(after[metric]), `${twinId} ${metric}`).toBe(true);
      if (Math.abs(after[metric] - before[metric]) > most)
        found.push(`${twinId} ${metric} ${before[metric]} → ${after[metric]}`);
    }
  return found;
}

describe('a demo fleet that is started again', () => {
  it.each([
    ['a stop of 8 s', 8_000, () => demo.fleet.stop()],
    ['a stop of 7 h', 7 * HOUR_MS, () => demo.fleet.stop()],
    ['a kill and 8 s', 8_000, () => demo.kill()],
    ['a kill and 7 h', 7 * HOUR_MS, () => demo.kill()],
  ])('goes on where it was: %s', (_, pauseMs, end) => {
    demo.start().clock.move(10 * 60_000 + 3_900);
    const across = demo.across(pauseMs, end);
    expect(across.size).toBe(demo.fleet.twinIds.length);
    expect(jumps(across)).toEqual([]);
    expect(demo.warnings).toEqual([]);
  });

  it('does not jump either when the process was asleep', () => {
    demo.start().clock.move(10 * 60_000);
    const before = new Map([...demo.said].map(([twinId, all]) => [twinId, all.at(-1)!.values]));
    demo.said.clear();
    demo.clock.sleep(7 * HOUR_MS);
    demo.clock.move(5_000);
    expect(jumps(new Map([...demo.said].map(([id, all]) => [id, [before.get(id)!, all[0].values]])))).toEqual([]);
  });

  it('goes on with a scenario that has only just been started when it is killed', () => {
    demo.start().clock.move(60_000);
    demo.fleet.inject('machine:MACHINE_001', 'dropout', 1);
    demo.across(2_000, () => demo.kill());
    demo.clock.move(60_000);
    expect(demo.said.has('machine:MACHINE_001')).toBe(false);
    expect(demo.said.has('machine:MACHINE_002')).toBe(true);
  });

  it('comes back with the clock where that had been ahead', () => {
    demo.start().clock.move(60_000);
    demo.fleet.stop();
    demo.said.clear();
    demo.clock.setWall(START - HOUR_MS);
    demo.start().clock.move(5_000);
    for (const [twinId, all] of demo.said)
      for (const { at } of all) expect(Math.abs(at - demo.clock.now()), twinId).toBeLessThan(10_000);
  });

  it.each([
    ['damaged', (text: string) => text.replace(/"soc":0\.\d/, '"soc":0.0'), /damaged/],
    ['cut off', (text: string) => text.slice(0, text.length / 2), /damaged/],
    ['empty', () => '', /cannot be read/],
    ['of another version', (text: string) => text.replace('"version":1', '"version":99'), /another version/],
  ])('begins anew and says so where the file is %s', (_, change, said) => {
    demo.start().clock.move(60_000);
    demo.fleet.stop();
    const text = readFileSync(demo.path, 'utf8');
    expect(change(text)).not.toBe(text);
    writeFileSync(demo.path, change(text));
    demo.start().clock.move(5_000);
    expect(demo.warnings).toEqual([expect.stringMatching(said)]);
    expect(demo.said.size).toBe(demo.fleet.twinIds.length);
  });

  it('begins anew and says so for another seed', () => {
    demo.start().clock.move(60_000);
    demo.across(1_000, () => demo.fleet.stop(), { seed: 2 });
    expect(demo.warnings).toEqual([expect.stringMatching(/another DEMO_SEED/)]);
  });

  it('says it once, and runs on, where nothing can be written', () => {
    rmSync(demo.dataDir, { recursive: true });
    demo.start().clock.move(60_000);
    demo.fleet.stop();
    expect(existsSync(demo.path)).toBe(false);
    expect(demo.warnings).toEqual([expect.stringMatching(/cannot be written/)]);
    expect(demo.said.size).toBe(demo.fleet.twinIds.length);
  });

  it('stays small, and writes neither often nor never', () => {
    demo.start().clock.move(60_000);
    expect(readFileSync(demo.path).length).toBeLessThan(100_000);
    let written = 0;
    const saved: SavedFleet[] = [];
    const fleet = new DemoFleet({
      kinds: kinds.all(),
      seed: 1,
      clock: demo.clock,
      intervalMs: null,
      speedFactor: 1,
      send: () => {},
      keep: (one) => saved.push(one) && written++,
    });
    fleet.start();
    demo.clock.move(60_000);
    expect(written).toBe(12);
    fleet.stop();
    expect(written).toBe(13);
    expect(Object.keys(saved.at(-1)!).sort()).toEqual([...fleet.twinIds].sort());
    demo.clock.move(60_000);
    expect(written).toBe(13);
    demo.fleet.stop();
  });

  it('lets an asset begin anew whose simulator has changed, and one that cannot save as ever', () => {
    const base = kinds.get('machine');
    /** A counter, which may or may not be able to save. */
    const kindOf = (name: string, members: Record<string, unknown> | null): Kind =>
      defineTwin({
        ...base,
        kind: name,
        simulator: {
          demoCount: 1,
          intervalMs: 1_000,
          scenarios: {},
          create: () => {
            let count = 0;
            return {
              id: 'one',
              next: () => {
                count++;
                return { count };
              },
              inject: () => {},
              truth: () => ({}),
              ...(members === null
                ? {}
                : {
                    save: () => ({ ...members, count }),
                    resume: (saved: Record<string, unknown>) => {
                      if (saved.refused === true) throw new Error('no');
                      count = saved.count as number;
                    },
                  }),
            };
          },
        },
      });
    const run = (members: Record<string, unknown> | null, saved: SavedFleet | null) => {
      const clock = new HandClock(START);
      const counts: unknown[] = [];
      let kept: SavedFleet = {};
      const fleet = new DemoFleet({
        kinds: [kindOf('counter', members)],
        seed: 1,
        clock,
        intervalMs: null,
        speedFactor: 1,
        send: (_, message) => counts.push(message.count),
        keep: (one) => {
          kept = JSON.parse(JSON.stringify(one));
        },
      });
      const anew = saved === null ? [] : fleet.resume(saved);
      fleet.start();
      clock.move(2_500);
      fleet.stop();
      return { anew, counts, kept };
    };
    const { kept } = run({ a: 1 }, null);
    expect(run({ a: 1 }, kept)).toMatchObject({ anew: [], counts: [4, 5, 6] });
    for (const other of [{ a: 'text' }, { b: 1 }, { a: 1, b: 1 }])
      expect(run(other, kept), JSON.stringify(other)).toMatchObject({ anew: ['counter:one'], counts: [1, 2, 3] });
    expect(run({ refused: false }, run({ refused: true }, null).kept)).toMatchObject({ anew: ['counter:one'] });
    expect(run(null, kept)).toMatchObject({ anew: [], counts: [1, 2, 3], kept: {} });
    const broken = { 'counter:one': { at: 'then', state: null } } as unknown as SavedFleet;
    expect(run({ a: 1 }, broken)).toMatchObject({ anew: ['counter:one'], counts: [1, 2, 3] });
  });
});
