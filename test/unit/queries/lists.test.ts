import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SEVERITIES } from '../../../actors/protocol/entry.ts';
import { listAlerts } from '../../../actors/store/queries/alert-list.ts';
import { listAnomalies, rangeText, reviewAnomaly } from '../../../actors/store/queries/anomaly-list.ts';
import { listEvents } from '../../../actors/store/queries/event-list.ts';
import { exportCsv } from '../../../actors/store/queries/export.ts';
import { fleet } from '../../../actors/store/queries/fleet.ts';
import { listMaintenance } from '../../../actors/store/queries/maintenance-list.ts';
import type { Page } from '../../../actors/store/queries/page.ts';
import { DAY_MS, HOUR_MS, iso } from '../../../actors/store/queries/span.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import {
  boiler,
  gadget,
  KINDS,
  openDatabase,
  putReadings,
  putTwins,
  type ReadingSeed,
  T0,
  type TwinSeed,
} from './database.ts';

let sql: Sql;
beforeAll(async () => {
  sql = await openDatabase();
});
afterAll(() => sql.close());

async function every<Item>(list: (cursor: string | undefined) => Promise<Page<Item>>): Promise<Item[]> {
  const out: Item[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await list(cursor);
    out.push(...page.items);
    if (page.nextCursor === null) return out;
    cursor = page.nextCursor;
  }
}

describe('the fleet', () => {
  const now = T0 + HOUR_MS;
  const seeds: TwinSeed[] = Array.from({ length: 120 }, (_, i) => ({
    twin: i + 1,
    kind: i % 3 ? 'boiler' : 'gadget',
    id: `f${i}`,
    health: ['ok', 'ok', 'warning', 'critical', 'unknown'][i % 5],
    online: i % 7 !== 0,
    retired: i % 11 === 0,
    alerts: i % 4,
    receivedAt: now - (i % 2) * 120_000,
  }));
  const live = seeds.filter((seed) => !seed.retired);

  it('is counted by kind, health, silence and age', async () => {
    await putTwins(sql, seeds);
    const found = await fleet(sql, KINDS, now, 10);
    const count = (of: TwinSeed[]) => ({
      total: of.length,
      health: Object.fromEntries(
        ['ok', 'warning', 'critical', 'unknown'].map((h) => [h, of.filter((s) => s.health === h).length]),
      ),
      silent: of.filter((s) => !s.online).length,
      stale: of.filter((s) => !s.online || now - s.receivedAt! > 60_000).length,
      alerts: of.reduce((sum, s) => sum + s.alerts!, 0),
    });
    expect(found).toMatchObject({ ...count(live), retired: seeds.length - live.length });
    for (const kind of ['boiler', 'gadget'])
      expect(found.kinds[kind]).toEqual(count(live.filter((s) => s.kind === kind)));
  });

  it('shows the worst first', async () => {
    const { worst } = await fleet(sql, KINDS, now, 500);
    const rank = (s: { health?: string; alerts?: number; online?: boolean }) =>
      ['critical', 'warning', 'unknown', 'ok'].indexOf(s.health!) * 10_000 - s.alerts! * 10 + (s.online ? 1 : 0);
    const needy = live.filter((s) => s.health !== 'ok' || s.alerts! > 0 || !s.online);
    expect(worst.map((item) => item.twinId).sort()).toEqual(needy.map((s) => `${s.kind}:${s.id}`).sort());
    expect(worst.map(rank)).toEqual([...worst.map(rank)].sort((a, b) => a - b));
    expect((await fleet(sql, KINDS, now, 3)).worst).toEqual(worst.slice(0, 3));
    await sql.query('delete from twins');
  });

  it('that is empty has zeroes', async () => {
    expect(await fleet(sql, KINDS, now, 3)).toMatchObject({
      total: 0,
      worst: [],
      kinds: { boiler: { total: 0 }, gadget: { silent: 0 } },
    });
  });
});

describe('alerts', () => {
  const states = ['raised', 'acknowledged', 'cleared', 'resolved'];
  beforeAll(async () => {
    for (let i = 0; i < 48; i++) {
      await sql.query(
        `insert into alerts (alert_id, twin_id, kind, alert_type, severity, message, state, raised_at, revision) values ($1, $2, $3, 'hot', $4, 'm', $5, $6, 1)`,
        [
          `a${i}`,
          `boiler:${i % 5}`,
          i % 2 ? 'boiler' : 'gadget',
          SEVERITIES[i % 4],
          states[(i >> 2) % 4],
          iso(T0 + Math.floor(i / 3) * 1_000),
        ],
      );
    }
  });
  const ids = (items: { alert_id: string }[]) =>
    items.map((item) => Number(item.alert_id.slice(1))).sort((a, b) => a - b);
  const where = (test: (i: number) => boolean) => Array.from({ length: 48 }, (_, i) => i).filter(test);

  it('are listed newest first, each once, by what is asked for', async () => {
    const all = await every((cursor) => listAlerts(sql, { span: {}, limit: 5, cursor }));
    expect(ids(all)).toEqual(where(() => true));
    const times = all.map((item) => item.timestamp);
    expect(times).toEqual([...times].sort().reverse());
    const asked = async (query: object) => ids((await listAlerts(sql, { span: {}, ...query })).items);
    expect(await asked({ state: 'standing' })).toEqual(where((i) => (i >> 2) % 4 < 2));
    expect(await asked({ state: 'cleared,resolved', severity: 'critical' })).toEqual(
      where((i) => (i >> 2) % 4 >= 2 && i % 4 === 3),
    );
    expect(await asked({ kind: 'boiler', twinId: 'boiler:3' })).toEqual(where((i) => i % 2 === 1 && i % 5 === 3));
    expect(await asked({ span: { from: T0 + 2_000, to: T0 + 4_000 } })).toEqual(
      where((i) => [2, 3].includes(Math.floor(i / 3))),
    );
  });

  it('have the shape of the messages that go out', async () => {
    await sql.query(
      `update alerts set acknowledged = true, acknowledged_by = 'me', acknowledged_at = $1, note = 'n' where alert_id = 'a4'`,
      [iso(T0)],
    );
    const { items } = await listAlerts(sql, { span: {}, state: 'acknowledged', severity: 'info' });
    expect(items.find((item) => item.alert_id === 'a4')).toEqual({
      alert_id: 'a4',
      timestamp: iso(T0 + 1_000),
      twin: 'boiler:4',
      kind: 'gadget',
      alert_type: 'hot',
      severity: 'info',
      message: 'm',
      state: 'acknowledged',
      acknowledged: true,
      acknowledged_by: 'me',
      acknowledged_at: iso(T0),
      resolved_at: null,
      silenced_until: null,
      note: 'n',
      revision: 1,
    });
  });

  it('refuse words that are none', async () => {
    for (const query of [{ state: 'new' }, { severity: 'bad' }, { twinId: 'x' }, { limit: 0 }, { cursor: 'zzz' }]) {
      await expect(listAlerts(sql, { span: {}, ...query })).rejects.toMatchObject({
        code: expect.stringMatching(/^bad_/),
      });
    }
  });
});

describe('anomalies', () => {
  beforeAll(async () => {
    for (let i = 0; i < 30; i++) {
      await sql.query(
        `insert into anomaly_events (anomaly_id, twin_id, kind, at, field, value, expected_lo, expected_hi, score, threshold, detector, severity, reason, revision)
         values ($1, $2, 'boiler', $3, 'heat', 41.5, $4, $5, 5, 3, $6, $7, 'because', 1)`,
        [
          `boiler:${i % 3}~${i}~0`,
          `boiler:${i % 3}`,
          iso(T0 + (i >> 1) * 1_000),
          i % 2 ? 18 : null,
          i % 2 ? 28 : null,
          i % 2 ? 'zscore' : 'stuck',
          ['low', 'medium', 'high'][i % 3],
        ],
      );
    }
  });

  it('are listed newest first, each once', async () => {
    const all = await every((cursor) => listAnomalies(sql, { span: {}, limit: 4, cursor }));
    expect(new Set(all.map((item) => item.anomaly_id)).size).toBe(30);
    expect(all[0]).toMatchObject({
      timestamp: iso(T0 + 14_000),
      field: 'heat',
      value: 41.5,
      is_confirmed: null,
      detector: 'zscore',
    });
    expect(all.find((item) => item.detector === 'zscore')).toMatchObject({
      expected_range: '18-28',
      expected: [18, 28],
    });
    expect(all.find((item) => item.detector === 'stuck')).toMatchObject({ expected_range: null, expected: null });
    expect(
      (await listAnomalies(sql, { span: {}, twinId: 'boiler:1', detector: 'zscore', severity: 'medium' })).items.length,
    ).toBe(5);
  });

  it('are confirmed and rejected', async () => {
    const review = { by: 'tess', nowMs: T0 + DAY_MS };
    const item = await reviewAnomaly(sql, 'boiler:0~0~0', { ...review, confirmed: true, rootCause: 'bearing' });
    expect(item).toMatchObject({
      is_confirmed: true,
      root_cause: 'bearing',
      resolution: null,
      resolved_at: iso(T0 + DAY_MS),
      resolved_by: 'tess',
    });
    await reviewAnomaly(sql, 'boiler:1~1~0', { ...review, confirmed: false });
    await reviewAnomaly(sql, 'boiler:2~2~0', { ...review, confirmed: false });
    await reviewAnomaly(sql, 'boiler:0~3~0', { ...review, confirmed: true });
    // The newest word counts, and keeps what it does not say.
    expect(
      await reviewAnomaly(sql, 'boiler:0~0~0', { ...review, confirmed: false, resolution: 'sensor swapped' }),
    ).toMatchObject({
      is_confirmed: false,
      root_cause: 'bearing',
      resolution: 'sensor swapped',
    });
    expect((await listAnomalies(sql, { span: {}, review: 'rejected' })).items.length).toBe(3);
    expect((await listAnomalies(sql, { span: {}, review: 'open,confirmed' })).items.length).toBe(27);
    await expect(reviewAnomaly(sql, 'nope', { ...review, confirmed: true })).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('of models are found by their name, listed and judged as the others', async () => {
    await sql.query(
      `insert into anomaly_events (anomaly_id, twin_id, kind, at, field, value, score, threshold, detector, model, contributions, severity, reason, revision)
       values ('boiler:m~1~0', 'boiler:m', 'boiler', $1, 'heat', null, 2, 1, 'model', 'boiler-anomaly@1.0.0', '{"heat": 0.8, "flow": 0.2}', 'low', 'odd', 1)`,
      [iso(T0 + DAY_MS)],
    );
    for (const query of [{ model: 'boiler-anomaly' }, { model: 'boiler-anomaly@1.0.0' }, { detector: 'model' }]) {
      const { items } = await listAnomalies(sql, { span: {}, ...query });
      expect(items).toMatchObject([
        { field: 'heat', value: null, model: 'boiler-anomaly@1.0.0', contributions: { heat: 0.8, flow: 0.2 } },
      ]);
    }
    expect((await listAnomalies(sql, { span: {}, model: 'boiler' })).items).toEqual([]);
    expect((await listAnomalies(sql, { span: {}, twinId: 'boiler:1' })).items[0]).toMatchObject({ model: null });
    const judged = await reviewAnomaly(sql, 'boiler:m~1~0', { confirmed: false, by: 'tess', nowMs: T0 });
    expect(judged).toMatchObject({ is_confirmed: false, model: 'boiler-anomaly@1.0.0' });
  });

  it.each([
    [18, 28, '18-28'],
    [18.2, 27.6, '18.2-27.6'],
    [2.71, 2.74, '2.71-2.74'],
    [-0.01, 12, '0-12'],
    [5, 5, '5-5'],
  ])('expect %d to %d as %s', (lo, hi, text) => expect(rangeText(lo, hi)).toBe(text));
});

describe('predicted maintenance', () => {
  const predict = (twin: number, seq: number, hours: number, action: string, priority: string, prediction = 'rul') =>
    sql.query(
      `insert into events (shard, seq, event_id, twin, twin_id, kind, revision, type, at, received_at, body)
       values (7, $2::bigint, $3::text, $1::bigint, $4::text, 'boiler', $2::bigint, 'maintenance.predicted', $5::timestamptz, $5::timestamptz, $6::jsonb)`,
      [
        twin,
        seq,
        `boiler:w${twin}~${seq}~0`,
        `boiler:w${twin}`,
        iso(T0),
        JSON.stringify({
          prediction,
          model: 'boiler-rul@1.0.0',
          hours,
          hoursInterval: [hours / 2, hours * 2],
          action,
          priority,
        }),
      ],
    );

  it('is the newest of each twin, worst first', async () => {
    await putTwins(
      sql,
      [901, 902, 903, 904, 905].map((twin) => ({ twin, id: `w${twin}`, retired: twin === 905 })),
    );
    await predict(901, 1, 5, 'stop', 'critical');
    await predict(901, 2, 500, 'inspect', 'medium');
    await predict(902, 3, 20, 'schedule_maintenance', 'high');
    await predict(902, 4, 9_000, 'none', 'low', 'seal');
    await predict(903, 5, 10, 'schedule_maintenance', 'high');
    await predict(904, 6, 2, 'stop', 'critical');
    await predict(904, 7, 8_000, 'none', 'low');
    await predict(905, 8, 1, 'stop', 'critical');
    const all = await every((cursor) => listMaintenance(sql, { limit: 1, cursor }));
    expect(all.map((item) => [item.twin, item.recommended_action])).toEqual([
      ['boiler:w903', 'schedule_maintenance'],
      ['boiler:w902', 'schedule_maintenance'],
      ['boiler:w901', 'inspect'],
    ]);
    expect(all[0]).toMatchObject({
      predicted_rul_hours: 10,
      confidence_interval: [5, 20],
      priority: 'high',
      model_version: 'boiler-rul@1.0.0',
      due_at: iso(T0 + 10 * HOUR_MS),
    });
    const none = await listMaintenance(sql, { action: 'none' });
    expect(none.items.map((item) => [item.twin, item.prediction])).toEqual([
      ['boiler:w904', 'rul'],
      ['boiler:w902', 'seal'],
    ]);
    expect((await listMaintenance(sql, { twinId: 'boiler:w901', priority: 'medium' })).items).toHaveLength(1);
    expect((await listMaintenance(sql, { kind: 'gadget' })).items).toEqual([]);
    await sql.query(`delete from events where shard = 7`);
    await sql.query(`delete from twins where twin > 900`);
  });

  it('refuses words that are none', async () => {
    for (const query of [{ action: 'pray' }, { priority: 'bad' }, { twinId: 'x' }, { limit: 0 }, { cursor: 'zzz' }])
      await expect(listMaintenance(sql, query)).rejects.toMatchObject({ code: expect.stringMatching(/^bad_/) });
  });
});

describe('events', () => {
  beforeAll(async () => {
    await putTwins(sql, [
      { twin: 1, id: 'e1' },
      { twin: 2, id: 'e2', kind: 'gadget' },
    ]);
    for (let i = 0; i < 40; i++) {
      const twin = (i % 2) + 1;
      await sql.query(
        `insert into events (shard, seq, event_id, twin, twin_id, kind, revision, type, at, received_at, body) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10::jsonb)`,
        [
          twin,
          i,
          `e${i}`,
          twin,
          twin === 1 ? 'boiler:e1' : 'gadget:e2',
          twin === 1 ? 'boiler' : 'gadget',
          i >> 2,
          i % 3 ? 'alert.raised' : 'health.changed',
          iso(T0 + (i >> 3) * 1_000),
          JSON.stringify({ i }),
        ],
      );
    }
  });
  const numbers = (items: { body: Record<string, unknown> }[]) => items.map((item) => item.body.i as number);

  it('of the fleet are filtered and paged', async () => {
    const all = await every((cursor) => listEvents(sql, { span: {}, limit: 7, cursor }));
    expect(numbers(all).sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(all[0]).toEqual({
      event_id: all[0].event_id,
      twinId: 'gadget:e2',
      kind: 'gadget',
      type: 'health.changed',
      revision: 9,
      at: iso(T0 + 4_000),
      receivedAt: iso(T0 + 4_000),
      body: { i: 39 },
    });
    expect((await listEvents(sql, { span: {}, type: 'health,alert.cleared', limit: 500 })).items.length).toBe(14);
    expect((await listEvents(sql, { span: {}, twinId: 'boiler:e1', limit: 500 })).items.length).toBe(20);
    const { items } = await listEvents(sql, {
      kind: 'gadget',
      type: 'alert.raised',
      span: { from: T0 + 2_000, to: T0 + 4_000 },
    });
    expect(numbers(items).sort((a, b) => a - b)).toEqual([17, 19, 23, 25, 29, 31]);
    await expect(listEvents(sql, { span: {}, type: "x'" })).rejects.toMatchObject({ code: 'bad_request' });
    const forged = Buffer.from(
      JSON.stringify([
        ...JSON.parse(
          Buffer.from((await listEvents(sql, { span: {}, limit: 1 })).nextCursor!, 'base64url').toString(),
        ).slice(0, 2),
        2 ** 40,
        1,
      ]),
    ).toString('base64url');
    expect((await listEvents(sql, { span: {}, cursor: forged })).items.length).toBeGreaterThan(0);
  });
});

describe('the export', () => {
  it('is every reading of every twin once, with bounded pages', async () => {
    await putTwins(
      sql,
      ['x2', 'x1'].map((id, i) => ({ twin: 20 + i, id })),
    );
    const readings = Array.from(
      { length: 100 },
      (_, i): ReadingSeed => ({
        twin: 20 + (i % 2),
        at: T0 + (i >> 2) * 1_000,
        revision: i + 1,
        values: i % 5 ? { heat: i, flow: 0.5 } : { heat: i },
      }),
    );
    await putReadings(sql, boiler, readings);
    let longest = 0;
    let text = '';
    for await (const chunk of exportCsv(sql, boiler, { span: {}, idColumn: 'boiler_id', pageRows: 7 })) {
      text += chunk;
      longest = Math.max(longest, chunk.split('\n').length - 1);
    }
    expect(longest).toBeLessThanOrEqual(7);
    const lines = text.trimEnd().split('\n');
    expect(lines[0]).toBe('boiler_id,timestamp,heat,flow');
    const wanted = readings.map(
      (r) => `${r.twin === 20 ? 'x2' : 'x1'},${iso(r.at)},${r.values.heat},${r.values.flow ?? ''}`,
    );
    expect(lines.slice(1)).toHaveLength(100);
    expect([...lines.slice(1)].sort()).toEqual(wanted.sort());
    expect(lines[1].startsWith('x1,')).toBe(true);
  });

  it('keeps to an asset, metrics and a span, and quotes what is text', async () => {
    await putTwins(sql, [{ twin: 30, id: 'g', kind: 'gadget' }]);
    await putReadings(sql, gadget, [
      { twin: 30, at: T0, revision: 1, values: { t: 1 }, unit: '=cmd("x")' },
      { twin: 30, at: T0 + 1, revision: 2, values: { u: 2 }, unit: 'C' },
      { twin: 30, at: T0 + DAY_MS, revision: 3, values: { t: 3 } },
    ]);
    let text = '';
    for await (const chunk of exportCsv(sql, gadget, {
      ids: ['g'],
      metric: 't',
      span: { to: T0 + HOUR_MS },
      idColumn: 'id',
    }))
      text += chunk;
    expect(text).toBe(`id,timestamp,metric,value,unit\ng,${iso(T0)},t,1,"'=cmd(""x"")"\n`);
  });
});
