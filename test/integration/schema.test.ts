import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import battery from '../../actors/kinds/battery.ts';
import device from '../../actors/kinds/device.ts';
import machine from '../../actors/kinds/machine.ts';
import mote from '../../actors/kinds/mote.ts';
import { defineTwin, type Kind } from '../../actors/protocol/kind.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { KINDS, key, meter, reading, SHARDS, summary, T0, Writer } from '../conformance/store-sample.ts';

/** Migrations, tables of kinds, and the views under their old names. */
describe('schema', () => {
  let sql: Pglite;

  beforeAll(async () => {
    sql = await Pglite.open();
  });

  beforeEach(async () => {
    await sql.exec('drop schema public cascade; create schema public;');
  });

  afterAll(async () => {
    await sql.close();
  });

  async function open(kinds: readonly Kind[]): Promise<PostgresStore> {
    const store = new PostgresStore(sql);
    await store.open(kinds, SHARDS);
    return store;
  }

  const columnsOf = async (table: string) =>
    (
      await sql.query<{ name: string }>(
        'select column_name as name from information_schema.columns where table_name = $1 order by ordinal_position',
        [table],
      )
    ).map((row) => row.name);

  it('refuses a database that a newer version has written', async () => {
    await open(KINDS);
    await sql.query(`update settings set value = '{"version": 99}' where name = 'schema'`);
    await expect(open(KINDS)).rejects.toMatchObject({
      code: 'newer_schema',
      message: expect.stringContaining('99'),
    });
  });

  it('adds a column for a metric that a kind has got since, and keeps what is there', async () => {
    const store = await open(KINDS);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    await writer.commit([0], { readings: [reading(key(0), 1)], summaries: [summary(key(0), 1)] });
    const grown = defineTwin({
      ...meter,
      version: 2,
      metrics: { added: { unit: 'K', min: 0, max: 1000 }, ...meter.metrics },
    });
    const again = await open([grown]);
    expect(await columnsOf('meter_readings')).toContain('added');
    await writer.commit([0], { readings: [reading(key(0), 2, { values: { flow: 2 } })] });
    const twin = { twin: key(0), twinId: summary(key(0), 1).twinId };
    expect((await again.journal(twin, 0, 10)).map((of) => of.type === 'reading' && of.reading.values)).toEqual([
      { flow: 1, level: 1 },
      { flow: 2 },
    ]);
    // The view of the kind has the new column too, in its place.
    expect(await columnsOf('latest_meter_status')).toEqual(expect.arrayContaining(['added', 'flow', 'level']));
  });

  it('leaves a view alone that people have built upon', async () => {
    await open([meter]);
    await sql.exec('create view theirs as select flow from latest_meter_status;');
    await open([defineTwin({ ...meter, metrics: { added: { unit: 'K', min: 0, max: 1 }, ...meter.metrics } })]);
    expect(await columnsOf('latest_meter_status')).not.toContain('added');
    expect(await sql.query('select * from theirs')).toEqual([]);
  });

  it('does not touch tables of kinds that have not changed', async () => {
    await open(KINDS);
    const oids = () =>
      sql.query(`select relname, oid::int8 as oid, xmin::text as touched from pg_class where relkind in ('r', 'v')
      and relnamespace = 'public'::regnamespace and (relname like '%readings%' or relname like 'latest%') order by 1`);
    const before = await oids();
    expect(before.length).toBeGreaterThan(4);
    await open(KINDS);
    expect(await oids()).toEqual(before);
  });

  it('serves the old names', async () => {
    const store = await open([battery, machine, mote, device]);
    const views = await sql.query<{ name: string }>(
      `select viewname as name from pg_views where schemaname = 'public' order by 1`,
    );
    expect(views.map((row) => row.name)).toEqual([
      'ev_telemetry',
      'ev_telemetry_hourly',
      'iot_data',
      'latest_battery_status',
      'latest_device_status',
      'latest_machine_status',
      'latest_mote_status',
      'predictions',
      'sensor_reading_daily_agg',
      'sensor_reading_hourly_agg',
    ]);
    const writer = new Writer(store, 'a');
    await writer.claim(0);
    const [metric] = battery.metricNames;
    const more = { kind: 'battery', twinId: 'battery:EV-1' };
    await writer.commit([0], {
      readings: [
        reading(key(0), 1, { kind: 'battery', at: T0, values: { [metric]: 42 } }),
        reading(key(0, 2), 1, { kind: 'device', at: T0, values: { temperature: 21.5 }, unit: 'C' }),
      ],
      summaries: [
        summary(key(0), 1, { ...more, reported: { [metric]: 42 } }),
        summary(key(0, 2), 1, { kind: 'device', twinId: 'device:dev-7' }),
      ],
    });
    await sql.query(
      `insert into battery_readings_hourly (twin, bucket, metric, avg, min, max, std, median, record_count, null_count)
       values ($1, $2, $3, 42, 41, 43, 1, 42, 7, 0)`,
      [key(0), new Date(T0), metric],
    );
    expect(await sql.query('select * from ev_telemetry')).toMatchObject([
      { battery_id: 'EV-1', timestamp: new Date(T0), [metric]: 42 },
    ]);
    expect(await sql.query('select * from latest_battery_status')).toMatchObject([
      { battery_id: 'EV-1', [metric]: 42, health: 'ok', online: true, revision: 1 },
    ]);
    expect(await sql.query('select * from ev_telemetry_hourly')).toMatchObject([
      { battery_id: 'EV-1', hour: new Date(T0), [`${metric}_avg`]: 42, [`${metric}_max`]: 43, record_count: 7 },
    ]);
    expect(await sql.query('select * from iot_data')).toMatchObject([
      { device_id: 'dev-7', sensor_type: 'temperature', value: 21.5, unit: 'C', timestamp: new Date(T0) },
    ]);
    expect(await sql.query('select mote_id from sensor_reading_daily_agg')).toEqual([]);
  });
});
