import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../../actors/protocol/clock.ts';
import { encodeCursor } from '../../../actors/store/queries/page.ts';
import { listTwins, type TwinItem, type TwinListQuery } from '../../../actors/store/queries/twin-list.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { openDatabase, putTwins, T0, type TwinSeed } from './database.ts';

const HEALTHS = ['ok', 'warning', 'critical', 'unknown'];
const SITES = ['Halle A', 'halle_b', '100%', 'x\\y', "o'neil", 'naïve', '{}', ''];

function fleetOf(count: number): TwinSeed[] {
  const random = seededRandom(7);
  const pick = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)];
  return Array.from({ length: count }, (_, i) => ({
    twin: i + 1,
    kind: pick(['boiler', 'gadget']),
    id: `${pick(['EV', 'm', 'Z_1'])}-${i}`,
    revision: Math.floor(random() * 20),
    at: random() < 0.2 ? null : T0 + Math.floor(random() * 10) * 1_000,
    receivedAt: T0 + Math.floor(random() * 10) * 1_000,
    health: pick(HEALTHS),
    online: random() < 0.7,
    retired: random() < 0.1,
    alerts: Math.floor(random() * 3),
    reported: random() < 0.2 ? {} : { heat: Math.floor(random() * 5), ...(random() < 0.5 ? { flow: random() } : {}) },
    attributes: {
      ...(random() < 0.7 ? { site: pick(SITES) } : {}),
      ...(random() < 0.5 ? { rank: pick<string | number | boolean>([1, 2, 2.5, '2', true, false, 'two']) } : {}),
    },
  }));
}

const SEEDS = fleetOf(160);
let sql: Sql;

beforeAll(async () => {
  sql = await openDatabase();
  await putTwins(sql, SEEDS);
});
afterAll(() => sql.close());

async function every(query: TwinListQuery): Promise<TwinItem[]> {
  const out: TwinItem[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await listTwins(sql, { ...query, cursor });
    out.push(...page.items);
    if (page.nextCursor === null) return out;
    expect(page.items.length).toBe(query.limit ?? 50);
    cursor = page.nextCursor;
  }
}

/** The value of a field of a seed, undefined where the twin has none. */
function fieldOf(seed: TwinSeed, field: string): string | number | boolean | undefined {
  const m = /^(reported|attributes)[./](.*)$/.exec(field);
  if (m) return seed[m[1] as 'reported' | 'attributes']?.[m[2]];
  switch (field) {
    case 'twinId':
      return `${seed.kind}:${seed.id}`;
    case 'at':
      return seed.at ?? undefined;
    default:
      return (seed as unknown as Record<string, string | number | boolean>)[field];
  }
}

interface Condition {
  text: string;
  holds(seed: TwinSeed): boolean;
}

const quoted = (text: string) => `"${text.replace(/[\\"]/g, '\\$&')}"`;
const shown = (value: string | number | boolean) => (typeof value === 'string' ? quoted(value) : String(value));

/** Conditions with their meaning in JavaScript; shares nothing with the compiler. */
const field = fc.oneof(
  fc.record({
    name: fc.constantFrom('kind', 'health', 'id', 'twinId'),
    value: fc.constantFrom(...HEALTHS, 'boiler', 'EV-3', 'boiler:EV-7', 'm-5'),
  }),
  fc.record({
    name: fc.constantFrom('alerts', 'revision', 'reported.heat', 'reported/flow', 'reported.none'),
    value: fc.oneof(fc.integer({ min: -1, max: 20 }), fc.double({ min: 0, max: 5, noNaN: true })),
  }),
  fc.record({ name: fc.constantFrom('online', 'retired'), value: fc.boolean() }),
  fc.record({
    name: fc.constantFrom('at', 'receivedAt'),
    value: fc.integer({ min: 0, max: 10 }).map((s) => T0 + s * 1_000),
  }),
  fc.record({
    name: fc.constantFrom('attributes.site', 'attributes/rank', 'attributes.none'),
    value: fc.constantFrom<string | number | boolean>(...SITES, 1, 2, 2.5, '2', true, false),
  }),
);

const order = {
  gt: (c: number) => c > 0,
  ge: (c: number) => c >= 0,
  lt: (c: number) => c < 0,
  le: (c: number) => c <= 0,
};

const leaf: fc.Arbitrary<Condition> = fc
  .tuple(
    field,
    fc.constantFrom('eq', 'ne', 'gt', 'ge', 'lt', 'le', 'in', 'exists', 'null', 'like'),
    fc.constantFrom('*', '?', 'E*', '*-1?', '*%*', '*\\\\y', 'h?lle*', 'B*'),
  )
  .map(([{ name, value }, op, pattern]): Condition => {
    const known = (seed: TwinSeed) => fieldOf(seed, name);
    const text =
      /^(at|receivedAt)$/.test(name) && Number(value) % 2_000 === 0
        ? quoted(new Date(Number(value)).toISOString())
        : shown(value);
    switch (op) {
      case 'eq':
        return { text: `eq(${name},${text})`, holds: (seed) => known(seed) === value };
      case 'ne':
        return { text: `ne(${name}, ${text})`, holds: (seed) => known(seed) !== value };
      case 'in':
        return { text: `in(${name},${text},${text})`, holds: (seed) => known(seed) === value };
      case 'exists':
        return { text: `exists(${name})`, holds: (seed) => known(seed) !== undefined };
      case 'null':
        return { text: `eq(${name},null)`, holds: (seed) => known(seed) === undefined };
      case 'like': {
        if (typeof value !== 'string') return { text: `exists(${name})`, holds: (seed) => known(seed) !== undefined };
        const literal = pattern.replaceAll('\\\\', '\\');
        const expression = new RegExp(
          `^${[...literal].map((c) => (c === '*' ? '.*' : c === '?' ? '.' : c.replace(/[\\^$.|+()[\]{}]/g, '\\$&'))).join('')}$`,
          's',
        );
        const holds = (seed: TwinSeed) => typeof known(seed) === 'string' && expression.test(known(seed) as string);
        return { text: `like(${name},"${pattern}")`, holds };
      }
      default: {
        if (typeof value === 'boolean') return { text: `ne(${name},${text})`, holds: (seed) => known(seed) !== value };
        const holds = (seed: TwinSeed) => {
          const mine = known(seed);
          if (typeof mine !== typeof value) return false;
          return order[op as keyof typeof order](mine! < value ? -1 : mine! > value ? 1 : 0);
        };
        return { text: `${op}(${name},${text})`, holds };
      }
    }
  });

const condition = fc.letrec<{ any: Condition }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    leaf,
    tie('any').map((c) => ({ text: `not(${c.text})`, holds: (seed: TwinSeed) => !c.holds(seed) })),
    fc.tuple(fc.constantFrom('and', 'or'), fc.array(tie('any'), { minLength: 1, maxLength: 4 })).map(([op, of]) => ({
      text: `${op}(${of.map((c) => c.text).join(',')})`,
      holds: (seed: TwinSeed) => (op === 'and' ? of.every((c) => c.holds(seed)) : of.some((c) => c.holds(seed))),
    })),
  ),
})).any;

describe('a filter in SQL', () => {
  it('selects what it means', async () => {
    let selected = 0;
    await fc.assert(
      fc.asyncProperty(condition, async ({ text, holds }) => {
        const { items } = await listTwins(sql, { filter: text, limit: 500 });
        const retiredToo = text.includes('retired');
        const expected = SEEDS.filter((seed) => (retiredToo || !seed.retired) && holds(seed)).map(
          (seed) => `${seed.kind}:${seed.id}`,
        );
        expect(items.map((item) => item.twinId).sort()).toEqual(expected.sort());
        selected += items.length;
      }),
      { numRuns: 500 },
    );
    expect(selected).toBeGreaterThan(1_000);
  });

  it('keeps hostile text out of the statement', async () => {
    const before = await listTwins(sql, { limit: 500 });
    const evil = fc.constantFrom(
      `'; drop table twins; --`,
      `") or true --`,
      `$1`,
      `\\'; select pg_sleep(10); --`,
      `x' or '1'='1`,
      `__proto__`,
      `constructor`,
      `%`,
      `\u0000`,
    );
    await fc.assert(
      fc.asyncProperty(
        evil,
        fc.constantFrom('id', 'attributes.site', 'reported.heat', 'at', 'kind'),
        async (text, name) => {
          const queries: TwinListQuery[] = [
            { filter: `eq(${name},${quoted(text)})` },
            { filter: `like(${name},${quoted(text)})` },
            { filter: `eq(attributes.${text},1)` },
            { filter: `eq(${text},1)` },
            { sort: text },
            { kind: text },
          ];
          for (const query of queries) {
            const found = await listTwins(sql, query).catch((error: { code?: string }) => error.code);
            if (typeof found === 'object') expect(found.items).toEqual([]);
            else expect(found).toBe('bad_request');
          }
        },
      ),
      { numRuns: 60 },
    );
    expect(await listTwins(sql, { limit: 500 })).toEqual(before);
  });

  it.each([
    ['eq(nope,1)', 'there is no field "nope", at position 4'],
    ['eq(online,"yes")', 'expected true or false at position 11'],
    ['gt(alerts,many)', 'expected a number at position 11'],
    ['gt(at,yesterday)', 'expected a time, ISO 8601 or epoch, at position 7'],
    ['gt(attributes.rank,true)', 'true and false have no order: gt cannot take them, at position 20'],
    ['lt(alerts,null)', 'null has no order: lt cannot take it, at position 11'],
    ['like(alerts,"1*")', 'like is for text, which "alerts" is not, at position 6'],
    ['like(id,"*a*b*c*d*e*f*g*h*")', 'like takes at most 8 of * and ? at position 9'],
  ])('%s is refused', async (filter, message) => {
    await expect(listTwins(sql, { filter })).rejects.toThrow(`filter: ${message}.`);
  });

  it('takes ids as they are written, also those that look like numbers', async () => {
    await putTwins(sql, [{ twin: 9_001, kind: 'gadget', id: '007' }]);
    expect((await listTwins(sql, { filter: 'eq(id,007)' })).items.map((item) => item.id)).toEqual(['007']);
    expect((await listTwins(sql, { filter: 'eq(id,7)' })).items).toEqual([]);
    await sql.query('delete from twins where twin = 9001');
  });
});

describe('the list of twins', () => {
  it('leaves retired twins out unless the filter asks about them', async () => {
    const listed = await every({ limit: 500 });
    expect(listed.length).toBe(SEEDS.filter((seed) => !seed.retired).length);
    const retired = await every({ filter: 'eq(retired,true)', limit: 500 });
    expect(retired.length).toBe(SEEDS.filter((seed) => seed.retired).length);
    expect(retired.length).toBeGreaterThan(0);
  });

  it.each([
    '+twinId',
    '-twinId',
    '-at',
    '+at,-revision',
    'reported.heat,-health',
    '-attributes.rank',
    '+attributes/site,+alerts',
    ' alerts',
    '-online,id',
  ])('sorted by %s comes in pages without a hole or a repeat', async (sort) => {
    const whole = await every({ sort, limit: 500 });
    const paged = await every({ sort, limit: 7 });
    expect(paged).toEqual(whole);
    expect(new Set(whole.map((item) => item.twinId)).size).toBe(SEEDS.filter((seed) => !seed.retired).length);
  });

  it('is in the order asked for, what is missing last', async () => {
    const heats = (await every({ sort: '-reported.heat', limit: 30 })).map((item) => item.reported.heat);
    const known = heats.filter((heat) => heat !== undefined);
    expect(heats.slice(0, known.length)).toEqual([...known].sort((a, b) => b - a));
    expect(known.length).toBeLessThan(heats.length);
    const times = (await every({ sort: 'at', limit: 30 })).map((item) => item.at);
    const there = times.filter((at) => at !== null);
    expect(times.slice(0, there.length)).toEqual([...there].sort());
  });

  it('shows every twin once while others come in', async () => {
    const seen: string[] = [];
    let added = 20_000;
    for (let cursor: string | undefined; ; ) {
      const page = await listTwins(sql, { sort: '-id', limit: 9, cursor });
      seen.push(...page.items.map((item) => item.twinId));
      await putTwins(sql, [
        { twin: ++added, kind: 'boiler', id: `A-${added}` },
        { twin: ++added, kind: 'gadget', id: `Zz-${added}` },
      ]);
      if (page.nextCursor === null) break;
      cursor = page.nextCursor;
    }
    expect(new Set(seen).size).toBe(seen.length);
    for (const seed of SEEDS) if (!seed.retired) expect(seen).toContain(`${seed.kind}:${seed.id}`);
    await sql.query('delete from twins where twin > 20000');
  });

  it('refuses a cursor that is not of this list', async () => {
    const { nextCursor } = await listTwins(sql, { limit: 5 });
    const refused = async (query: TwinListQuery) =>
      expect(listTwins(sql, query)).rejects.toMatchObject({ code: 'bad_request' });
    await refused({ limit: 5, cursor: nextCursor!, sort: '-at' });
    await refused({ limit: 5, cursor: nextCursor!, filter: 'exists(at)' });
    await refused({ cursor: 'x' });
    await refused({ cursor: "' or 1=1" });
    await refused({ cursor: 'A'.repeat(9_000) });
    const scope = JSON.stringify([
      'twins',
      null,
      null,
      [
        ['kind', false],
        ['id', false],
      ],
    ]);
    expect((await listTwins(sql, { cursor: encodeCursor(scope, ['boiler', 'EV-0']) })).items.length).toBeGreaterThan(0);
    await refused({ cursor: encodeCursor(scope, ['boiler', 7]) });
    await refused({ cursor: encodeCursor(scope, ['boiler', 'a\0']) });
    await refused({ cursor: encodeCursor(scope, ['boiler']) });
    await refused({ cursor: encodeCursor(scope, [null, 'x']) });
  });

  it('refuses limits and sorts that are none', async () => {
    for (const query of [
      { limit: 0 },
      { limit: 501 },
      { limit: 1.5 },
      { sort: 'nope' },
      { sort: 'id,id' },
      { sort: 'id,at,kind,alerts,online' },
      { kind: 'Bad Kind' },
    ]) {
      await expect(listTwins(sql, query)).rejects.toMatchObject({ code: 'bad_request' });
    }
  });
});

describe('of ten thousand twins', () => {
  beforeAll(async () => {
    await sql.query('delete from twins');
    for (let i = 0; i < 10_000; i += 2_000) {
      await putTwins(
        sql,
        Array.from({ length: 2_000 }, (_, j) => ({
          twin: i + j + 1,
          kind: (i + j) % 2 ? 'boiler' : 'gadget',
          id: `m-${i + j}`,
          at: T0 + i + j,
          reported: { heat: j, flow: 1 },
        })),
      );
    }
    await sql.query('analyze twins');
  });

  const planOf = async (query: TwinListQuery) => {
    let text = '';
    let params: readonly unknown[] = [];
    const spy = {
      ...sql,
      query: async (t: string, p: readonly unknown[] = []) => {
        text = t;
        params = p;
        return [];
      },
    } as unknown as Sql;
    await listTwins(spy, query);
    const rows = await sql.query<{ 'QUERY PLAN': string }>(`explain ${text}`, params);
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  };

  it('a page by twin id is a range of an index, at the start and behind a cursor', async () => {
    const { nextCursor } = await listTwins(sql, { kind: 'boiler' });
    for (const query of [
      {},
      { kind: 'boiler' },
      { kind: 'boiler', cursor: nextCursor! },
      { filter: 'eq(kind,boiler)' },
      { filter: 'eq(twinId,"boiler:m-1")' },
    ]) {
      const plan = await planOf(query);
      expect(plan).toMatch(/Index (Only )?Scan/);
      expect(plan).not.toMatch(/Seq Scan/);
    }
  });
});
