import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { Pg } from '../../actors/store/pg.ts';
import { aggregates } from '../../actors/store/queries/aggregates.ts';
import { listAlerts } from '../../actors/store/queries/alert-list.ts';
import { listAnomalies, reviewAnomaly } from '../../actors/store/queries/anomaly-list.ts';
import { downsample } from '../../actors/store/queries/downsample.ts';
import { listEvents } from '../../actors/store/queries/event-list.ts';
import { exportCsv } from '../../actors/store/queries/export.ts';
import { fleet } from '../../actors/store/queries/fleet.ts';
import { rawHistory } from '../../actors/store/queries/history.ts';
import { newestReadings } from '../../actors/store/queries/newest.ts';
import type { Page } from '../../actors/store/queries/page.ts';
import { listPredictions } from '../../actors/store/queries/prediction-list.ts';
import { closeBuckets, openRollups } from '../../actors/store/queries/rollup.ts';
import { DAY_MS, HOUR_MS, iso, MINUTE_MS } from '../../actors/store/queries/span.ts';
import { listRules, loadTuning, patchRule } from '../../actors/store/queries/tuning.ts';
import { listTwins } from '../../actors/store/queries/twin-list.ts';
import { retain, retainJournal, rollUp } from '../../actors/store/queries/upkeep.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { openEmptyDatabase } from '../servers/embedded.ts';
import { findPostgres } from '../servers/postgres.ts';
import {
  boiler,
  clockAt,
  gadget,
  KINDS,
  keyOf,
  openDatabase,
  putReadings,
  putTwins,
  T0,
  type TwinSeed,
} from '../unit/queries/database.ts';

/** Every query on the embedded database and on a real server: the same rows in, the same answers out. */
const server = await findPostgres();
const END = T0 + 3 * DAY_MS;
const clock = clockAt(END + HOUR_MS);

async function seed(sql: Sql): Promise<void> {
  const random = seededRandom(5);
  const kinds = ['boiler', 'gadget'];
  await putTwins(
    sql,
    Array.from(
      { length: 40 },
      (_, i): TwinSeed => ({
        twin: i + 1,
        kind: kinds[i % 2],
        id: `t${100 + i}`,
        at: END - i * MINUTE_MS,
        health: ['ok', 'warning', 'critical'][i % 3],
        online: i % 4 > 0,
        alerts: i % 2,
        revision: 1_000,
        reported: { heat: i / 3 },
        attributes: i % 3 ? { site: `s${i % 5}`, rank: i } : {},
      }),
    ),
  );
  for (const twin of [1, 3, 2, 4]) {
    const kind = twin % 2 ? boiler : gadget;
    const readings = Array.from({ length: 400 }, (_, i) => ({
      twin,
      at: T0 + i * 11 * MINUTE_MS,
      revision: i % 50 === 7 ? null : i + 1,
      values: (twin % 2 ? { heat: random(), ...(i % 3 ? { flow: i } : {}) } : { [`m${i % 2}`]: random() }) as Record<
        string,
        number
      >,
    }));
    await putReadings(sql, kind, readings);
    await sql.query(
      `insert into twin_snapshots (twin, revision, shard, twin_id, shape, kind_version, state, floor_at, received_at) values ($1, 900, 0, 'x', 1, 1, '\\x00', $2, $2)`,
      [twin, iso(END)],
    );
  }
  await sql.query(
    `insert into entries select 1, 3 * r, 0, 'prediction', to_timestamp($1::float8 / 1000 + 60 * r), json_build_object('name', case r % 3 when 0 then 'rul' else 'fault' end,
       'basedOn', 3 * r - 2, 'prediction', json_build_object('model', 'boiler-life@1.0.0', 'at', $1::float8 + 60000 * r, 'value', r / 4.0)) from generate_series(1, 200) r`,
    [T0],
  );
  for (let i = 0; i < 30; i++) {
    const at = iso(T0 + (i >> 1) * HOUR_MS);
    await sql.query(
      `insert into events (shard, seq, event_id, twin, twin_id, kind, revision, type, at, received_at, body) values (0, $1, $2, 1, 'boiler:t100', 'boiler', $1, $3, $4, $4, '{"a":[1,null]}')`,
      [i, `e${i}`, i % 2 ? 'alert.raised' : 'twin.offline', at],
    );
    await sql.query(
      `insert into alerts (alert_id, twin_id, kind, alert_type, severity, message, state, raised_at, revision) values ($1, 'boiler:t100', 'boiler', 'hot', 'high', 'm', 'raised', $2, 1)`,
      [`a${i}`, at],
    );
    await sql.query(
      `insert into anomaly_events (anomaly_id, twin_id, kind, at, field, value, expected_lo, expected_hi, score, threshold, detector, severity, reason, revision)
       values ($1, 'boiler:t100', 'boiler', $2, 'heat', 0.1, 1, 2, 3, 3, 'zscore', 'low', 'r', 1)`,
      [`n${i}`, at],
    );
  }
}

async function every<Item>(list: (cursor: string | undefined) => Promise<Page<Item>>): Promise<Item[]> {
  const out: Item[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await list(cursor);
    out.push(...page.items);
    if (page.nextCursor === null) return out;
    cursor = page.nextCursor;
  }
}

const span = {};
const day = { span: { from: T0, to: T0 + 3 * DAY_MS } };

/** In this order: the later ones stand on what the earlier ones changed. */
const QUESTIONS: Record<string, (sql: Sql) => Promise<unknown>> = {
  'twins by sort': (sql) => every((cursor) => listTwins(sql, { sort: '-reported.heat,+alerts', limit: 7, cursor })),
  'twins by attribute': (sql) => every((cursor) => listTwins(sql, { sort: 'attributes.rank,-at', limit: 7, cursor })),
  'twins by filter': (sql) =>
    listTwins(sql, {
      filter: `or(and(like(attributes.site,"s?"),ge(attributes.rank,3),in(health,ok,warning)),not(exists(at)),lt(at,${iso(END - 30 * MINUTE_MS)}),gt(id,"t130"),in(alerts,1,2),eq(attributes.site,null))`,
    }),
  fleet: (sql) => fleet(sql, KINDS, END, 10),
  history: (sql) =>
    every((cursor) => rawHistory(sql, boiler, keyOf(1, 'x'), { span, limit: 33, cursor, metric: 'flow' })),
  'open history': (sql) =>
    every((cursor) => rawHistory(sql, gadget, keyOf(2, 'x'), { span, limit: 33, cursor, order: 'desc' })),
  newest: (sql) =>
    every((cursor) =>
      newestReadings(sql, boiler, { span, limit: 40, cursor }, (row) => [row.id, row.at, row.heat, row.o_set]),
    ),
  'buckets from raw': (sql) => downsample(sql, clock, boiler, keyOf(1, 'x'), { span, stepMs: HOUR_MS }),
  rollups: async (sql) => {
    for (const kind of KINDS)
      expect(await rollUp(sql, clock, kind, { latenessMs: 600_000 })).toMatchObject({ complete: true });
    return [
      await sql.query('select * from boiler_readings_hourly order by twin, metric, bucket'),
      await sql.query('select * from gadget_readings_daily order by twin, metric, bucket'),
      await sql.query('select * from rollup_marks order by twin, rollup'),
      await sql.query('select * from rollup_dirty'),
    ];
  },
  'buckets from rollups': (sql) => downsample(sql, clock, boiler, keyOf(1, 'x'), { span, stepMs: DAY_MS }),
  hours: (sql) => every((cursor) => aggregates(sql, clock, boiler, 'hourly', { ...day, limit: 3, cursor })),
  days: (sql) => every((cursor) => aggregates(sql, clock, gadget, 'daily', { ...day, limit: 3, cursor })),
  export: async (sql) => {
    let text = '';
    for await (const chunk of exportCsv(sql, gadget, { span, idColumn: 'id', pageRows: 100 })) text += chunk;
    return text;
  },
  events: (sql) => every((cursor) => listEvents(sql, { span, type: 'alert,twin.offline', limit: 7, cursor })),
  alerts: (sql) => every((cursor) => listAlerts(sql, { span, state: 'standing', severity: 'high', limit: 7, cursor })),
  predictions: (sql) =>
    every((cursor) => {
      const some = { from: T0 + 20 * MINUTE_MS, to: T0 + 150 * MINUTE_MS };
      return listPredictions(sql, keyOf(1, 'x'), { name: 'rul', span: some, order: 'desc', limit: 7, cursor });
    }),
  review: (sql) => reviewAnomaly(sql, 'n4', { confirmed: false, rootCause: 'x', by: 'me', nowMs: END }),
  anomalies: (sql) => every((cursor) => listAnomalies(sql, { span, review: 'open,rejected', limit: 7, cursor })),
  rules: async (sql) => {
    await patchRule(sql, boiler, 'hot', { above: 80, severity: 'info' }, 'me');
    await patchRule(sql, boiler, 'hot', { severity: null }, 'me');
    const rules = await listRules(sql, KINDS);
    return [
      [...(await loadTuning(sql, KINDS, 1))],
      rules.map((rule) => ({ ...rule, updatedAt: rule.updatedAt !== null })),
    ];
  },
  retention: async (sql) => {
    const keep = { keepMs: 1.5 * DAY_MS };
    const late = clockAt(END + HOUR_MS);
    const rounds = [
      await retain(sql, late, boiler, keep),
      await retain(sql, late, gadget, keep),
      await retainJournal(sql, late, keep),
    ];
    return [
      rounds.map(({ complete, rows }) => ({ complete, rows })),
      await sql.query('select twin, count(*)::int as n, min(at) as first from boiler_readings group by 1 order by 1'),
      await sql.query('select count(*)::int as n, min(at) as first from events'),
    ];
  },
};

describe.skipIf(server === null)('queries on a real server', () => {
  let embedded: Sql;
  let real: Sql;
  beforeAll(async () => {
    const url = await server!.database();
    [embedded, real] = await Promise.all([openDatabase(openEmptyDatabase), openDatabase(() => Pg.open({ url }))]);
    await seed(embedded);
    await seed(real);
  });
  afterAll(async () => {
    await embedded?.close();
    await real?.close();
    await server!.stop();
  });

  it.each(Object.keys(QUESTIONS))('%s: the answer of the embedded one', async (name) => {
    const [one, two] = [await QUESTIONS[name](embedded), await QUESTIONS[name](real)];
    expect(JSON.stringify(two).length).toBeGreaterThan(20);
    expect(rounded(two)).toEqual(rounded(one));
  });

  it('predictions of a twin are read through its own key alone', async () => {
    await real.query(
      `insert into entries select t, r, 0, 'prediction', to_timestamp(r), json_build_object('name', 'rul', 'basedOn', r - 1,
         'prediction', json_build_object('model', 'm@1.0.0', 'at', r * 1000, 'value', r)) from generate_series(101, 120) t, generate_series(1, 2000) r`,
    );
    await real.exec('analyze entries');
    const plans: string[] = [];
    const explained: Sql = {
      exec: (text) => real.exec(text),
      close: () => real.close(),
      query: async <Row>(...[text, params]: Parameters<Sql['query']>) => {
        const plan = await real.query<Record<string, string>>(`explain ${text}`, params);
        plans.push(plan.map((row) => row['QUERY PLAN']).join('\n'));
        return await real.query<Row>(text, params);
      },
    };
    await putTwins(real, [{ twin: 107, id: 'p' }]);
    const query = { name: 'rul', span: { from: 1_500_000, to: 1_600_000 }, order: 'desc', limit: 10 } as const;
    expect((await listPredictions(explained, keyOf(107, 'p'), query)).items[0]).toMatchObject({ value: 1_599 });
    expect(plans.length).toBeGreaterThan(4);
    for (const plan of plans) {
      expect(plan).toContain('entries_pkey');
      expect(plan).not.toMatch(/Seq Scan on entries/);
    }
  });

  it('a node that is second to a step waits, and then does nothing', async () => {
    const stepNo = await openRollups(real, boiler, 600_000);
    const steps = await Promise.all([1, 2, 3, 4].map(() => closeBuckets(real, boiler, 'hourly', stepNo, 0, 5)));
    expect(steps.filter((step) => step.taken).length).toBe(1);
  });
});

/** The last digits of sums depend on the order of rows. */
function rounded(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (_, v: unknown) => (typeof v === 'number' ? Number(v.toPrecision(10)) : v));
}
