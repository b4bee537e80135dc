import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import type { RawReading } from '../../../actors/protocol/kind.ts';
import type { Block, Blocks, Position } from '../../../services/load/block.ts';
import { Checkpoint } from '../../../services/load/checkpoint.ts';
import { type Delivery, loadBlocks } from '../../../services/load/loading.ts';
import type { Delivered } from '../../../services/load/totals.ts';
import { folder } from './bytes.ts';

let files: ReturnType<typeof folder>;
beforeEach(() => {
  files = folder();
});
afterEach(() => files.clean());

const BLOCKS = 20;
const AT = Date.UTC(2026, 0, 1);

/** A file of 20 blocks with 3 readings each; it breaks before `brokenAt`. */
function blocks(brokenAt = Number.POSITIVE_INFINITY): Blocks {
  return {
    title: 'a file',
    identity: ['a file'],
    sizeBytes: BLOCKS,
    bytesRead: () => 0,
    async *from({ rows }: Position): AsyncGenerator<Block> {
      for (let b = rows / 3; b < BLOCKS; b++) {
        if (b >= brokenAt) throw new TwinmeshError('bad_request', 'The file is broken.');
        const readings: RawReading[] = [0, 1, 2].map((i) => ({ id: 'm', at: AT + b * 3 + i, values: {} }));
        yield {
          readings,
          messages: null,
          lines: 4,
          skipped: { blank: 1 },
          end: { offset: b + 1, lines: (b + 1) * 4, rows: (b + 1) * 3 },
        };
      }
    },
  };
}

/** Stores; later blocks are done sooner than earlier ones. */
class Sink implements Delivery {
  readonly way = 'into a set';
  readonly waiting = null;
  readonly stored = new Set<unknown>();
  failAt = Number.POSITIVE_INFINITY;
  calls = 0;
  onCall = (_: number) => {};

  async deliver(block: Block): Promise<Delivered> {
    const call = this.calls++;
    this.onCall(call);
    await new Promise((resolve) => setTimeout(resolve, 4 - (call % 4)));
    if (call >= this.failAt) throw new TwinmeshError('unavailable', 'The sink is gone.');
    let duplicates = 0;
    for (const { at } of block.readings) if (this.stored.has(at)) duplicates++;
    for (const { at } of block.readings) this.stored.add(at);
    return { accepted: 3 - duplicates, duplicates, backfilled: 0, rejected: [] };
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

const options = (delivery: Delivery, checkpoint: Checkpoint | null, signal = new AbortController().signal) => ({
  delivery,
  checkpoint,
  signal,
  keptSinceMs: null,
});
const checkpoint = () => new Checkpoint(files.path, ['what']);

describe('loading', () => {
  it('sends every block once, adds up what became of it, and leaves no checkpoint', async () => {
    const sink = new Sink();
    const { totals, whole } = await loadBlocks(blocks(), options(sink, checkpoint()));
    expect(whole).toBe(true);
    expect(sink.stored.size).toBe(60);
    expect(totals).toMatchObject({ lines: 80, accepted: 60, duplicates: 0, skipped: { blank: 20 }, rejected: {} });
    expect(readdirSync(join(files.path, 'load'))).toEqual([]);
  });

  it('goes on after it was told to stop, at any block', async () => {
    for (let stopAt = 0; stopAt < BLOCKS - 1; stopAt += 3) {
      const sink = new Sink();
      const controller = new AbortController();
      sink.onCall = (call) => {
        if (call === stopAt) controller.abort();
      };
      const first = await loadBlocks(blocks(), options(sink, checkpoint(), controller.signal));
      expect(first.whole).toBe(false);
      sink.onCall = () => {};
      const second = await loadBlocks(blocks(), options(sink, checkpoint()));
      expect(second.resumedAtLine).toBe(first.totals.lines);
      expect(second.totals).toMatchObject({ lines: 80, accepted: 60, duplicates: 0 });
      expect(sink.calls).toBe(BLOCKS);
    }
  });

  it('keeps a checkpoint that is never ahead of what is stored, when the delivery fails', async () => {
    for (let failAt = 0; failAt < BLOCKS; failAt++) {
      const sink = new Sink();
      sink.failAt = failAt;
      await expect(loadBlocks(blocks(), options(sink, checkpoint()))).rejects.toThrow('The sink is gone.');
      const saved = checkpoint().read();
      const confirmed = saved?.totals.accepted ?? 0;
      expect(confirmed).toBeLessThanOrEqual(sink.stored.size);
      for (let at = AT; at < AT + (saved?.position.rows ?? 0); at++) expect(sink.stored).toContain(at);
      sink.failAt = Number.POSITIVE_INFINITY;
      await loadBlocks(blocks(), options(sink, checkpoint()));
      expect(sink.stored.size).toBe(60);
    }
  });

  it('stores what came before the fault of a file, and says so in the checkpoint', async () => {
    const sink = new Sink();
    await expect(loadBlocks(blocks(7), options(sink, checkpoint()))).rejects.toThrow('The file is broken.');
    expect(sink.stored.size).toBe(21);
    expect(checkpoint().read()).toMatchObject({ position: { lines: 28 }, totals: { accepted: 21 } });
  });

  it('has a bounded number of blocks on their way', async () => {
    const sink = new Sink();
    let open = 0;
    let most = 0;
    const counting: Delivery = {
      way: '',
      waiting: null,
      close: () => Promise.resolve(),
      async deliver(block) {
        most = Math.max(most, ++open);
        const delivered = await sink.deliver(block);
        open--;
        return delivered;
      },
    };
    await loadBlocks(blocks(), options(counting, null));
    expect(most).toBeGreaterThan(2);
    expect(most).toBeLessThanOrEqual(8);
  });

  it('counts what lies beyond the retention of history', async () => {
    const { totals } = await loadBlocks(blocks(), { ...options(new Sink(), null), keptSinceMs: AT + 10 });
    expect(totals.beyondRetention).toBe(10);
  });
});

describe('a checkpoint', () => {
  const progressed = {
    position: { offset: 5, lines: 2, rows: 1 },
    totals: { lines: 2, accepted: 1, duplicates: 0, backfilled: 0, rejected: {}, skipped: {}, beyondRetention: 0 },
  };
  const file = () => join(files.path, 'load', readdirSync(join(files.path, 'load'))[0]);

  it('belongs to one file, content and way of reading', () => {
    checkpoint().save(progressed);
    expect(checkpoint().read()).toEqual(progressed);
    expect(new Checkpoint(files.path, ['other']).read()).toBeNull();
  });

  it('that cannot be read is none', () => {
    checkpoint().save(progressed);
    for (const content of ['', '{', '{"version":2}', '{"version":1,"position":{"offset":-1,"lines":0,"rows":0}}']) {
      writeFileSync(file(), content);
      expect(checkpoint().read()).toBeNull();
    }
  });

  it('is written at most once a second, but for the last time', () => {
    const one = checkpoint();
    one.save(progressed);
    const later = { ...progressed, position: { offset: 9, lines: 3, rows: 2 } };
    one.save(later);
    expect(JSON.parse(readFileSync(file(), 'utf8')).position).toEqual(progressed.position);
    one.save(later, true);
    expect(one.read()).toEqual(later);
  });
});
