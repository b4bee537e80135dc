import { describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../actors/protocol/clock.ts';
import { MemoryStore } from '../../actors/store/memory.ts';
import { CommitAborted, type Cut, type Store } from '../../actors/store/port.ts';
import type { Fresh } from './store.ts';
import { type Peek, peekMemory } from './store-peek.ts';
import { event, KINDS, key, reading, SHARDS, snapshot, summary, T0, tick, Writer } from './store-sample.ts';

/** The same random history, faults included, leaves the same as in the reference. */
export function storeRandom(fresh: Fresh): void {
  describe('agrees with the reference', () => {
    it.each([1, 2, 3, 4])('on random history %i', async (seed) => {
      const { store, peek } = await fresh();
      const reference = new MemoryStore();
      await reference.open(KINDS, SHARDS);
      const here = await play(store, seededRandom(seed));
      const there = await play(reference, seededRandom(seed));
      expect(here).toEqual(there);
      expect(await everything(store, peek)).toEqual(await everything(reference, peekMemory(reference)));
    });
  });
}

const TWINS = 3;
const STEPS = 40;

/** Two nodes take shards from each other and commit; some cuts are sent twice, late, or clash. Answers what was answered. */
async function play(store: Store, random: Random): Promise<unknown[]> {
  const pick = (n: number) => Math.floor(random() * n);
  const writers = [new Writer(store, 'a'), new Writer(store, 'b')];
  const revisions = new Map<number, number>();
  const answers: unknown[] = [];
  let old: Cut | null = null;
  for (let step = 0; step < STEPS; step++) {
    const writer = writers[pick(2)];
    const shards = [0, 1, 2, 3].filter(() => random() < 0.5);
    const owned = shards.filter((shard) => writer.rows.has(shard));
    const what = random();
    if (what < 0.2) {
      answers.push(await writer.claim(...shards));
      continue;
    }
    if (what < 0.25) {
      const given = owned.map((shard) => ({ shard, epoch: writer.rows.get(shard)!.epoch }));
      await store.release(writer.node, given);
      continue;
    }
    let cut = randomCut(writer, owned, revisions, pick, random);
    if (what < 0.35 && old) cut = old;
    if (what < 0.4) old = cut;
    try {
      const landed = await writer.send(cut);
      for (const row of cut.readings) if (landed.has(row.shard)) forward(revisions, row.twin, row.revision);
      for (const row of cut.entries) if (landed.has(row.shard)) forward(revisions, row.twin, row.entry.revision);
      answers.push([...landed].sort());
    } catch (error) {
      expect(error).toBeInstanceOf(CommitAborted);
      answers.push('aborted');
    }
  }
  return answers;
}

function forward(revisions: Map<number, number>, twin: number, revision: number | null): void {
  if (revision !== null) revisions.set(twin, Math.max(revision, revisions.get(twin) ?? 0));
}

function randomCut(
  writer: Writer,
  shards: readonly number[],
  revisions: ReadonlyMap<number, number>,
  pick: (n: number) => number,
  random: Random,
): Cut {
  const cut = writer.cut(shards, {}, { clean: false });
  for (const part of cut.shards) {
    for (let n = 1; n <= TWINS; n++) {
      if (random() < 0.3) continue;
      const twin = key(part.shard, n);
      const kind = n === 3 ? 'probe' : 'meter';
      let revision = revisions.get(twin) ?? 0;
      for (let i = pick(4); i > 0; i--) {
        revision++;
        if (random() < 0.2) cut.entries.push(tick(twin, revision));
        else
          cut.readings.push(
            reading(twin, revision, {
              kind,
              at: T0 + revision * 1000 - pick(5) * 100,
              values: random() < 0.5 ? { flow: random(), level: random() } : { level: pick(9) },
              seq: random() < 0.5 ? pick(100) : null,
              unit: random() < 0.5 ? 'C' : null,
              attributes: random() < 0.2 ? { room: `r${pick(9)}` } : null,
            }),
          );
        if (random() < 0.3) {
          part.eventSeq++;
          const raise = random() < 0.5;
          cut.events.push(
            event(twin, part.eventSeq, revision, {
              type: raise ? 'alert.raised' : 'alert.cleared',
              twinId: `${kind}:T-${part.shard}-${n}`,
              body: { alertId: `${twin}-${pick(3)}`, rule: 'r', severity: 'info', message: 'm' },
            }),
          );
        }
      }
      if (random() < 0.1)
        cut.readings.push(reading(twin, null, { kind, at: T0 - pick(50), values: { flow: pick(5) } }));
      // Now and then a journal that clashes with what is there.
      if (random() < 0.01) cut.entries.push(tick(twin, 1), tick(twin, 1));
      cut.summaries.push(summary(twin, revision, { kind }));
      if (random() < 0.3) {
        cut.snapshots.push(
          snapshot(twin, revision, {
            twinId: `${kind}:T-${part.shard}-${n}`,
            floorAt: T0 + revision * 1000 - 2000,
            wakeAt: random() < 0.5 ? T0 + pick(100) : null,
          }),
        );
      }
    }
    if (random() < 0.3) cut.cursors.push({ sink: 's', shard: part.shard, seq: pick(50) });
  }
  return cut;
}

/** Everything that can be asked, in a fixed order. */
async function everything(store: Store, peek: Peek): Promise<unknown> {
  const times = [...Array(50).keys()].map((n) => T0 - n);
  const shards = [];
  for (const shard of [0, 1, 2, 3]) {
    const twins = [1, 2, 3].map((n) => ({
      twin: key(shard, n),
      twinId: `${n === 3 ? 'probe' : 'meter'}:T-${shard}-${n}`,
    }));
    const lookups = [];
    for (const { twin, twinId } of twins) {
      const rows = await store.lookup(
        twinId.split(':')[0],
        times.map((at) => ({ twin, at })),
      );
      lookups.push(rows.map((row) => JSON.stringify(row)).sort());
    }
    shards.push({
      twins: await store.loadTwins(
        shard,
        twins.map((of) => of.twinId),
      ),
      tail: await store.loadTail(shard),
      journals: await Promise.all(twins.map((of) => store.journal(of, 0, 1000))),
      events: await store.events(shard, 0, 1000),
      highest: await store.highestTwin(shard),
      lookups,
    });
  }
  return {
    rows: await store.shards(),
    shards,
    wakes: await store.dueWakes([0, 1, 2, 3], T0 + 60, 100),
    cursors: await store.cursors('s', [0, 1, 2, 3]),
    alerts: await peek.alerts(),
    summaries: await peek.summaries(),
    dead: await peek.deadLetters(),
  };
}
