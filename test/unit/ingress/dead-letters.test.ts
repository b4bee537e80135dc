import { describe, expect, it } from 'vitest';
import { type DeadLetter, type DeadLetterLimits, DeadLetters } from '../../../actors/ingress/dead-letters.ts';
import { type Sql, SqlError } from '../../../actors/store/sql.ts';
import { FakeClock } from './fixture.ts';

const letter = (over: Partial<DeadLetter> = {}): DeadLetter => ({
  receivedAt: 1,
  source: 'mqtt:iot/data',
  code: 'not_json',
  message: 'no',
  twinId: null,
  payload: 'x',
  ...over,
});

/** Remembers what was written; `fail` decides per statement. */
class FakeSql implements Sql {
  rows: { code: string; payload: string; truncated: boolean; source: string }[] = [];
  deletes: unknown[] = [];
  fail: (payloads: string[]) => void = () => {};

  async query<Row>(text: string, params: readonly unknown[] = []): Promise<Row[]> {
    await Promise.resolve();
    if (text.startsWith('delete')) {
      this.deletes.push(params[0]);
      return [];
    }
    const [, sources, codes, , , payloads, truncated] = params as [
      number[],
      string[],
      string[],
      string[],
      string[],
      string[],
      boolean[],
    ];
    this.fail(payloads);
    return payloads.map((payload, i) => {
      this.rows.push({ payload, code: codes[i], truncated: truncated[i], source: sources[i] });
      return { id: this.rows.length };
    }) as Row[];
  }
  exec(): Promise<void> {
    throw new Error('not used');
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

function office(limits: Partial<DeadLetterLimits> = {}) {
  const sql = new FakeSql();
  const clock = new FakeClock();
  return { sql, clock, letters: new DeadLetters({ sql, clock, limits }) };
}

describe('dead letters', () => {
  it('keeps what it is given, in order, in few statements, and tells its listeners', async () => {
    const { sql, letters } = office();
    let told = 0;
    let statements = 0;
    sql.fail = () => void statements++;
    letters.onStored(() => told++);
    for (let i = 0; i < 1200; i++) letters.add(letter({ payload: String(i) }));
    await letters.flush();
    expect(sql.rows.map(({ payload }) => Number(payload))).toEqual(Array.from({ length: 1200 }, (_, i) => i));
    expect(statements).toBe(3);
    expect(told).toBe(3);
    expect([letters.stored, letters.dropped]).toEqual([1200, 0]);
  });

  it('makes text storable and cuts it', async () => {
    const { sql, letters } = office({ maxPayloadChars: 5 });
    letters.add(letter({ payload: 'a\0b\ud800', source: 'mqtt:\0' }));
    letters.add(letter({ payload: '123456' }));
    await letters.flush();
    expect(sql.rows).toEqual([
      { code: 'not_json', payload: 'a␀b\ufffd', truncated: false, source: 'mqtt:␀' },
      { code: 'not_json', payload: '12345', truncated: true, source: 'mqtt:iot/data' },
    ]);
  });

  it('drops and counts what comes faster than the rate, and recovers', async () => {
    const { clock, letters, sql } = office({ perSecond: 10, burst: 20 });
    for (let i = 0; i < 100; i++) letters.add(letter());
    await letters.flush();
    expect([sql.rows.length, letters.dropped]).toEqual([20, 80]);
    await clock.advance(1000);
    for (let i = 0; i < 100; i++) letters.add(letter());
    await letters.flush();
    expect([sql.rows.length, letters.dropped]).toEqual([30, 170]);
  });

  it('holds no more than its bounds while the database is away, then writes what it held', async () => {
    const { clock, letters, sql } = office({ maxQueued: 10 });
    let down = true;
    sql.fail = () => {
      if (down) throw new SqlError('not_sent', 'down');
    };
    for (let i = 0; i < 50; i++) letters.add(letter({ payload: String(i) }));
    await clock.advance(60_000);
    expect([sql.rows.length, letters.dropped]).toEqual([0, 40]);
    down = false;
    await clock.advance(10_000);
    await letters.flush();
    expect(sql.rows.map(({ payload }) => Number(payload))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('bounds the characters that wait', () => {
    const { letters } = office({ maxQueuedChars: 10_000 });
    for (let i = 0; i < 10; i++) letters.add(letter({ payload: 'x'.repeat(4000) }));
    expect(letters.dropped).toBe(8);
  });

  it('does not let a letter that the server refuses take the others with it', async () => {
    const { letters, sql } = office();
    sql.fail = (payloads) => {
      if (payloads.includes('bad')) throw new SqlError('refused', 'no', '22021');
    };
    for (const payload of ['a', 'bad', 'b']) letters.add(letter({ payload }));
    await letters.flush();
    expect(sql.rows.map(({ payload }) => payload)).toEqual(['a', 'b']);
    expect(letters.dropped).toBe(1);
  });

  it('lets the oldest rows go', async () => {
    const { letters, sql } = office({ maxRows: 100 });
    for (let i = 0; i < 1000; i++) letters.add(letter());
    await letters.flush();
    expect(sql.deletes).toEqual([900]);
  });

  it('takes nothing after it was closed, and closes although the database is away', async () => {
    const { clock, letters, sql } = office();
    sql.fail = () => {
      throw new SqlError('not_sent', 'down');
    };
    letters.add(letter());
    const closed = letters.close(500);
    await clock.advance(500);
    await closed;
    letters.add(letter());
    expect(letters.dropped).toBe(1);
  });
});
