import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import {
  listPredictions,
  type PredictionItem,
  type PredictionQuery,
} from '../../../actors/store/queries/prediction-list.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { keyOf, openDatabase, putTwins, T0 } from './database.ts';

/** What models said of a twin, against lists made by hand: answers pass each other in flight, time stands still and jumps. */
const NAMES = ['rul', 'fault', 'soh'];
/** Of the wall clock, from a revision to the next. */
const STEP_MS = 5_000;
const TWIN = keyOf(1, 'b1');
let sql: Sql;
let journal: PredictionItem[];

beforeAll(async () => {
  sql = await openDatabase();
  await putTwins(sql, [
    { twin: 1, id: 'b1' },
    { twin: 2, id: 'b2' },
    { twin: 3, id: 'b3' },
    { twin: 4, id: 'b4' },
  ]);
  journal = history(17);
  await put(1, journal);
  await put(2, history(18));
});
afterAll(() => sql?.close());

interface Clocks {
  /** How far, ms, the clock of a new owner may be ahead of the others, or behind. */
  skewMs?: number;
  /** How far, ms, the clock of an owner is set back, now and then. */
  backMs?: number;
}

/**
 * A journal of readings, ticks and answers: each name has one question on its way at a time, and is answered when it is. Where clocks
 * are given the twin moves now and then, and what was asked before is not answered.
 */
function history(seed: number, { skewMs = 0, backMs = 0 }: Clocks = {}): PredictionItem[] {
  const random = seededRandom(seed);
  const out: PredictionItem[] = [];
  const asked = new Map<string, { basedOn: number; at: number }>();
  let at = T0;
  let aheadMs = 0;
  for (let revision = 1; revision <= 3_000; revision++) {
    if (skewMs > 0 && random() < 0.02) {
      aheadMs = Math.floor((2 * random() - 1) * skewMs);
      asked.clear();
    }
    if (backMs > 0 && random() < 0.1) aheadMs -= Math.floor(random() * backMs);
    const name = NAMES[Math.floor(random() * NAMES.length)];
    const question = asked.get(name);
    if (random() < 0.3 && question !== undefined) {
      asked.delete(name);
      out.push({
        revision,
        name,
        model: `boiler-${name}`,
        version: '1.0.0',
        at: new Date(question.at).toISOString(),
        predictedAt: new Date(T0 + revision * STEP_MS + aheadMs).toISOString(),
        basedOn: question.basedOn,
        value: random(),
      });
      continue;
    }
    if (random() < 0.6) at += random() < 0.02 ? 86_400_000 : Math.floor(random() * 3) * 1_000;
    for (const one of NAMES) if (!asked.has(one) && random() < 0.2) asked.set(one, { basedOn: revision, at });
  }
  return out;
}

async function put(twin: number, items: readonly PredictionItem[]): Promise<void> {
  const rows = items.map(({ revision, name, model, version, at, predictedAt, basedOn, ...said }) => ({
    revision,
    received_at: predictedAt,
    body: { name, basedOn, prediction: { model: `${model}@${version}`, at: Date.parse(at as string), ...said } },
  }));
  await sql.query(
    `insert into entries select $1, revision, 0, 'prediction', received_at, body
     from jsonb_to_recordset($2::jsonb) as x(revision bigint, received_at timestamptz, body json)`,
    [twin, JSON.stringify(rows)],
  );
  await sql.query(
    `insert into entries select $1, r, 0, 'tick', now(), '{}' from generate_series(1, 3001) r on conflict do nothing`,
    [twin],
  );
}

async function every(query: Omit<PredictionQuery, 'cursor'>, twin = TWIN): Promise<PredictionItem[]> {
  const out: PredictionItem[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await listPredictions(sql, twin, { ...query, cursor });
    expect(page.items.length).toBeLessThanOrEqual(query.limit ?? 100);
    out.push(...page.items);
    if (page.nextCursor === null) return out;
    cursor = page.nextCursor;
  }
}

describe('predictions of a twin', () => {
  it('are all of them, of this twin, page by page, in either order', async () => {
    expect(journal.length).toBeGreaterThan(500);
    expect(await every({ span: {}, limit: 97 })).toEqual(journal);
    expect(await every({ span: {}, limit: 97, order: 'desc' })).toEqual(journal.toReversed());
    expect(await every({ span: {} }, keyOf(3, 'b3'))).toEqual([]);
  });

  it('of a span and a name are exactly those', async () => {
    const time = fc.option(
      fc.integer({ min: 0, max: journal.length - 1 }).map((i) => Date.parse(journal[i].at as string)),
      { nil: undefined },
    );
    await fc.assert(
      fc.asyncProperty(
        time,
        time,
        fc.integer({ min: -1, max: 1 }),
        fc.constantFrom(undefined, ...NAMES, 'nothing'),
        fc.constantFrom('asc', 'desc'),
        fc.integer({ min: 1, max: 300 }),
        async (from, to, by, name, order, limit) => {
          const span = { from, to: to === undefined ? undefined : to + by };
          const wanted = journal.filter(
            (item) =>
              (name === undefined || item.name === name) &&
              (span.from === undefined || Date.parse(item.at as string) >= span.from) &&
              (span.to === undefined || Date.parse(item.at as string) < span.to),
          );
          const got = await every({ span, name, order, limit });
          expect(got).toEqual(order === 'asc' ? wanted : wanted.toReversed());
        },
      ),
      { numRuns: 40 },
    );
  });

  it.each([
    ['owners two minutes apart, whose clocks are set back by up to one', { skewMs: 60_000, backMs: 60_000 }],
    ['owners of any clock, so that times fall altogether', { skewMs: 400 * 86_400_000, backMs: 300_000 }],
  ])('of a span are exactly those, also after %s', async (_, clocks) => {
    const twin = keyOf(4, 'b4');
    for (let seed = 1; seed <= 2; seed++) {
      const moved = history(seed, clocks);
      const falls = moved.filter(({ predictedAt }, i) => i > 0 && predictedAt < moved[i - 1].predictedAt);
      expect(falls.length).toBeGreaterThan(3);
      await sql.query('delete from entries where twin = 4');
      await put(4, moved);
      const random = seededRandom(seed);
      for (let draw = 0; draw < 14; draw++) {
        const [a, b] = [random(), random()].map((r) => Date.parse(moved[Math.floor(r * moved.length)].at as string));
        const span = { from: draw % 2 === 0 ? undefined : Math.min(a, b), to: Math.max(a, b) };
        const wanted = moved.filter(({ at }) => {
          const atMs = Date.parse(at as string);
          return atMs < span.to && (span.from === undefined || atMs >= span.from);
        });
        expect(await every({ span, limit: 1_000 }, twin)).toEqual(wanted);
      }
    }
  });

  it('are looked through in bounded steps: a page may be empty and go on', async () => {
    await sql.query(
      `insert into entries select 3, r, 0, 'prediction', to_timestamp(r), json_build_object('name', case when r % 45000 = 0 then 'rul' else 'soh' end,
         'basedOn', r - 1, 'prediction', json_build_object('model', 'm@1.0.0', 'at', r, 'value', r)) from generate_series(1, 45000) r`,
    );
    const twin = keyOf(3, 'b3');
    const first = await listPredictions(sql, twin, { name: 'rul', span: {} });
    expect(first.items).toEqual([]);
    expect(first.nextCursor).not.toBeNull();
    expect((await every({ name: 'rul', span: {} }, twin)).map(({ revision }) => revision)).toEqual([45_000]);
    const newest = await listPredictions(sql, twin, { name: 'rul', span: {}, order: 'desc', limit: 1 });
    expect(newest.items).toMatchObject([{ revision: 45_000, value: 45_000 }]);
    // what lies far from the span is not read
    const narrow = { from: 44_000, to: 44_003 };
    const page = await listPredictions(sql, twin, { span: narrow });
    expect(page.items.map(({ value }) => value)).toEqual([44_000, 44_001, 44_002]);
  });

  it('refuse a cursor of another question and a limit that is none', async () => {
    const { nextCursor } = await listPredictions(sql, TWIN, { span: {}, limit: 1 });
    const cursor = nextCursor ?? '';
    for (const query of [{ name: 'rul' }, { order: 'desc' as const }])
      await expect(listPredictions(sql, TWIN, { span: {}, cursor, ...query })).rejects.toMatchObject({
        code: 'bad_request',
      });
    await expect(listPredictions(sql, keyOf(2, 'b2'), { span: {}, cursor })).rejects.toMatchObject({
      code: 'bad_request',
    });
    await expect(listPredictions(sql, TWIN, { span: {}, limit: 1_001 })).rejects.toMatchObject({ code: 'bad_request' });
  });
});
