import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { nothingLost } from '../../chaos/checkers/nothing-lost.ts';
import { nothingTwice } from '../../chaos/checkers/nothing-twice.ts';
import { order } from '../../chaos/checkers/order.ts';
import { Draw } from '../../chaos/draw.ts';
import { FAULTS } from '../../chaos/faults/all.ts';
import type { TwinFacts } from '../../chaos/history.ts';
import { Ledger } from '../../chaos/ledger.ts';
import { isPoison, readingOf } from '../../chaos/reading.ts';
import { quantile } from '../../chaos/record.ts';

/** The harness itself: what it asks of others it has to be right about. */
const BASE = 1_700_000_000_000;
let folder: string;
let ledger: Ledger;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-ledger-'));
  ledger = new Ledger(5, 8, join(folder, 'acknowledged'), BASE);
});

afterEach(async () => {
  await ledger.close();
  rmSync(folder, { recursive: true, force: true });
});

/** What the database would hold of an asset whose readings were all stored in order. */
function factsOf(count: number): TwinFacts {
  const [asset] = ledger.assets;
  for (let i = 0; i < count; i++) ledger.acknowledge(asset, ledger.fresh(asset), 'http');
  const good = Array.from({ length: count }, (_, n) => n).filter((n) => !isPoison(asset.index, n));
  const rows = good.map((n, i) => {
    const { at, seq, values } = readingOf(asset.index, n, BASE);
    return { revision: i + 1, at, receivedAt: at, seq, mark: null, ...values };
  });
  return {
    asset,
    twin: { revision: rows.length },
    rows,
    journal: rows.map(({ revision, receivedAt }) => ({ type: 'tick', revision, receivedAt })),
    events: [],
    snapshot: null,
    views: [],
    poison: new Set(Array.from({ length: count }, (_, n) => n).filter((n) => isPoison(asset.index, n))),
    oracle: null as never,
  };
}

describe('ledger', () => {
  it('has an asset in every shard', () => {
    expect(new Set(ledger.assets.map(({ twinId }) => shardOf(twinId, 8))).size).toBe(8);
  });

  it('writes down each acknowledgement and counts a reading once', async () => {
    const [asset] = ledger.assets;
    const n = ledger.fresh(asset);
    ledger.acknowledge(asset, n, 'http');
    ledger.acknowledge(asset, n, 'http');
    expect([ledger.acknowledged, asset.open]).toEqual([1, 0]);
    await ledger.close();
    expect(readFileSync(join(folder, 'acknowledged'), 'utf8').trim().split('\n')).toHaveLength(2);
  });

  it('takes acknowledgements back since a moment, and only those', () => {
    const [asset] = ledger.assets;
    for (let i = 0; i < 4; i++) ledger.acknowledge(asset, ledger.fresh(asset), 'mqtt');
    asset.acknowledgedAt[0] = 1_000;
    ledger.fresh(asset);
    expect(ledger.resendSince(2_000)).toBe(3);
    expect(asset.retry).toEqual([1, 2, 3]);
    expect([ledger.acknowledged, asset.open]).toEqual([1, 4]);
  });
});

describe('checkers', () => {
  it('find nothing in a whole history', () => {
    const facts = factsOf(200);
    expect(nothingLost.twin!(facts, ledger)).toEqual([]);
    expect(nothingTwice.twin!(facts, ledger)).toEqual([]);
    expect(order.twin!(facts, ledger)).toEqual([]);
  });

  it('find a reading that is gone, one that is there twice, one with other values, and a hole', () => {
    const facts = factsOf(200);
    const gone = { ...facts, rows: facts.rows.filter((row) => row.seq !== 17) };
    expect(nothingLost.twin!(gone, ledger)).toHaveLength(1);
    const twice = { ...facts, rows: [...facts.rows, facts.rows[3]] };
    expect(nothingTwice.twin!(twice, ledger)).toHaveLength(1);
    const wrong = { ...facts, rows: facts.rows.map((row) => (row.seq === 9 ? { ...row, load: -1 } : row)) };
    expect(nothingTwice.twin!(wrong, ledger)).toHaveLength(1);
    const hole = { ...facts, journal: facts.journal.filter(({ revision }) => revision !== 5) };
    expect(order.twin!(hole, ledger)).toHaveLength(1);
  });

  it('find a poisoned reading that is nowhere', () => {
    const facts = factsOf(20_000);
    expect(facts.poison.size).toBeGreaterThan(0);
    expect(nothingLost.twin!({ ...facts, poison: new Set() }, ledger)).toHaveLength(facts.poison.size);
  });
});

describe('faults', () => {
  it('come each once before any comes again', () => {
    const draw = new Draw(FAULTS, seededRandom(7));
    for (let round = 0; round < 3; round++) {
      expect(new Set(FAULTS.map(() => draw.next())).size).toBe(FAULTS.length);
    }
  });

  it('have names of their own for each target', () => {
    expect(new Set(FAULTS.map(({ name, target }) => `${target} ${name}`)).size).toBe(FAULTS.length);
  });

  it('are summed up by the nearest rank', () => {
    expect(quantile([5, 1, 3, 2, 4], 0.5)).toBe(3);
    expect(quantile([1, 2], 1)).toBe(2);
    expect(quantile([], 0.5)).toBeNull();
  });
});
