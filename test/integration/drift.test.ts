import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import moleculer, { type ServiceBroker } from 'moleculer';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../actors/protocol/clock.ts';
import { migrate } from '../../actors/store/postgres/migrate.ts';
import { MIGRATIONS } from '../../actors/store/schema.ts';
import { type Sql, SqlError } from '../../actors/store/sql.ts';
import { holdParts } from '../../mixins/parts.ts';
import { driftContent } from '../../services/drift/message.ts';
import { forgetTold, passOn } from '../../services/drift/outbox.ts';
import { type DriftChange, type InputDrift, judgeDrift, type ModelDrift } from '../../services/drift/report.ts';
import drift from '../../services/drift.service.ts';
import events from '../../services/events.service.ts';
import ingest from '../../services/ingest.service.ts';
import { createLogger } from '../../services/logger.ts';
import notifiers from '../../services/notifiers.service.ts';
import { driftTidings } from '../../services/notify/drift-notice.ts';
import { beginning, tidy } from '../../services/notify/store.ts';
import type { Parts } from '../../services/parts.ts';
import { openEmptyDatabase } from '../servers/embedded.ts';

/** That a model drifts, and drifts no more: judged once, and told until everybody has it. */
const DAY_MS = 86_400_000;
const T0 = Date.UTC(2026, 0, 1);
const BINS = [{ from: null, expected: 1, observed: 1 }];
let sql: Sql;
beforeAll(async () => {
  sql = await openEmptyDatabase();
  await migrate(sql, [], 4);
});
afterAll(() => sql?.close());
beforeEach(() => sql.exec('delete from drift_states; delete from drift_outbox'));

/** A report of one live version; `inputs`: index by input, `none` where it has no reference. */
function live(version: string, inputs: Record<string, number | null | 'none'>, hours = 10): ModelDrift[] {
  const of = ([input, psi]: [string, number | null | 'none']): InputDrift => {
    const seen = { drifting: false, since: null, missing: 0 };
    return { input, ...seen, psi: psi === 'none' ? null : psi, bins: psi === 'none' ? [] : BINS };
  };
  return [
    { model: 'm', version, kind: 'machine', rows: 1_000, hours, worst: 1, inputs: Object.entries(inputs).map(of) },
  ];
}
const judge = (report: ModelDrift[], atMs: number, on: Sql = sql) => judgeDrift(on, report, 0.2, atMs);
const brief = (changes: DriftChange[]) =>
  changes.map(({ input, version, drifting, reason }) => [input, version, drifting, reason]);
const drifting = async () =>
  (await sql.query<{ input: string }>('select input from drift_states where drifting order by input')).map(
    (s) => s.input,
  );

describe('the migration', () => {
  it('knows of what was written before it of which kind it is', async () => {
    const { sql: text } = MIGRATIONS.find(({ version }) => version === 9) ?? { sql: '' };
    await sql.exec(`drop table drift_outbox; alter table drift_states drop column kind, drop column judged_at;
      insert into models (name, version, type, kind, card, sha256, source) values ('m', '1.0.0', 'anomaly', 'mote', '{}', '', '');
      insert into drift_states values ('m', 'a', '1.0.0', 1, true, now()), ('n', 'a', '1.0.0', 1, true, now())`);
    await sql.exec(text);
    await sql.exec('delete from models');
    const ended = await judge([], Date.now());
    expect(ended.map(({ model, kind, reason }) => [model, kind, reason]).sort()).toEqual([
      ['m', 'mote', 'model_gone'],
      ['n', '', 'model_gone'],
    ]);
  });
});

describe('drift that was told', () => {
  it('ends where the version that is live now has no such input, or no reference of it', async () => {
    const began = await judge(live('1.0.0', { a: 1, b: 1, c: 1 }), T0);
    expect(brief(began)).toEqual(['a', 'b', 'c'].map((input) => [input, '1.0.0', true, null]));
    // in its first hours there is nothing to judge it by: what it will judge is kept, the rest ends at once
    const ended = await judge(live('1.1.0', { a: 'none', c: null }, 0), T0 + 1);
    expect(brief(ended)).toEqual([
      ['a', '1.1.0', false, 'no_reference'],
      ['b', '1.1.0', false, 'input_gone'],
    ]);
    expect(ended).toEqual([expect.objectContaining({ psi: null }), expect.objectContaining({ psi: null })]);
    expect(await drifting()).toEqual(['c']);
    expect(await judge(live('1.1.0', { a: 'none', c: null }, 0), T0 + 2)).toEqual([]);
    expect(brief(await judge(live('1.1.0', { a: 'none', c: 0.01 }), T0 + 3))).toEqual([
      ['c', '1.1.0', false, 'settled'],
    ]);
    // the version before goes live again, and its inputs drift as they did
    expect(brief(await judge(live('1.0.0', { a: 1, b: 0.1, c: 0.1 }), T0 + 4))).toEqual([['a', '1.0.0', true, null]]);
  });

  it('ends where the model is gone, of whatever kind it was', async () => {
    await judge(live('1.0.0', { a: 1 }), T0);
    expect(await judge([], T0 + 1)).toEqual([
      { model: 'm', version: '1.0.0', kind: 'machine', input: 'a', psi: null, drifting: false, reason: 'model_gone' },
    ]);
    expect(await judge([], T0 + 2)).toEqual([]);
  });

  it('stands while there is too little to judge it by, and ends when that has been so for a week', async () => {
    await judge(live('1.0.0', { a: 1, b: 1 }), T0);
    // judged for two days more, and then a only
    await judge(live('1.0.0', { a: 1, b: 1 }), T0 + 2 * DAY_MS);
    await judge(live('1.0.0', { a: 1, b: null }), T0 + 8 * DAY_MS);
    expect(await judge(live('1.0.0', { a: 1, b: 1 }, 5), T0 + 9 * DAY_MS - 1)).toEqual([]);
    expect(await drifting()).toEqual(['a', 'b']);
    const ended = await judge(live('1.0.0', { a: null, b: null }), T0 + 9 * DAY_MS);
    expect(brief(ended)).toEqual([['b', '1.0.0', false, 'not_judged']]);
    expect(brief(await judge(live('1.0.0', { a: null, b: 1 }), T0 + 10 * DAY_MS))).toEqual([
      ['b', '1.0.0', true, null],
    ]);
  });

  it('is written once where two nodes judge at once', async () => {
    for (const report of [live('1.0.0', { a: 1 }), live('1.1.0', {})]) {
      const both = await Promise.all([judge(report, T0), judge(report, T0 + 1)]);
      expect(both.flat()).toHaveLength(1);
    }
    expect(await sql.query('select drifting from drift_outbox order by id')).toEqual([
      { drifting: true },
      { drifting: false },
    ]);
  });

  it('says in words why it is over, however late that is', () => {
    const told = { model: 'm', version: '1.1.0', kind: 'machine', input: 'a', psi: null, drifting: false, at: T0 };
    for (const [reason, text] of [
      ['input_gone', 'm@1.1.0 is live now and has no input a.'],
      ['no_reference', 'm@1.1.0 is live now and has no reference of it.'],
      ['model_gone', 'No version of m is live any more.'],
      ['not_judged', 'For 7 days m@1.1.0 was asked too little to judge it by.'],
    ] as const) {
      const { notice, heardAtMs } = driftTidings({ ...told, reason });
      expect(notice).toMatchObject({ action: 'resolve', title: 'm: a is not judged any more', text });
      expect(heardAtMs).toBe(Number.POSITIVE_INFINITY);
      expect(driftContent({ ...told, reason })).toMatchObject({ data_drift_score: null, drifting: false, reason });
    }
  });
});

describe('what is to be said of drift', () => {
  it('is there with the state it follows from, or neither is', async () => {
    await sql.exec(`create function refused() returns trigger language plpgsql as $$ begin raise exception 'full'; end $$;
      create trigger refused before insert on drift_outbox for each row execute function refused()`);
    await expect(judge(live('1.0.0', { a: 1 }), T0)).rejects.toThrow('full');
    expect(await drifting()).toEqual([]);
    await sql.exec('drop trigger refused on drift_outbox; drop function refused');
    expect(await judge(live('1.0.0', { a: 1 }), T0)).toHaveLength(1);
  });

  it('waits for each who has not taken it, in order, and is the same at a repetition', async () => {
    await judge(live('1.0.0', { a: 1 }), T0);
    await judge(live('1.0.0', { a: 0 }), T0 + 1);
    const taken: [string, unknown][] = [];
    let failures = 1;
    const pass = () =>
      passOn(sql, async (sink, told) => {
        if (sink === 'kafka' && failures-- > 0) throw new Error('away');
        taken.push([sink, driftContent(told)]);
      });
    expect([...(await pass())].map(([sink]) => sink)).toEqual(['kafka']);
    const of = (sink: string) => taken.filter(([by]) => by === sink).map(([, said]) => said);
    expect(of('kafka')).toEqual([]);
    expect(of('mqtt')).toMatchObject([
      { input: 'a', drifting: true, event_id: `m@1.0.0~a~${T0}`, reason: null },
      { input: 'a', drifting: false, event_id: `m@1.0.0~a~${T0 + 1}`, reason: 'settled' },
    ]);
    expect((await pass()).size).toBe(0);
    for (const sink of ['live', 'notify', 'kafka']) expect(of(sink)).toEqual(of('mqtt'));
    expect((await pass()).size).toBe(0);
    expect(taken).toHaveLength(8);
    // taken, and the node ends before that was written down: the same again
    await sql.query(`update drift_outbox set waits = '{mqtt}' where drifting`);
    await pass();
    expect(of('mqtt')[2]).toEqual(of('mqtt')[0]);
  });

  it('is remembered by notifications while it has not ended, however long ago they were sent', async () => {
    const { notice } = driftTidings({ ...(await judge(live('1.0.0', { a: 1 }), T0))[0], at: T0 });
    for (const thread of [notice.thread, 'other'])
      await sql.query(
        `insert into notifications (receiver, dedup_key, rule, thread, action, severity, state, next_at, payload, created_at)
         values ('r', $1, 'r', $1, 'trigger', 'warning', 'sent', $2, '{}', $2)`,
        [thread, new Date(T0)],
      );
    const left = async () => {
      await tidy(sql, DAY_MS, T0 + 60 * DAY_MS);
      return (await sql.query<{ thread: string }>('select thread from notifications')).map(({ thread }) => thread);
    };
    expect(await left()).toEqual([notice.thread]);
    await judge([], T0 + 1);
    expect(await left()).toEqual([]);
  });

  it('is given up when it is old, and that is counted', async () => {
    await judge(live('1.0.0', { a: 1 }), T0);
    await judge(live('1.0.0', { a: 0 }), T0 + 1);
    await sql.query(`update drift_outbox set waits = '{}' where drifting`);
    expect(await forgetTold(sql, T0)).toBe(0);
    expect(await forgetTold(sql, T0 + 2)).toBe(1);
    expect(await sql.query('select from drift_outbox')).toEqual([]);
  });
});

interface Speaking {
  actions: { drift: { handler(this: object, ctx: object): Promise<boolean> } };
}

describe('a node that speaks to the outside', () => {
  const told = {
    model: 'm',
    version: '1.0.0',
    kind: 'machine',
    input: 'a',
    psi: 1,
    drifting: true,
    reason: null,
    at: T0,
  };
  const payload = JSON.stringify(driftContent(told));
  /** An action as its service has it, on a service that is no more than `own`. */
  const call = (service: unknown, own: object, params: object): Promise<boolean> =>
    (service as Speaking).actions.drift.handler.call(own, { params: { told, ...params } });

  it('has taken what its brokers have taken, and says where it has none', async () => {
    const out: unknown[] = [];
    const publish = async (...asked: unknown[]) => void out.push(asked);
    const own = { kafka: { publish }, mqtt: { publish, status: () => ({ role: 'broker' }) } };
    expect(await call(events, own, { to: 'kafka' })).toBe(true);
    expect(await call(events, own, { to: 'mqtt' })).toBe(true);
    expect(await call(ingest, own, {})).toBe(true);
    const overMqtt = ['twins/models/m/events/data-drift', payload, { qos: 1, retain: false }];
    expect(out).toEqual([[[{ topic: 'data-drift', key: 'm', value: payload }]], overMqtt, overMqtt]);
    for (const to of ['kafka', 'mqtt']) expect(await call(events, {}, { to })).toBe(false);
    expect(await call(ingest, { mqtt: { status: () => ({ role: 'off' }) } }, {})).toBe(false);
    const away = { publish: () => Promise.reject(new Error('away')), status: () => ({ role: 'client' }) };
    for (const to of ['kafka', 'mqtt'])
      await expect(call(events, { kafka: away, mqtt: away }, { to })).rejects.toThrow('away');
    await expect(call(ingest, { mqtt: away }, {})).rejects.toThrow('away');
  });
});

describe('the node that judges', () => {
  const brokers: ServiceBroker[] = [];
  afterAll(() => Promise.all(brokers.map((broker) => broker.stop())));

  /** Without live models: what was said to drift ends. `isUp`: whether the receivers that stand in for this service take anything. */
  async function node(taken: unknown[], isUp: (service: string) => boolean, more: (broker: ServiceBroker) => object) {
    const broker = new moleculer.ServiceBroker({ nodeID: randomUUID(), logger: false });
    brokers.push(broker);
    const parts = {
      sql,
      clock: systemClock,
      settings: { natsUrl: null, driftThreshold: 0.2, notifiersFile: null, nodeId: 'n' },
      logger: createLogger({ level: 'silent', format: 'json', node: 'n' }),
      metrics: { registry: new Registry() },
      host: { addSink: () => undefined },
      close: async () => undefined,
    };
    await holdParts(broker, async () => ({ ...parts, ...more(broker) }) as unknown as Parts);
    for (const name of ['events', 'ingest'])
      broker.createService({
        name,
        actions: {
          drift: (ctx) => {
            if (!isUp(name)) throw new Error('away');
            const { to, told } = ctx.params;
            taken.push([to, told.input, told.drifting]);
            // it tells nobody: that is no reason to ask it again
            return name !== 'events';
          },
        },
      });
    broker.createService({
      name: 'hearer',
      events: { 'drift.changed': (ctx) => void taken.push(['live', ctx.params.input, ctx.params.drifting]) },
    });
    broker.createService(drift as never);
    await broker.start();
    return broker;
  }

  it('goes on where another has stopped, and tells nobody twice who has taken it', async () => {
    await judge(live('1.0.0', { a: 1 }), Date.now());
    const first: unknown[] = [];
    const broken = await node(
      first,
      (service) => service === 'ingest',
      () => ({}),
    );
    // no version is live any more: the end waits behind the beginning, and for notifications no node is there
    await broken.call('drift.run');
    expect(first).toEqual(
      expect.arrayContaining(['live', 'mqtt'].flatMap((s) => [true, false].map((d) => [s, 'a', d]))),
    );
    expect(first).toHaveLength(4);
    await broken.stop();

    const second: unknown[] = [];
    const folder = mkdtempSync(join(tmpdir(), 'twinmesh-drift-'));
    const notifiersFile = join(folder, 'notifiers.json');
    writeFileSync(
      notifiersFile,
      JSON.stringify({
        receivers: { ml: { type: 'webhook', url: 'http://127.0.0.1:9/' } },
        rules: [{ name: 'models', events: ['data.drift'], receivers: ['ml'] }],
      }),
    );
    await beginning(sql, T0);
    let isDown = false;
    const query: Sql['query'] = (text, ...asked) =>
      isDown && text.includes('notifications')
        ? Promise.reject(new SqlError('not_sent', 'away'))
        : sql.query(text, ...asked);
    const whole = await node(
      second,
      () => true,
      (broker) => {
        broker.createService(notifiers as never);
        const settings = { natsUrl: null, driftThreshold: 0.2, notifiersFile, nodeId: 'n' };
        return { sql: { ...sql, query }, settings };
      },
    );
    const queued = () => sql.query<{ action: string }>('select action, state from notifications order by id');
    isDown = true;
    await whole.call('drift.run');
    expect(await queued()).toEqual([]);
    isDown = false;
    await Promise.all([whole.call('drift.run'), whole.call('drift.run')]);
    expect(second).toEqual([
      ['kafka', 'a', true],
      ['kafka', 'a', false],
    ]);
    expect((await queued()).map(({ action }) => action)).toEqual(['trigger', 'resolve']);
    expect(await sql.query(`select from drift_outbox where waits <> '{}'`)).toEqual([]);
    await whole.stop();
    rmSync(folder, { recursive: true, force: true });
  });
});
