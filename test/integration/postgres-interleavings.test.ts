import pg from 'pg';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { Pg } from '../../actors/store/pg.ts';
import { OutcomeUnknown, type Store } from '../../actors/store/port.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { type Sql, SqlError } from '../../actors/store/sql.ts';
import {
  entry,
  event,
  KINDS,
  key,
  reading,
  SHARDS,
  summary,
  T0,
  twinIdOf,
  Writer,
} from '../conformance/store-sample.ts';
import { findPostgres } from '../servers/postgres.ts';
import { tcpProxy } from '../servers/tcp-proxy.ts';

/**
 * What two connections can do to each other, which one connection never shows: the order is forced by transactions
 * that stay open. The statements are the store's own; only when they commit is scripted.
 */
const server = await findPostgres();

/** A connection whose transaction ends when the test says so. */
class Held implements Sql {
  readonly #client: pg.Client;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  static async open(url: string): Promise<Held> {
    const getTypeParser = ((type: number, format?: 'text') =>
      type === 20 ? Number : pg.types.getTypeParser(type, format)) as typeof pg.types.getTypeParser;
    const client = new pg.Client({ connectionString: url, types: { getTypeParser } });
    // A test that fails leaves it open for the server's stop.
    client.on('error', () => undefined);
    await client.connect();
    await client.query('begin');
    return new Held(client);
  }

  async query<Row>(text: string, params: readonly unknown[] = []): Promise<Row[]> {
    return (await this.#client.query(text, [...params])).rows as Row[];
  }

  async exec(text: string): Promise<void> {
    await this.#client.query(text);
  }

  async commit(): Promise<void> {
    await this.#client.query('commit');
    await this.close();
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

describe.skipIf(server === null)('interleavings of two connections', () => {
  let url: string;
  let sql: Pg;
  let store: Store;
  const opened: Pg[] = [];

  beforeEach(async () => {
    url = await server!.database();
    sql = await connect(url);
    store = new PostgresStore(sql);
    await store.open(KINDS, SHARDS);
  });

  afterAll(async () => {
    for (const pool of opened) await pool.close();
    await server?.stop();
  });

  async function connect(to: string): Promise<Pg> {
    const pool = await Pg.open({ url: to, maxConnections: 5, connectTimeoutMs: 2000 });
    opened.push(pool);
    return pool;
  }

  /** A store whose effects are not committed until `held.commit()`. */
  async function held(): Promise<{ held: Held; store: PostgresStore }> {
    const connection = await Held.open(url);
    const of = new PostgresStore(connection);
    // Inside the transaction it only learns the kinds: everything is there already.
    await of.open(KINDS, SHARDS);
    return { held: connection, store: of };
  }

  /** Resolves once so many sessions wait for a lock. */
  async function waiting(sessions: number): Promise<void> {
    for (;;) {
      const [{ n }] = await sql.query<{ n: number }>(
        `select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      if (n >= sessions) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  const journalOf = (shard: number) => store.journal({ twin: key(shard), twinId: twinIdOf(key(shard)) }, 0, 100);

  it('a first commit that was delayed does not land after its shard was claimed again', async () => {
    const a = new Writer(store, 'a');
    await a.claim(0);
    const claiming = await held();
    const [claimed] = await claiming.store.claim('a', [{ shard: 0, owner: 'a', epoch: 1 }]);
    expect(claimed.epoch).toBe(2);
    // Sent before the claim is committed, decided after it: its snapshot still shows the old epoch.
    const late = a.commit([0], { readings: [reading(key(0), 1)], summaries: [summary(key(0), 1)] });
    await waiting(1);
    await claiming.held.commit();
    expect(await late).toEqual(new Set());
    expect(await journalOf(0)).toEqual([]);
    expect((await store.shards())[0]).toMatchObject({ epoch: 2, commitNo: 0, position: 0 });
  });

  it('a claim that waited for a commit sees it, and what it answers is enough to go on', async () => {
    const a = new Writer(store, 'a');
    await a.claim(0);
    const committing = await held();
    const cut = a.cut([0], { readings: [reading(key(0), 1)], summaries: [summary(key(0), 1)] });
    expect(await committing.store.commit(cut)).toEqual(new Set([0]));
    const claiming = store.claim('b', [{ shard: 0, owner: 'a', epoch: 1 }]);
    await waiting(1);
    await committing.held.commit();
    const [row] = await claiming;
    expect(row).toMatchObject({ owner: 'b', epoch: 2, commitNo: 1, position: 1, positionId: 'm1' });
    const b = new Writer(store, 'b');
    b.rows.set(0, row);
    expect((await store.loadTail(0))[0].tail).toHaveLength(1);
    expect(await b.commit([0], { readings: [reading(key(0), 2)] })).toEqual(new Set([0]));
    expect((await journalOf(0)).map((of) => of.revision)).toEqual([1, 2]);
  });

  it('of two claims at once the later gets nothing', async () => {
    const first = await held();
    expect(await first.store.claim('a', [{ shard: 1, owner: null, epoch: 0 }])).toHaveLength(1);
    const second = store.claim('b', [{ shard: 1, owner: null, epoch: 0 }]);
    await waiting(1);
    await first.held.commit();
    expect(await second).toEqual([]);
    expect((await store.shards())[1]).toMatchObject({ owner: 'a', epoch: 1 });
  });

  it('of the same cut twice at once only one lands', async () => {
    const a = new Writer(store, 'a');
    await a.claim(2);
    const cut = a.cut([2], { entries: [entry(key(2), { type: 'tick', revision: 1, receivedAt: T0 })] });
    const first = await held();
    expect(await first.store.commit(cut)).toEqual(new Set([2]));
    const second = store.commit(cut);
    await waiting(1);
    await first.held.commit();
    expect(await second).toEqual(new Set());
    expect((await store.shards())[2].commitNo).toBe(1);
  });

  it('a release that waited for a claim by another takes nothing away', async () => {
    const a = new Writer(store, 'a');
    await a.claim(3);
    const claiming = await held();
    await claiming.store.claim('b', [{ shard: 3, owner: 'a', epoch: 1 }]);
    const releasing = store.release('a', [{ shard: 3, epoch: 1 }]);
    await waiting(1);
    await claiming.held.commit();
    await releasing;
    expect((await store.shards())[3]).toMatchObject({ owner: 'b', epoch: 2 });
  });

  it('locks in shard order, whatever the order of the cut', async () => {
    const a = new Writer(store, 'a');
    await a.claim(2, 4, 6);
    // Rows lie the other way round, so that neither the table nor the cut happens to be in order.
    await sql.exec(`create temporary table turned as select * from shards; delete from shards;
      insert into shards select * from turned order by shard desc;`);
    const blocker = await Held.open(url);
    await blocker.query('select from shards where shard = 4 for update');
    const free = async () => {
      const looker = await Held.open(url);
      const rows = await looker.query<{ shard: number }>(
        'select shard from shards where shard in (2, 4, 6) order by shard for update skip locked',
      );
      await looker.close();
      return rows.map((row) => row.shard);
    };
    for (const send of [
      () => a.commit([6, 4, 2]),
      () =>
        store.claim(
          'b',
          [6, 4, 2].map((shard) => ({ shard, owner: 'a', epoch: 7 })),
        ),
      () =>
        store.release(
          'a',
          [6, 4, 2].map((shard) => ({ shard, epoch: 7 })),
        ),
    ]) {
      const sent: Promise<unknown> = send();
      await waiting(1);
      // It has 2, waits for 4, and has not touched 6.
      expect(await free()).toEqual([6]);
      await blocker.query('commit');
      await sent;
      await blocker.query('begin');
      await blocker.query('select from shards where shard = 4 for update');
    }
    await blocker.close();
  });

  it('commits, claims and releases of everything at once do not deadlock', async () => {
    const random = seededRandom(7);
    const all = [...Array(SHARDS).keys()];
    const shuffled = () =>
      all
        .map((shard) => [random(), shard])
        .sort((x, y) => x[0] - y[0])
        .map(([, shard]) => shard);
    const writers = ['a', 'b', 'c'].map((node) => new Writer(store, node));
    await Promise.all(
      writers.map(async (writer) => {
        for (let round = 0; round < 40; round++) {
          await writer.claim(...shuffled());
          const owned = shuffled().filter((shard) => writer.rows.has(shard));
          await writer.commit(owned, { cursors: owned.map((shard) => ({ sink: 's', shard, seq: round })) });
          await store.release(
            writer.node,
            shuffled().map((shard) => ({ shard, epoch: writer.rows.get(shard)?.epoch ?? 0 })),
          );
        }
      }),
    );
    // A deadlock would have been an error of one of them.
    expect(await store.shards()).toHaveLength(SHARDS);
  });

  it('a commit of commands alone whose answer was lost does not land twice', async () => {
    const a = new Writer(store, 'a');
    await a.claim(5);
    const proxy = await tcpProxy(Number(new URL(url).port));
    const through = new URL(url);
    through.port = String(proxy.port);
    const remote = new PostgresStore(await connect(through.toString()));
    await remote.open(KINDS, SHARDS);
    const command = { name: 'desired', key: 'k', by: 'ann', patch: { on: true } } as const;
    const cut = a.cut([5], { entries: [entry(key(5), { type: 'command', revision: 1, receivedAt: T0, command })] });

    proxy.fault = 'lose_answer';
    await expect(remote.commit(cut)).rejects.toBeInstanceOf(OutcomeUnknown);
    proxy.fault = 'pass';
    expect(await settled(5)).toBe(1);
    expect(await remote.commit(cut)).toEqual(new Set());
    expect(await journalOf(5)).toHaveLength(1);

    // Lost on the way there it has not landed; the claimant finds that out and writes it again.
    const [row] = await store.claim('a', [{ shard: 5, owner: 'a', epoch: 1 }]);
    a.rows.set(5, row);
    const next = a.cut([5], { entries: [entry(key(5), { type: 'tick', revision: 2, receivedAt: T0 })] });
    proxy.fault = 'lose_request';
    await expect(remote.commit(next)).rejects.toBeInstanceOf(OutcomeUnknown);
    proxy.fault = 'pass';
    expect(await settled(5)).toBe(1);
    expect(await remote.commit(next)).toEqual(new Set([5]));
    expect(await journalOf(5)).toHaveLength(2);

    await proxy.close();
    // Connections that were open are found lost first.
    for (let lost: unknown; (lost as SqlError | undefined)?.outcome !== 'not_sent'; ) {
      lost = await remote.ping().catch((error: unknown) => error);
      expect(lost).toBeInstanceOf(SqlError);
    }
    await expect(remote.commit(next)).rejects.toMatchObject({ code: 'store_down', outcome: 'not_sent' });
  });

  /** commit_no of a shard once no statement runs any more. */
  async function settled(shard: number): Promise<number> {
    for (;;) {
      const [{ n }] = await sql.query<{ n: number }>(
        `select count(*) as n from pg_stat_activity
         where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()`,
      );
      if (n === 0) return (await store.shards())[shard].commitNo;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  it('a cursor over the events of a shard misses nothing while two writers commit out of order', async () => {
    const a = new Writer(store, 'a');
    const b = new Writer(store, 'b');
    await a.claim(0);
    await b.claim(1);
    const read: string[] = [];
    const cursors = new Map([
      [0, 0],
      [1, 0],
    ]);
    const drain = async () => {
      for (const [shard, seq] of cursors) {
        for (const of of await store.events(shard, seq, 100)) {
          read.push(of.eventId);
          cursors.set(shard, of.seq);
        }
      }
    };
    // The first writer has its events, and its serial numbers if there were any, but has not committed.
    const slow = await held();
    const early = [1, 2, 3].map((seq) => event(key(0), seq, seq));
    await slow.store.commit(a.cut([0], { events: early }));
    const others = [1, 2, 3].map((seq) => event(key(1), seq, seq));
    await b.commit([1], { events: others });
    await drain();
    expect(read).toEqual(others.map((of) => of.eventId));
    // A new owner of the first shard cannot get in between with later seqs.
    const claiming = store.claim('b', [{ shard: 0, owner: 'a', epoch: 1 }]);
    await waiting(1);
    await drain();
    expect(read).toHaveLength(3);
    await slow.held.commit();
    const [row] = await claiming;
    expect(row.eventSeq).toBe(3);
    b.rows.set(0, row);
    const later = event(key(0), 4, 4);
    await b.commit([0], { events: [later] });
    await drain();
    expect(read).toEqual([...others, ...early, later].map((of) => of.eventId));
  });

  it('a cursor misses nothing while shards change hands under load', async () => {
    const writers = ['a', 'b'].map((node) => new Writer(store, node));
    const random = seededRandom(3);
    let running = true;
    const read: string[] = [];
    const cursors = new Map([0, 1, 2].map((shard) => [shard, 0]));
    const drain = async () => {
      for (const [shard, seq] of cursors) {
        for (const of of await store.events(shard, seq, 1000)) {
          expect(of.seq).toBe(cursors.get(shard)! + 1);
          read.push(of.eventId);
          cursors.set(shard, of.seq);
        }
      }
    };
    const reading = (async () => {
      while (running) await drain();
    })();
    await Promise.all(
      writers.map(async (writer) => {
        for (let round = 0; round < 60; round++) {
          if (random() < 0.3) await writer.claim(0, 1, 2);
          const owned = [...writer.rows.keys()];
          const events = owned.flatMap((shard) =>
            [1, 2].map((n) => event(key(shard), writer.rows.get(shard)!.eventSeq + n, round)),
          );
          await writer.commit(owned, { events });
        }
      }),
    );
    running = false;
    await reading;
    await drain();
    const rows = await sql.query<{ id: string }>('select event_id as id from events');
    expect(rows.length).toBeGreaterThan(20);
    expect(read.sort()).toEqual(rows.map((row) => row.id).sort());
  });

  it('takes a server that is not heard of any more for lost', async () => {
    const a = new Writer(store, 'a');
    await a.claim(0);
    const proxy = await tcpProxy(Number(new URL(url).port));
    const through = new URL(url);
    through.port = String(proxy.port);
    const pool = await Pg.open({ url: through.toString(), statementTimeoutMs: 200, answerMarginMs: 100 });
    opened.push(pool);
    const remote = new PostgresStore(pool, { commitAnswerMs: 300 });
    await remote.open(KINDS, SHARDS);
    const cut = a.cut([0]);
    proxy.fault = 'silence';
    await expect(remote.commit(cut)).rejects.toBeInstanceOf(OutcomeUnknown);
    proxy.fault = 'pass';
    // That connection, whose answer may still come, is not used again.
    await remote.ping();
    expect(await settled(0)).toBe(1);
    expect(await remote.commit(cut)).toEqual(new Set());
    await proxy.close();
  });

  it('waits longer for a commit than for what else has priority, but not for ever', async () => {
    let answers: (number | undefined)[] = [];
    const watched: Sql = {
      query(text, params, options) {
        if (options?.priority) answers.push(options.answerMs);
        return sql.query(text, params, options);
      },
      exec: (text) => sql.exec(text),
      close: async () => undefined,
    };
    const remote = new PostgresStore(watched);
    await remote.open(KINDS, SHARDS);
    answers = [];
    await remote.beat('a');
    expect(answers).toEqual([undefined]);
    const a = new Writer(remote, 'a');
    await a.claim(0);
    answers = [];
    expect(await a.commit([0])).toEqual(new Set([0]));
    const [answerMs] = answers;
    expect(answerMs).toBeGreaterThan(5_000);
    expect(answerMs).toBeLessThan(60_000);
  });

  it('waits less for what has priority, as its lease would run out', async () => {
    const a = new Writer(store, 'a');
    await a.claim(0);
    const proxy = await tcpProxy(Number(new URL(url).port));
    const through = new URL(url);
    through.port = String(proxy.port);
    // every other time is far beyond the one of the test
    const pool = await Pg.open({ url: through.toString(), priorityAnswerMs: 150, connectTimeoutMs: 3_600_000 });
    opened.push(pool);
    const remote = new PostgresStore(pool, { commitAnswerMs: 450 });
    await remote.open(KINDS, SHARDS);
    proxy.fault = 'silence';
    await expect(remote.commit(a.cut([0]))).rejects.toBeInstanceOf(OutcomeUnknown);
    await expect(remote.beat('a')).rejects.toMatchObject({ code: 'store_down' });
    // both connections are gone by now: new ones are not waited for either
    await expect(remote.beat('a')).rejects.toMatchObject({ code: 'store_down' });
    proxy.fault = 'pass';
    await remote.beat('a');
    await proxy.close();
  });

  it('tells a commit that the server ended from one that it refused', async () => {
    const a = new Writer(store, 'a');
    await a.claim(0);
    const blocker = await Held.open(url);
    await blocker.query('select from shards where shard = 0 for update');
    const ended = a.commit([0]);
    // Handled below, but later than it may reject.
    ended.catch(() => undefined);
    await waiting(1);
    await sql.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    await expect(ended).rejects.toBeInstanceOf(OutcomeUnknown);
    const impatient = await Pg.open({ url, maxConnections: 3, statementTimeoutMs: 50 });
    opened.push(impatient);
    const timed = new PostgresStore(impatient);
    await expect(timed.commit(a.cut([0]))).rejects.toMatchObject({ name: 'CommitAborted' });
    await blocker.close();
    expect(await a.commit([0])).toEqual(new Set([0]));
  });
});
