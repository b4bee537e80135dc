import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { TwinEvent } from '../../../actors/protocol/event.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { Dispatcher } from '../../../services/notify/dispatcher.ts';
import { driftTidings } from '../../../services/notify/drift-notice.ts';
import { listNotifications } from '../../../services/notify/list.ts';
import type { Notifiers } from '../../../services/notify/notifiers-file.ts';
import { Rounds } from '../../../services/notify/rounds.ts';
import { FakeClock } from '../gateway/fake-clock.ts';
import { openDatabase } from '../queries/database.ts';
import { alertOf, event, notifiersOf } from './sample.ts';

/** From events to rows that wait, without anybody who delivers them. */
let sql: Sql;
let clock: FakeClock;
let notifiers: Notifiers;
let dispatcher: Dispatcher;
let rounds: Rounds;
let counted: Record<string, number>;

const HOOK = { type: 'webhook', url: 'http://127.0.0.1:9' };
const MINUTE = 60_000;

beforeAll(async () => {
  sql = await openDatabase();
});
afterAll(() => sql.close());

beforeEach(async () => {
  await sql.exec(
    `truncate notifications, notify_cooldowns, notify_bursts, notify_escalations, alerts; delete from settings where name = 'notify_since'`,
  );
  clock = new FakeClock();
  counted = {};
  await begin();
});

/** As a node that starts, or that takes the shards over: it knows what the database says. */
async function begin(): Promise<void> {
  const count = (receiver: string, outcome: string, n = 1) => {
    counted[`${receiver} ${outcome}`] = (counted[`${receiver} ${outcome}`] ?? 0) + n;
  };
  dispatcher = new Dispatcher({ sql, clock, notifiers: () => notifiers, onQueued: () => undefined, count });
  rounds = new Rounds({
    sql,
    clock,
    notifiers: () => notifiers,
    onDue: () => undefined,
    onError: (error) => {
      throw error;
    },
  });
  await dispatcher.open();
}

function rules(...list: Record<string, unknown>[]): void {
  notifiers = notifiersOf(
    { a: HOOK, b: HOOK, pd: { type: 'pagerduty', routing_key: { env: 'K' } }, small: { ...HOOK, queue: 3 } },
    list.map((rule, i) => ({ name: `r${i}`, events: ['alert'], receivers: ['a'], cooldown_s: 0, ...rule })),
    { K: 'key' },
  );
}

const deliver = (...events: TwinEvent[]) =>
  dispatcher.deliver(events.map((e) => ({ ...e, at: clock.now(), receivedAt: clock.now() })));

/** What waits, oldest first: receiver, title, and when it goes out, minutes from the start. */
async function waiting(state = 'waiting'): Promise<[string, string, number?][]> {
  const start = new FakeClock().now();
  const { items } = await listNotifications(sql, { state, limit: 1_000 });
  return items
    .sort((a, b) => Number(a.id) - Number(b.id))
    .map((row) => [
      String(row.receiver),
      String(row.title),
      ...(row.held ? [(Date.parse(String(row.next_at)) - start) / MINUTE] : []),
    ]) as [string, string, number?][];
}

async function alertRow(alertId: string, state: string, silencedUntilMs: number | null = null): Promise<void> {
  await sql.query(
    `insert into alerts (alert_id, twin_id, kind, alert_type, severity, message, state, raised_at, silenced_until, revision)
     values ($1, 'machine:M1', 'machine', 'hot', 'high', '', $2, now(), $3, 1)
     on conflict (alert_id) do update set state = excluded.state, silenced_until = excluded.silenced_until`,
    [alertId, state, silencedUntilMs === null ? null : new Date(silencedUntilMs).toISOString()],
  );
}

describe('a rule', () => {
  it('tells its receivers of what it is about, and nobody else', async () => {
    rules(
      { severities: ['high', 'critical'], twins: ['machine:*'] },
      { events: ['health'], health: ['critical'], receivers: ['b'] },
      { kinds: ['mote'], receivers: ['b'] },
    );
    await deliver(
      alertOf('raised', 'A'),
      alertOf('raised', 'B', { severity: 'warning' }),
      alertOf('raised', 'C', { twinId: 'mote:1', severity: 'warning' }),
      event('health.changed', { from: 'ok', to: 'warning' }),
      event('health.changed', { from: 'warning', to: 'critical' }),
      event('desired.changed', { desired: {}, delta: {} }),
    );
    expect(await waiting()).toEqual([
      ['a', 'machine:M1: hot'],
      ['b', 'mote:1: hot'],
      ['b', 'machine:M1: health is critical'],
    ]);
  });

  it('tells of drift of a model once, by the model, and of its end whoever was told', async () => {
    rules(
      { events: ['data.drift'], cooldown_s: 600 },
      { events: ['data'], kinds: ['battery'], receivers: ['b'] },
      { events: ['data'], twins: ['*'], receivers: ['pd'] },
      { events: ['data'], severities: ['high'], receivers: ['small'] },
    );
    const drift = (input: string, drifting: boolean, version = '1.0.0') =>
      driftTidings({
        ...{ model: 'mote-health', version, kind: 'mote', input, psi: 0.312, drifting, at: clock.now() },
        reason: drifting ? null : 'settled',
      });
    const [first, other] = [drift('voltage', true), drift('light', true)];
    await dispatcher.tell([first]);
    // another node that has heard the same, and another input within the cooldown, which waits to see whether it stands
    await begin();
    await Promise.all([dispatcher.tell([first]), dispatcher.tell([first])]);
    await dispatcher.tell([other]);
    expect(await waiting()).toEqual([
      ['a', 'mote-health: voltage drifts'],
      ['a', 'mote-health: light drifts', 10],
    ]);
    const { items } = await listNotifications(sql, {});
    expect(items.map((item) => [item.twin_id, item.severity])).toEqual([
      [null, 'warning'],
      [null, 'warning'],
    ]);
    clock.advance(MINUTE);
    await dispatcher.tell([drift('voltage', false, '1.1.0'), drift('light', false), drift('humidity', false)]);
    expect(await waiting()).toEqual([
      ['a', 'mote-health: voltage drifts'],
      ['a', 'mote-health: voltage drifts no more'],
    ]);
    const [row] = await sql.query<{ payload: Record<string, unknown> }>(
      `select payload from notifications where action = 'trigger' and state = 'waiting'`,
    );
    expect(row.payload).toMatchObject({
      type: 'data.drift',
      twin: null,
      kind: 'mote',
      text: expect.stringContaining('0.31'),
      event: { model_version: 'mote-health@1.0.0', input: 'voltage', data_drift_score: 0.312, drifting: true },
    });
  });

  it('tells once, however often the events come and however many rules are about them', async () => {
    rules({ cooldown_s: 600 }, { receivers: ['a', 'b'] });
    const events = [alertOf('raised', 'A'), alertOf('acknowledged', 'A')];
    await deliver(...events);
    await begin();
    await deliver(...events);
    // The same state of the same alert, said by another event.
    await deliver(alertOf('acknowledged', 'A'));
    expect(await waiting()).toEqual([
      ['a', 'machine:M1: hot'],
      ['b', 'machine:M1: hot'],
      ['a', 'machine:M1: hot acknowledged'],
      ['b', 'machine:M1: hot acknowledged'],
    ]);
  });

  it('lets those know that it is over who were told, unless they do not want to', async () => {
    rules({ severities: ['high'] }, { severities: ['warning'], receivers: ['b'], follow_ups: false });
    await deliver(alertOf('raised', 'A'), alertOf('raised', 'B', { severity: 'warning' }));
    await deliver(alertOf('cleared', 'A'), alertOf('cleared', 'B', { severity: 'warning' }), alertOf('cleared', 'C'));
    expect(await waiting()).toEqual([
      ['a', 'machine:M1: hot'],
      ['b', 'machine:M1: hot'],
      ['a', 'machine:M1: hot cleared'],
    ]);
    rules({ events: ['twin.offline'] });
    await deliver(
      event('twin.online', {}),
      event('twin.offline', {}),
      event('twin.online', {}),
      event('twin.online', {}),
    );
    expect((await waiting()).slice(3)).toEqual([
      ['a', 'machine:M1 is offline'],
      ['a', 'machine:M1 is online again'],
    ]);
  });

  it('is not about what lies before its time', async () => {
    rules({});
    const old = alertOf('raised', 'A');
    await dispatcher.deliver([{ ...old, receivedAt: clock.now() - 1 }]);
    clock.advance(2 * 86_400_000);
    await dispatcher.deliver([{ ...alertOf('raised', 'B'), receivedAt: clock.now() - 86_400_001 }]);
    expect(await waiting()).toEqual([]);
    expect(counted).toEqual({ 'a old': 2 });
    // What came while the node was down for an hour is told.
    await dispatcher.deliver([{ ...alertOf('raised', 'C'), receivedAt: clock.now() - 3_600_000 }]);
    expect(await waiting()).toHaveLength(1);
  });

  it('asks the database nothing about events that it is not about', async () => {
    rules({ severities: ['critical'] });
    await deliver(alertOf('raised', 'A'));
    const asked: string[] = [];
    const counting = {
      query: (text: string, params?: readonly unknown[]) => {
        asked.push(text);
        return sql.query(text, params);
      },
    } as unknown as Sql;
    const count = () => undefined;
    const own = new Dispatcher({ sql: counting, clock, notifiers: () => notifiers, onQueued: () => undefined, count });
    await own.open();
    asked.length = 0;
    await own.deliver([{ ...alertOf('raised', 'B'), receivedAt: clock.now() }]);
    expect(asked).toEqual([]);
    await own.deliver([{ ...alertOf('raised', 'B', { severity: 'critical' }), receivedAt: clock.now() }]);
    expect(asked.length).toBeGreaterThan(0);
  });
});

describe('a cooldown', () => {
  it('holds what stands until it is over, drops what does not, and lets the worse pass', async () => {
    rules({ cooldown_s: 600, receivers: ['a'] });
    await deliver(alertOf('raised', 'A'), alertOf('cleared', 'A'));
    clock.advance(MINUTE);
    await begin();
    await deliver(alertOf('raised', 'B'), alertOf('cleared', 'B'), alertOf('raised', 'C'));
    clock.advance(MINUTE);
    await deliver(alertOf('raised', 'D'), alertOf('raised', 'E', { severity: 'critical' }));
    await deliver(alertOf('cleared', 'D'), alertOf('raised', 'F', { twinId: 'machine:M2' }));
    expect(await waiting()).toEqual([
      ['a', 'machine:M1: hot'],
      ['a', 'machine:M1: hot cleared'],
      ['a', 'machine:M1: hot', 10],
      ['a', 'machine:M1: hot'],
      ['a', 'machine:M2: hot'],
    ]);
    expect(await waiting('dropped')).toHaveLength(1);
  });

  it('passes over what only happened', async () => {
    rules({ cooldown_s: 600, events: ['anomaly'] });
    const body = { field: 'vibration', detector: 'zscore', severity: 'low', reason: 'far off' };
    await deliver(event('anomaly.detected', body), event('anomaly.detected', body));
    expect(await waiting()).toEqual([['a', 'machine:M1: unusual vibration']]);
    expect(counted['a cooldown']).toBe(1);
    clock.advance(10 * MINUTE);
    await deliver(event('anomaly.detected', body));
    expect(await waiting()).toHaveLength(2);
  });
});

describe('quiet hours', () => {
  // The fake clock starts at midnight UTC.
  const quiet = { time_zone: 'UTC', from: '22:00', to: '06:00' };

  it('hold what is not urgent until they end, and drop what is over by then', async () => {
    rules({ quiet });
    await deliver(alertOf('raised', 'A'), alertOf('raised', 'B'), alertOf('raised', 'C', { severity: 'critical' }));
    clock.advance(60 * MINUTE);
    await deliver(alertOf('cleared', 'A'));
    expect(await waiting()).toEqual([
      ['a', 'machine:M1: hot', 360],
      ['a', 'machine:M1: hot'],
    ]);
    clock.advance(360 * MINUTE);
    await deliver(alertOf('raised', 'D'));
    expect((await waiting())[2]).toEqual(['a', 'machine:M1: hot']);
  });

  it('do not keep PagerDuty from closing an incident', async () => {
    rules({ quiet, receivers: ['a', 'pd'] });
    clock.advance(21 * 60 * MINUTE);
    await deliver(alertOf('raised', 'A'));
    clock.advance(120 * MINUTE);
    await deliver(alertOf('cleared', 'A'));
    expect((await waiting()).slice(2)).toEqual([
      ['a', 'machine:M1: hot cleared', 30 * 60],
      ['pd', 'machine:M1: hot cleared'],
    ]);
  });

  it('may be final', async () => {
    rules({ quiet: { ...quiet, hold: false } });
    await deliver(alertOf('raised', 'A'));
    expect([await waiting(), counted['a quiet']]).toEqual([[], 1]);
  });
});

describe('a storm', () => {
  it('is told one by one up to a number, and the rest in one summary', async () => {
    rules({ group: { above: 3, within_s: 60 }, receivers: ['a', 'b'] });
    const storm = Array.from({ length: 500 }, (_, i) => alertOf('raised', `S${i}`, { twinId: `machine:S${i}` }));
    await deliver(...storm.slice(0, 2));
    await begin();
    await deliver(...storm.slice(2, 300));
    await deliver(...storm.slice(300));
    await rounds.make();
    expect(await waiting()).toHaveLength(6);
    clock.advance(MINUTE);
    await rounds.make();
    await rounds.make();
    expect((await waiting()).slice(6)).toEqual([
      ['a', '497 more of r0 within 60 s'],
      ['b', '497 more of r0 within 60 s'],
    ]);
    const [{ text }] = await sql.query<{ text: string }>(
      `select payload ->> 'text' as text from notifications where rule = 'r0' and payload ->> 'type' = 'summary' limit 1`,
    );
    expect(text.split('\n')).toEqual([
      ...Array.from({ length: 10 }, (_, i) => `machine:S${i + 3}: hot`),
      'and 487 more',
    ]);
    await deliver(alertOf('raised', 'T'));
    expect(await waiting()).toHaveLength(10);
  });

  it('does not outgrow the queue of a receiver', async () => {
    rules({ group: false, receivers: ['small', 'b'] });
    await deliver(...Array.from({ length: 10 }, (_, i) => alertOf('raised', `S${i}`)));
    const rows = await waiting();
    expect(rows.filter(([receiver]) => receiver === 'small')).toHaveLength(3);
    expect(rows.filter(([receiver]) => receiver === 'b')).toHaveLength(10);
    expect(counted['small full']).toBe(7);
  });
});

describe('an escalation', () => {
  const escalate = [
    { after_s: 300, receivers: ['b'] },
    { after_s: 600, receivers: ['a', 'pd'] },
  ];

  it('goes on until somebody acknowledges, over restarts', async () => {
    rules({ escalate });
    await alertRow('A', 'raised');
    await deliver(alertOf('raised', 'A'));
    clock.advance(4 * MINUTE);
    await rounds.make();
    expect(await waiting()).toHaveLength(1);
    await begin();
    clock.advance(MINUTE);
    await rounds.make();
    await rounds.make();
    expect((await waiting()).slice(1)).toEqual([['b', 'machine:M1: hot (nobody has acknowledged it)']]);
    clock.advance(10 * MINUTE);
    await begin();
    await rounds.make();
    expect((await waiting()).slice(2).map(([receiver]) => receiver)).toEqual(['a', 'pd']);
    clock.advance(100 * MINUTE);
    await rounds.make();
    expect(await waiting()).toHaveLength(4);
    expect(await sql.query('select from notify_escalations')).toHaveLength(0);
  });

  it.each(['acknowledged', 'cleared', 'resolved'] as const)('ends when the alert is %s', async (state) => {
    rules({ escalate, follow_ups: false });
    await alertRow('A', 'raised');
    await deliver(alertOf('raised', 'A'));
    // Once by the event, once by the table alone, whose event this node has not seen yet.
    if (state === 'acknowledged') await alertRow('A', state);
    else await deliver(alertOf(state, 'A'));
    clock.advance(100 * MINUTE);
    await rounds.make();
    expect(await waiting()).toHaveLength(1);
    expect(await sql.query('select from notify_escalations')).toHaveLength(0);
  });

  it('waits while the alert is silenced', async () => {
    rules({ escalate });
    await deliver(alertOf('raised', 'A'));
    await alertRow('A', 'raised', clock.now() + 30 * MINUTE);
    clock.advance(20 * MINUTE);
    await rounds.make();
    expect(await waiting()).toHaveLength(1);
    clock.advance(10 * MINUTE);
    await rounds.make();
    expect(await waiting()).toHaveLength(2);
  });

  it('is taken by one of two nodes', async () => {
    rules({ escalate });
    await alertRow('A', 'raised');
    await deliver(alertOf('raised', 'A'));
    clock.advance(5 * MINUTE);
    const first = rounds;
    await begin();
    await Promise.all([first.make(), rounds.make()]);
    expect(await waiting()).toHaveLength(2);
  });
});
