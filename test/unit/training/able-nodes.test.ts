import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { preparedPython, whyNoPython } from '../../../models/training/python.ts';
import { AbleNodes } from '../../../services/training/able-nodes.ts';
import { FakeClock } from '../gateway/fake-clock.ts';

/** Which node can train, and what becomes of a job that none can. */
const clock = new FakeClock();
const PATIENCE_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), 'twinmesh-able-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function nodes(
  others: () => (string | null)[],
  why: () => string | null = () => 'no Python',
  patienceMs = PATIENCE_MS,
) {
  let asked = 0;
  const able = new AbleNodes({
    clock,
    why: async () => why(),
    askOthers: async () => {
      asked++;
      return others();
    },
    patienceMs,
  });
  const judge = () => {
    clock.advance(5_000);
    return able.judge();
  };
  return { able, judge, asked: () => asked };
}

describe('a job that this node cannot do', () => {
  it('waits while another node can, or does not answer', async () => {
    const { judge } = nodes(() => ['no Python', null]);
    for (let i = 0; i < 100; i++) expect(await judge()).toBe('wait');
  });

  it('is given up once no node could for the whole patience', async () => {
    let others: (string | null)[] = ['no Python'];
    const { judge } = nodes(() => others);
    const begun = clock.monotonic() + 5_000;
    const until = async (wanted: string) => {
      for (;;) {
        const judgement = await judge();
        if (judgement === wanted) return clock.monotonic();
        expect(judgement).toBe('nobody');
      }
    };
    expect((await until('give up')) - begun).toBe(PATIENCE_MS);
    // One came back for a moment: patience begins anew.
    others = [null];
    expect(await judge()).toBe('wait');
    others = [];
    const again = clock.monotonic() + 5_000;
    expect((await until('give up')) - again).toBe(PATIENCE_MS);
  });

  it('gets the whole patience where nothing waited before', async () => {
    const { able, judge } = nodes(() => []);
    expect(await judge()).toBe('nobody');
    clock.advance(PATIENCE_MS);
    able.nothingWaits();
    expect(await judge()).toBe('nobody');
  });

  it('is given up at once where there are no other nodes', async () => {
    expect(await nodes(() => [], undefined, 0).judge()).toBe('give up');
  });

  it('has others asked every few seconds, not at every look', async () => {
    const { able, judge, asked } = nodes(() => ['no Python']);
    await judge();
    for (let i = 0; i < 10; i++) expect(await able.judge()).toBe('wait');
    expect(asked()).toBe(1);
  });
});

it('a node that cannot train looks again after a while, one that can does not', async () => {
  let why: string | null = 'no Python';
  let looked = 0;
  const { able } = nodes(
    () => [],
    () => {
      looked++;
      return why;
    },
  );
  expect([await able.why(), await able.why(), looked]).toEqual(['no Python', 'no Python', 1]);
  why = null;
  clock.advance(60_000);
  expect([await able.why(), looked]).toEqual([null, 2]);
  clock.advance(3_600_000);
  expect([await able.why(), looked]).toEqual([null, 2]);
});

describe('a prepared environment', () => {
  const pins = readFileSync(join(import.meta.dirname, '../../../models/training/requirements.txt'), 'utf8')
    .split('\n')
    .filter((line) => line.includes('=='));
  /** Stands in for an interpreter: answers what it was asked to compare. */
  const python = (name: string, ...lines: string[]) => {
    const path = join(folder, name);
    writeFileSync(path, ['#!/bin/sh', ...lines, ''].join('\n'));
    chmodSync(path, 0o755);
    return path;
  };

  it('is asked for every pinned package', async () => {
    const path = python('told', `shift 2; printf '%s\\n' "$@" > ${join(folder, 'pins')}`);
    expect(await whyNoPython(path)).toBeNull();
    expect(readFileSync(join(folder, 'pins'), 'utf8').trim().split('\n')).toEqual(pins);
  });

  it('is refused with what differs, or why it does not run', async () => {
    const differs = await whyNoPython(python('old', 'echo "numpy 1.26.4 (2.4.6 is needed)"'));
    expect(differs).toMatch(/TRAINING_PYTHON, .*old, does not have what .*: numpy 1\.26\.4 \(2\.4\.6 is needed\)\./);
    expect(await whyNoPython(join(folder, 'nowhere'))).toMatch(/TRAINING_PYTHON, .*nowhere, does not run: .*ENOENT/);
  });

  it('is named by a setting or the environment, or there is none', () => {
    expect(preparedPython('/opt/training/bin/python')).toBe('/opt/training/bin/python');
    for (const none of ['', ' ', null]) expect(preparedPython(none)).toBeNull();
  });
});
