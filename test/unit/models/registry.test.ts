import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import files from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../../actors/protocol/clock.ts';
import type { Prediction } from '../../../actors/protocol/prediction.ts';
import { Batcher } from '../../../models/batcher.ts';
import { ModelRegistry, type RefusedModel, type Wanted } from '../../../models/registry.ts';
import { linear, writeModel } from '../../fixtures/onnx.ts';

/** Versions that come, go, fail and shadow one another while questions are answered. */
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'twinmesh-registry-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const NAME = 'machine-rul';
/** `value = factor × (t + v)`. */
function version(text: string, factor: number): string {
  const parity = { inputs: [[1, 2]], outputs: { value: [3 * factor] } };
  return writeModel(root, { name: NAME, version: text, onnx: linear([factor, factor], 0), parity });
}
const want = (live: string | null, more: Partial<Wanted> = {}) =>
  new Map([[NAME, { live, replaced: null, shadow: null, sha256: new Map(), ...more }]]);
const ask = async (registry: ModelRegistry, rows = 1) => {
  const inputs = new Float32Array(rows * 2).fill(1);
  return (await registry.predict({ model: NAME, inputs, rows, at: Array(rows).fill(0) })).predictions;
};

describe('a registry', () => {
  it('swaps, rolls back and shadows under load without dropping a prediction', async () => {
    version('1.0.0', 1);
    version('1.1.0', 2);
    const differences: number[] = [];
    const registry = new ModelRegistry([root], { compared: (_l, _s, found) => void differences.push(...found) });
    await registry.scan();
    await registry.apply(want('1.0.0'));
    let asked = 0;
    const answered: (Prediction | null)[] = [];
    let isOn = true;
    const askers = Array.from({ length: 8 }, async (_, k) => {
      while (isOn) {
        asked += 40 + k;
        answered.push(...(await ask(registry, 40 + k)));
      }
    });
    const seen = async (version: string) => {
      while (!answered.slice(-40).every((p) => p?.model === `${NAME}@${version}`)) await new Promise(setImmediate);
    };
    await seen('1.0.0');
    await registry.apply(want('1.1.0', { replaced: '1.0.0' }));
    await seen('1.1.0');
    await registry.apply(want('1.0.0', { shadow: '1.1.0' }));
    await seen('1.0.0');
    while (differences.length === 0) await new Promise(setImmediate);
    await registry.apply(want('1.1.0', { replaced: '1.0.0' }));
    await seen('1.1.0');
    isOn = false;
    await Promise.all(askers);
    expect(answered.length).toBe(asked);
    const values: Record<string, number> = { [`${NAME}@1.0.0`]: 2, [`${NAME}@1.1.0`]: 4 };
    expect(answered.every((p) => p !== null && p.value === values[p.model])).toBe(true);
    // |2 − 4| of 2 + 4
    expect(differences.every((d) => Math.abs(d - 1 / 3) < 1e-6)).toBe(true);
    await registry.close();
    await expect(ask(registry)).rejects.toMatchObject({ code: 'inference_down', details: { model: NAME } });
  });

  it('keeps the version that answers when the next does not load, and tries again once its folder changes', async () => {
    version('1.0.0', 1);
    const next = version('2.0.0', 2);
    truncateSync(join(next, 'model.onnx'), 50);
    const refused: RefusedModel[] = [];
    const registry = new ModelRegistry([root], { refused: (one) => void refused.push(one) });
    await registry.scan();
    await registry.apply(want('1.0.0'));
    for (let i = 0; i < 3; i++) await registry.apply(want('2.0.0', { replaced: '1.0.0' }));
    expect((await ask(registry))[0]?.model).toBe(`${NAME}@1.0.0`);
    expect(refused).toEqual([{ name: NAME, version: '2.0.0', reason: expect.stringMatching(/has the hash/) }]);
    const whole = writeModel(join(root, 'whole'), {
      name: NAME,
      version: '2.0.0',
      onnx: linear([2, 2], 0),
      parity: { inputs: [[1, 2]], outputs: { value: [6] } },
    });
    for (const file of ['model.onnx', 'card.json']) copyFileSync(join(whole, file), join(next, file));
    await registry.apply(want('2.0.0', { replaced: '1.0.0' }));
    expect((await ask(registry))[0]).toMatchObject({ model: `${NAME}@2.0.0`, value: 4 });
    expect(registry.refused()).toEqual([]);
    await registry.close();
  });

  it('says whether a version could be used, and disturbs nothing', async () => {
    version('1.0.0', 1);
    const next = version('2.0.0', 2);
    const sha256 = JSON.parse(readFileSync(join(next, 'card.json'), 'utf8')).sha256;
    const registry = new ModelRegistry([root]);
    await registry.scan();
    await registry.apply(want('1.0.0'));
    expect(await registry.probe(NAME, '2.0.0', sha256)).toBeNull();
    expect(registry.loaded()).toMatchObject([{ live: '1.0.0', shadow: null }]);
    expect(await registry.probe(NAME, '2.0.0', 'f'.repeat(64))).toMatch(/a version never changes/);
    expect(await registry.probe(NAME, '9.0.0', sha256)).toMatch(/no folder/);
    version('2.0.0', 3);
    expect(await registry.probe(NAME, '2.0.0', sha256)).toMatch(/a version never changes/);
    const parity = { inputs: [[1, 2]], outputs: { value: [6] } };
    writeModel(root, { name: NAME, version: '2.0.0', onnx: linear([2, 2], 1), parity });
    expect(await registry.probe(NAME, '2.0.0', sha256)).not.toBeNull();
    expect((await ask(registry))[0]).toMatchObject({ model: `${NAME}@1.0.0`, value: 2 });
    // what was said against these files is said no more once they are others
    version('2.0.0', 2);
    expect(registry.refused()).toHaveLength(1);
    await registry.scan();
    expect(registry.refused()).toEqual([]);
    await registry.close();
  });

  it('believes no refusal that it remembers when a version is tried anew, and remembers none of files it could not read', async () => {
    const path = version('1.0.0', 1);
    const sha256 = JSON.parse(readFileSync(join(path, 'card.json'), 'utf8')).sha256;
    let misfit: string | null = 'The kind is not there.';
    const refused: RefusedModel[] = [];
    const registry = new ModelRegistry([root], { refused: (one) => void refused.push(one) }, () => misfit);
    expect(await registry.probe(NAME, '1.0.0', sha256)).toBe(misfit);
    misfit = null;
    expect(await registry.probe(NAME, '1.0.0', sha256)).toBeNull();
    expect(registry.refused()).toEqual([]);
    // as where it may not be read: whoever is root may read everything
    const open = vi.spyOn(files, 'open').mockRejectedValue(Object.assign(new Error('no'), { code: 'EACCES' }));
    syncBuiltinESMExports();
    await registry.apply(want('1.0.0', { sha256: new Map([['1.0.0', sha256]]) }));
    expect(registry.refused()).toEqual([{ name: NAME, version: '1.0.0', reason: 'card.json cannot be read: EACCES.' }]);
    await registry.apply(want('1.0.0', { sha256: new Map([['1.0.0', sha256]]) }));
    expect(refused).toHaveLength(2);
    open.mockRestore();
    syncBuiltinESMExports();
    await registry.apply(want('1.0.0', { sha256: new Map([['1.0.0', sha256]]) }));
    expect((await ask(registry))[0]?.model).toBe(`${NAME}@1.0.0`);
    expect(registry.refused()).toEqual([]);
    await registry.close();
  });

  it('refuses a shadow that has no answer where the live version has, until it answers', async () => {
    version('1.0.0', 1);
    // answers nothing above 3
    const card = { output: { unit: 'h', range: [0, 3] } };
    const parity = { inputs: [[1, 0]], outputs: { value: [2] } };
    writeModel(root, { name: NAME, version: '1.1.0', onnx: linear([2, 2], 0), parity, card });
    const compared: number[] = [];
    const told: RefusedModel[] = [];
    const registry = new ModelRegistry([root], {
      compared: (_l, _s, found) => void compared.push(found.length),
      refused: (one) => void told.push(one),
    });
    await registry.scan();
    await registry.apply(want('1.0.0', { shadow: '1.1.0' }));
    expect(registry.refused()).toEqual([]);
    for (let asked = 1; asked <= 3; asked++) {
      await ask(registry, 9);
      await expect.poll(() => compared.length).toBe(asked);
    }
    const reason = expect.stringMatching(/^As a shadow: it has no answer where machine-rul@1\.0\.0 has: out_of_range/);
    await expect.poll(() => registry.refused()).toEqual([{ name: NAME, version: '1.1.0', reason }]);
    expect(told).toHaveLength(1);
    await registry.scan();
    expect(registry.refused()).toHaveLength(1);
    await registry.predict({ model: NAME, inputs: new Float32Array([1, 0]), rows: 1, at: [0] });
    await expect.poll(() => registry.refused()).toEqual([]);
    await registry.close();
  });

  it('lets the version that was replaced stand in where the live one never loaded here', async () => {
    version('1.0.0', 1);
    const registry = new ModelRegistry([root]);
    await registry.scan();
    await registry.apply(want('3.0.0', { replaced: '1.0.0' }));
    expect((await ask(registry))[0]?.model).toBe(`${NAME}@1.0.0`);
    expect(registry.refused()).toEqual([{ name: NAME, version: '3.0.0', reason: expect.stringMatching(/no folder/) }]);
    await registry.close();
  });

  it('refuses a folder that is not what was registered', async () => {
    version('1.0.0', 1);
    const registry = new ModelRegistry([root]);
    await registry.scan();
    await registry.apply(want('1.0.0', { sha256: new Map([['1.0.0', 'b'.repeat(64)]]) }));
    await expect(ask(registry)).rejects.toMatchObject({ message: expect.stringMatching(/a version never changes/) });
  });

  it('passes over folders that are none of a model, and reads the first of two roots', async () => {
    version('1.0.0', 1);
    version('1.10.0', 1);
    version('1.9.0', 1);
    writeModel(root, { name: 'training', version: 'maps', onnx: linear([1], 0) });
    const registry = new ModelRegistry([root, root, join(root, 'nowhere')]);
    expect((await registry.scan()).map((folder) => [folder.name, folder.version, folder.root])).toEqual([
      [NAME, '1.0.0', 0],
      [NAME, '1.9.0', 0],
      [NAME, '1.10.0', 0],
    ]);
  });
});

describe('a batcher', () => {
  const question = (model: string, rows: number, fill: number) => ({
    model,
    rows,
    inputs: new Float32Array(rows * 2).fill(fill),
    at: Array.from({ length: rows }, (_, i) => i),
  });

  it('answers what waits together in one run, each its own', async () => {
    const runs: [string, number][] = [];
    const batcher = new Batcher({
      clock: systemClock,
      maxBatchRows: 10,
      async run({ model, rows, inputs, at }) {
        runs.push([model, rows]);
        if (inputs[0] < 0) throw new Error('malformed');
        return { predictions: at.map((time, i) => ({ model: `${model} ${inputs[i * 2]}`, at: time })) };
      },
    });
    const answers = await Promise.all([
      batcher.ask(question('a', 2, 1), 1_000),
      batcher.ask(question('b', 1, 2), 1_000),
      batcher.ask(question('a', 3, 3), 1_000),
      batcher.ask(question('a', 9, 4), 1_000),
      batcher.ask(question('b', 1, 5), 1_000, false),
    ]);
    expect(answers.map((said) => [said.length, said[0]?.model, said.at(-1)?.at])).toEqual([
      [2, 'a 1', 1],
      [1, 'b 2', 0],
      [3, 'a 3', 2],
      [9, 'a 4', 8],
      [1, 'b 5', 0],
    ]);
    expect(runs).toEqual([
      ['a', 5],
      ['b', 1],
      ['a', 9],
      ['b', 1],
    ]);
  });

  it('does not let one that is malformed take the others along', async () => {
    const batcher = new Batcher({
      clock: systemClock,
      async run({ model, inputs, at }) {
        if (inputs.includes(-1)) throw new Error('malformed');
        return { predictions: at.map((time) => ({ model, at: time })) };
      },
    });
    const [good, bad] = await Promise.allSettled([
      batcher.ask(question('a', 1, 1), 1_000),
      batcher.ask(question('a', 1, -1), 1_000),
    ]);
    expect([good.status, bad.status]).toEqual(['fulfilled', 'rejected']);
  });

  it('refuses what is too much at once, and does not compute what nobody waits for', async () => {
    let release = () => {};
    let runs = 0;
    let now = 0;
    const refused: [string, number][] = [];
    const batcher = new Batcher({
      clock: { ...systemClock, monotonic: () => now },
      maxWaitingRows: 4,
      async run({ at }) {
        if (++runs === 1)
          await new Promise<void>((resolve) => {
            release = resolve;
          });
        return { predictions: at.map((time) => ({ model: 'a', at: time })) };
      },
      onRefused: (reason, rows) => void refused.push([reason, rows]),
    });
    const first = batcher.ask(question('a', 1, 1), 1_000);
    while (runs === 0) await Promise.resolve();
    const second = batcher.ask(question('a', 4, 1), 100);
    await expect(batcher.ask(question('a', 1, 1), 1_000)).rejects.toMatchObject({ code: 'overloaded' });
    now = 200;
    release();
    expect(await first).toHaveLength(1);
    await expect(second).rejects.toMatchObject({ code: 'deadline_exceeded' });
    expect(refused).toEqual([
      ['overloaded', 1],
      ['deadline_exceeded', 4],
    ]);
    expect([batcher.waitingRows, runs]).toEqual([0, 1]);
  });
});
