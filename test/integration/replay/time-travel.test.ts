import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Command } from '../../../actors/protocol/entry.ts';
import type { Kind } from '../../../actors/protocol/kind.ts';
import { shardOf } from '../../../actors/protocol/twin-id.ts';
import { MemoryStore } from '../../../actors/store/memory.ts';
import type { Pglite } from '../../../actors/store/pglite.ts';
import { SNAPSHOT_KEEP_EVERY, type Store } from '../../../actors/store/port.ts';
import { PostgresStore } from '../../../actors/store/postgres.ts';
import { type Journal, journalOf, pastOf, viewAt } from '../../../services/replay/time-travel.ts';
import { openEmptyDatabase } from '../../servers/embedded.ts';
import { Live, SHARDS, T0, TWIN, valve, valve2 } from './live.ts';

let sql: Pglite;
let stored: PostgresStore;
beforeAll(async () => {
  sql = await openEmptyDatabase();
  stored = new PostgresStore(sql);
  await stored.open([valve2], SHARDS);
}, 60_000);
afterAll(() => sql?.close());
beforeEach(() => empty());

async function empty(): Promise<void> {
  await sql.exec(
    `truncate valve_readings, entries, events, twins, twin_snapshots, alerts, anomaly_events, sink_cursors;
     update shards set owner = null, position = 0, position_id = null, position_at = null, event_seq = 0, snapshot_floor = commit_no, attempts = 0`,
  );
}

const kindsOf = (kind: Kind) => ({ get: () => kind });

/** The memory store as a journal: it shows the newest snapshot and all entries. */
function memoryJournal(store: Store): Journal {
  const load = async () => (await store.loadTwins(shardOf(TWIN, SHARDS), [TWIN]))[0];
  return {
    async find() {
      const { twin } = await load();
      return { twin, twinId: TWIN, kind: 'valve', id: 'v1', at: null };
    },
    async before(_twin, at) {
      const { snapshot } = await load();
      return snapshot !== null && snapshot.receivedAt <= at ? snapshot : null;
    },
    async above(_twin, revision) {
      const { snapshot } = await load();
      return snapshot !== null && snapshot.revision > revision ? snapshot : null;
    },
    async read(_kind, { twin, after, upto }) {
      const entries = await store.journal({ twin, twinId: TWIN }, after, 1_000_000);
      return entries.filter((entry) => entry.revision <= upto);
    },
    count: async () => 0,
    places: async () => [],
  };
}

type Step =
  | { do: 'send'; readings: { behindMs: number; flow?: number; heat: number; key?: string }[] }
  | { do: 'command'; name: 'maintenance' | 'desired' | 'attributes' | 'retire' | 'restore'; value: number }
  | { do: 'acknowledge' | 'tune' | 'passivate' | 'restart' | 'crash' | 'wait' };

const reading = fc.record(
  {
    behindMs: fc.constantFrom(0, 0, 0, 500, 30_000, 700_000),
    flow: fc.integer({ min: -50, max: 50 }),
    heat: fc.integer({ min: 20, max: 130 }),
    key: fc.constantFrom('a', 'b', 'c'),
  },
  { requiredKeys: ['behindMs', 'heat'] },
);
const step: fc.Arbitrary<{ after: number; step: Step }> = fc.record({
  after: fc.constantFrom(1, 700, 2_000, 6_000, 6_000, 20_000, 90_000),
  step: fc.oneof(
    {
      weight: 12,
      arbitrary: fc.record({
        do: fc.constant('send' as const),
        readings: fc.array(reading, { minLength: 1, maxLength: 6 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('command' as const),
        name: fc.constantFrom(
          'maintenance' as const,
          'desired' as const,
          'attributes' as const,
          'retire' as const,
          'restore' as const,
        ),
        value: fc.integer({ min: 0, max: 9 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constantFrom(
          'acknowledge' as const,
          'tune' as const,
          'passivate' as const,
          'restart' as const,
          'crash' as const,
          'wait' as const,
        ),
      }),
    },
  ),
});

let keys = 0;

async function play(live: Live, steps: readonly { after: number; step: Step }[]): Promise<void> {
  for (const { after, step } of steps) {
    live.now += after;
    switch (step.do) {
      case 'send':
        await live.send(
          ...step.readings.map(({ behindMs, flow, heat, key }, i) => ({
            at: live.now - behindMs + i,
            values: (flow === undefined ? { heat } : { flow, heat }) as Record<string, number>,
            ...(key === undefined ? {} : { key }),
          })),
        );
        break;
      case 'command':
        await live.command(commandOf(step.name, step.value, live.now));
        break;
      case 'acknowledge': {
        const [alert] = (await live.host.get(TWIN).catch(() => null))?.alerts ?? [];
        if (alert) await live.command({ key: `k${++keys}`, by: 'me', name: 'acknowledge', alert: alert.alertId });
        break;
      }
      case 'tune':
        live.tune();
        break;
      case 'passivate':
        await live.passivate();
        break;
      case 'restart':
        await live.stop();
        await live.start();
        break;
      case 'crash':
        await live.crash();
        await live.start();
        break;
      case 'wait':
        break;
    }
    await live.settle();
  }
}

function commandOf(name: string, value: number, at: number): Command {
  const header = { key: `k${++keys}`, by: 'me' };
  switch (name) {
    case 'maintenance':
      return { ...header, name, work: 'oiled', at };
    case 'desired':
      return { ...header, name, patch: { flow: value } };
    case 'attributes':
      return { ...header, name, patch: { hall: value } };
    default:
      return { ...header, name: name as 'retire' | 'restore' };
  }
}

/** Every remembered moment, and one between it and the next. */
async function agrees(journal: Journal, kind: Kind, live: Live, from = 0): Promise<void> {
  const { moments } = live;
  for (let i = from; i < moments.length; i++) {
    const { at, revision, bytes } = moments[i];
    const until = (moments[i + 1]?.at ?? at + 1_000) - 1;
    for (const moment of new Set([at, Math.floor((at + until) / 2), until])) {
      const past = await pastOf(journal, kindsOf(kind), TWIN, moment);
      expect([i, past.fork.revision]).toEqual([i, revision]);
      expect(Buffer.compare(past.fork.bytes(), bytes)).toBe(0);
    }
  }
}

describe('the past of a twin', () => {
  it.each(['PGlite', 'memory'] as const)(
    'is what lived then, bit for bit, on %s',
    async (which) => {
      await fc.assert(
        fc
          .asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
            const store = which === 'PGlite' ? stored : new MemoryStore();
            if (which === 'memory') await store.open([valve], SHARDS);
            const live = new Live(store);
            await live.start();
            try {
              await live.send({ at: live.now, values: { heat: 50, flow: 1 } });
              await live.settle();
              await play(live, steps);
            } finally {
              await live.stop();
            }
            await agrees(which === 'PGlite' ? journalOf(sql) : memoryJournal(store), valve, live);
          })
          .beforeEach(empty),
        { numRuns: which === 'PGlite' ? 6 : 8, endOnFailure: true },
      );
    },
    120_000,
  );

  it('is that of the version that folded it, and says so where another one folds it now', async () => {
    const live = new Live(stored);
    await live.start(valve);
    for (let i = 0; i < 30; i++) {
      live.now += 4_000;
      await live.send({ at: live.now, values: { heat: 50 + i, flow: i } });
      await live.settle();
    }
    const before = live.moments.length;
    await live.stop();
    await agrees(journalOf(sql), valve, live);
    await live.start(valve2);
    for (let i = 0; i < 30; i++) {
      live.now += 4_000;
      await live.send({ at: live.now, values: { heat: 40 + i, flow: i } });
      await live.settle();
      if (i === 15) {
        await live.stop();
        await live.start(valve2);
      }
    }
    await live.stop();
    // from the carried snapshot on: bit for bit
    await agrees(journalOf(sql), valve2, live, before);
    const old = await viewAt(journalOf(sql), kindsOf(valve2), TWIN, live.moments[before - 5].at);
    expect(old.asOf.kindVersion).toEqual({ was: 1, now: 2, note: expect.stringContaining('Version 1') });
    expect(old.revision).toBe(live.moments[before - 5].revision);
    const young = await viewAt(journalOf(sql), kindsOf(valve2), TWIN, live.moments[before + 5].at);
    expect(young.asOf.kindVersion).toEqual({ was: 2, now: 2 });
  }, 60_000);

  it('has state, rolling features, predictions, health and alerts of then, and no backfill', async () => {
    const live = new Live(stored);
    await live.start();
    for (let i = 0; i < 10; i++) {
      live.now += 4_000;
      await live.send({ at: live.now, values: { heat: 85 + 2 * i, flow: i } });
      await live.settle();
    }
    const seen = await live.host.get(TWIN);
    const then = live.now;
    live.now += 10_000;
    await live.send({ at: T0 - 3_600_000, values: { heat: 1 } }, { at: live.now, values: { heat: 20, flow: 0 } });
    await live.settle();
    const { asOf, ingest, ...past } = await viewAt(journalOf(sql), kindsOf(valve), TWIN, then);
    const { ingest: counts, ...now } = seen;
    expect(past).toEqual(now);
    expect(ingest).toEqual({ accepted: counts.accepted, late: counts.late, lagMs: counts.lagMs });
    expect(past.alerts.map(({ rule }) => rule).sort()).toEqual(['hot', 'worn']);
    expect(past.health.status).toBe('warning');
    expect(past.predictions.wear).toMatchObject({ model: 'valve-wear', version: '1.0.0' });
    expect(asOf).toMatchObject({ at: new Date(then).toISOString(), revision: seen.revision });
    await live.stop();
  }, 30_000);

  it('begins with its first entry, and shows a retired twin as retired', async () => {
    const live = new Live(stored);
    await live.start();
    live.now += 5_000;
    const first = live.now;
    await live.send({ at: live.now, values: { heat: 1, flow: 1 } });
    await live.settle();
    live.now += 1_000;
    await live.command({ key: 'r', by: 'me', name: 'retire' });
    await live.settle();
    const view = (at: number) => viewAt(journalOf(sql), kindsOf(valve), TWIN, at);
    await expect(view(first - 1)).rejects.toMatchObject({
      code: 'not_found',
      details: { begins: new Date(first).toISOString() },
    });
    expect(await view(first)).toMatchObject({ retired: false, online: true });
    expect(await view(first + 999)).toMatchObject({ retired: false });
    expect(await view(first + 1_000)).toMatchObject({ retired: true, online: false });
    await live.stop();
    await expect(view(first - 1)).rejects.toMatchObject({ details: { begins: new Date(first).toISOString() } });
    await expect(viewAt(journalOf(sql), kindsOf(valve), 'valve:none', first)).rejects.toMatchObject({
      code: 'not_found',
    });
  }, 30_000);

  it('opens at kept snapshots, and says from when on it is there once retention has dropped the rest', async () => {
    const live = new Live(stored);
    await live.start();
    const a = SNAPSHOT_KEEP_EVERY / 4;
    for (let i = 0; i < 13; i++) {
      live.now += 1_200_000;
      const from = live.now - 50_000;
      await live.send(
        ...Array.from({ length: a }, (_, k) => ({ at: from + k * 10, values: { heat: k % 50, flow: i } })),
      );
      await live.settle();
    }
    await live.stop();
    const places = await journalOf(sql).places((await journalOf(sql).find(TWIN)).twin);
    expect(places.length).toBeGreaterThanOrEqual(3);
    for (let i = 1; i < places.length; i++)
      expect(places[i].revision - places[i - 1].revision).toBeLessThanOrEqual(SNAPSHOT_KEEP_EVERY * 2 + a);
    await agrees(journalOf(sql), valve, live);
    const [, second] = places;
    await sql.query('delete from valve_readings where at <= $1', [new Date(second.floorAt)]);
    const gone = viewAt(journalOf(sql), kindsOf(valve), TWIN, live.moments[1].at);
    await expect(gone).rejects.toMatchObject({ code: 'history_gone' });
    const { details } = await gone.catch((error) => error);
    const from = Date.parse(details.from);
    expect(from).toBeGreaterThanOrEqual(second.receivedAt);
    const last = live.moments.findIndex(({ at }) => at >= from);
    expect(last).toBeLessThan(live.moments.length - 1);
    await agrees(journalOf(sql), valve, live, last);
  }, 120_000);
});
