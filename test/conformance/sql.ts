import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { int8Column, textColumn, timestampColumn } from '../../actors/store/column.ts';
import { type Sql, SqlError } from '../../actors/store/sql.ts';

/** What sql.ts promises of values and errors, for every adapter. */
export function sqlConformance(name: string, open: () => Promise<{ sql: Sql; close(): Promise<void> }>): void {
  describe(`Sql: ${name}`, () => {
    let sql: Sql;
    let close: () => Promise<void>;
    beforeAll(async () => {
      ({ sql, close } = await open());
    });
    afterAll(async () => {
      await close?.();
    });

    it('gives values back in the types it promises', async () => {
      const [row] =
        await sql.query(`select 12::int8 as i8, 3::int4 as i4, 0.1::float8 as f8, 2.5::numeric as n, true as b, 'x' as t,
        null as nothing, '2026-01-02T03:04:05.678Z'::timestamptz as at, date '2026-01-02' as day,
        '{"a": [1, null]}'::jsonb as jb, '{"b": 1, "a": 2}'::json as j, '\\x00ff10'::bytea as bytes,
        '{1,2,NULL}'::int8[] as i8s, '{0.5,1}'::float8[] as f8s, array['a,b', 'c"d', null] as ts`);
      expect(row).toEqual({
        i8: 12,
        i4: 3,
        f8: 0.1,
        n: 2.5,
        b: true,
        t: 'x',
        nothing: null,
        at: new Date('2026-01-02T03:04:05.678Z'),
        day: '2026-01-02',
        jb: { a: [1, null] },
        j: { b: 1, a: 2 },
        bytes: expect.any(Uint8Array),
        i8s: [1, 2, null],
        f8s: [0.5, 1],
        ts: ['a,b', 'c"d', null],
      });
      expect([...(row.bytes as Uint8Array)]).toEqual([0, 255, 16]);
      expect(Object.keys(row.j as object)).toEqual(['b', 'a']);
    });

    it('takes parameters as it promises', async () => {
      const at = new Date('2026-01-02T03:04:05.678Z');
      const [row] = await sql.query(
        `select $1::text as t, $2::int8 as i, $3::float8 as f, $4::boolean as b, $5::timestamptz as at, $6::jsonb as j,
           $7::text[] as ts, $8::int8[] as "is", $9::text as nothing, $10::bytea as bytes, $11::text as missing`,
        [
          `it's`,
          2 ** 40,
          0.1,
          false,
          at,
          '[1, "a"]',
          ['a,b', 'c"d\\', null],
          [1, 2],
          null,
          new Uint8Array([1, 0, 255]),
          undefined,
        ],
      );
      expect(row).toMatchObject({
        t: `it's`,
        i: 2 ** 40,
        f: 0.1,
        b: false,
        at,
        j: [1, 'a'],
        ts: ['a,b', 'c"d\\', null],
        is: [1, 2],
        nothing: null,
        missing: null,
      });
      expect([...(row.bytes as Uint8Array)]).toEqual([1, 0, 255]);
    });

    it('takes binary columns, nulls and extremes included', async () => {
      const times = [Date.UTC(2200, 0, 1) + 123, 0, -1, Date.UTC(2026, 0, 1) + 999, null];
      const texts = ['', 'é🌡️', null, 'a"b\\c,{}', 'x'.repeat(70_000)];
      const whole = [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, -1, null, 2 ** 32];
      const rows = await sql.query<{ at: Date | null; t: string | null; i: number | null }>(
        'select at, t, i from unnest($1::timestamptz[], $2::text[], $3::int8[]) as r(at, t, i)',
        [timestampColumn(5, (i) => times[i]), textColumn(5, (i) => texts[i]), int8Column(5, (i) => whole[i])],
        { giveAway: true, priority: true },
      );
      expect(rows.map((row) => row.at?.getTime() ?? null)).toEqual(times);
      expect(rows.map((row) => row.t)).toEqual(texts);
      expect(rows.map((row) => row.i)).toEqual(whole);
      expect(await sql.query('select * from unnest($1::int8[])', [int8Column(0, () => 1)])).toEqual([]);
      const ends = await sql.query<{ t: string }>('select t::text from unnest($1::timestamptz[]) t', [
        timestampColumn(2, (i) => (i ? -Infinity : Infinity)),
      ]);
      expect(ends.map((row) => row.t)).toEqual(['infinity', '-infinity']);
    });

    it('prepares a statement by name', async () => {
      for (let i = 0; i < 8; i++) {
        expect(await sql.query('select $1::int4 + 1 as n', [i], { name: 'plus_one' })).toEqual([{ n: i + 1 }]);
      }
    });

    it('says that a statement was refused, with its SQLSTATE, and goes on', async () => {
      const refusals: [string, unknown[], string][] = [
        ['select nonsense', [], '42703'],
        ['selec 1', [], '42601'],
        ['select 1 / $1::int4', [0], '22012'],
        ['select $1::text', ['a\0b'], '22021'],
        ['select $1::jsonb', ['"\\u0000"'], '22P05'],
        ['select $1::float8', ['1e400'], '22003'],
      ];
      for (const [text, params, sqlState] of refusals) {
        for (const name of [undefined, `refused_${sqlState}`]) {
          const error = await sql.query(text, params, { name }).catch((e: unknown) => e);
          expect(error).toBeInstanceOf(SqlError);
          expect(error).toMatchObject({ outcome: 'refused', sqlState, code: 'internal' });
          expect(await sql.query('select 1 as one')).toEqual([{ one: 1 }]);
        }
      }
    });

    it('runs a script as one transaction', async () => {
      await sql.exec('create table script (n int primary key); insert into script values (1);');
      await expect(sql.exec('insert into script values (2); insert into script values (1);')).rejects.toMatchObject({
        outcome: 'refused',
      });
      expect(await sql.query('select n from script')).toEqual([{ n: 1 }]);
      await sql.exec('drop table script');
    });

    it('answers many at once, each its own', async () => {
      const answers = await Promise.all(
        [...Array(50).keys()].map((n) => sql.query('select $1::int4 as n', [n], { priority: n % 3 === 0 })),
      );
      expect(answers).toEqual([...Array(50).keys()].map((n) => [{ n }]));
    });

    it('refuses everything once closed', async () => {
      await close();
      close = async () => undefined;
      await expect(sql.query('select 1')).rejects.toMatchObject({ outcome: 'not_sent', code: 'store_down' });
      await expect(sql.exec('select 1')).rejects.toMatchObject({ outcome: 'not_sent' });
      await sql.close();
    });
  });
}
