import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import battery from '../../actors/kinds/battery.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { defineTwin } from '../../actors/protocol/kind.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { watchPredictions } from '../../services/metrics/predictions.ts';
import { emptyDatabase } from '../servers/embedded.ts';

/** The gauges that the outside expects of batteries, read from the journal of an embedded database. */
const use = (model: string) => ({ model, inputs: ['soc'], everyMs: 1_000 });
const kind = defineTwin({ ...battery, models: { rul: use('battery-rul'), failure: use('battery-failure') } });
const dataDir = mkdtempSync(join(tmpdir(), 'twinmesh-predictions-'));
let sql: Pglite;
let revision = 0;

beforeAll(async () => {
  await emptyDatabase(dataDir);
  sql = await Pglite.open({ dataDir });
  await new PostgresStore(sql).open([kind], 4);
  for (const [twin, id] of [
    [1, 'EV-001'],
    [2, 'EV-002'],
  ])
    await sql.query(
      `insert into twins (twin, shard, twin_id, kind, id, revision, received_at, health, online, retired, alerts, reported, attributes)
       values ($1, 0, 'battery:' || $2, 'battery', $2, 1, now(), 'ok', true, false, 0, '{}', '{}')`,
      [twin, id],
    );
});
afterAll(async () => {
  await sql.close();
  rmSync(dataDir, { recursive: true, force: true });
});

async function predicted(twin: number, name: string, model: string, value: number): Promise<void> {
  await sql.query(
    `insert into entries (twin, revision, shard, type, received_at, body) values ($1, $2, 0, 'prediction', now(), $3::json)`,
    [twin, ++revision, JSON.stringify({ name, basedOn: 1, prediction: { model, at: 1, value } })],
  );
}

function watch(maxTwins: number): Registry {
  const registry = new Registry();
  const onFailure = () => {
    throw new Error('the look failed');
  };
  watchPredictions({ registry, clock: systemClock, sql, kinds: [kind], maxTwins, onFailure, keepMs: 0 });
  return registry;
}

describe('metrics of predictions', () => {
  it('are the newest of each battery, and count what has come since the start', async () => {
    const registry = watch(10);
    await predicted(1, 'rul', 'battery-rul@1.0.0', 400);
    const linesOf = async () => (await registry.metrics()).split('\n').filter((line) => line.startsWith('battery_'));
    expect((await linesOf()).sort()).toEqual([
      'battery_predictions_total{battery_id="EV-001"} 0',
      'battery_rul_cycles{battery_id="EV-001"} 400',
    ]);
    await predicted(1, 'rul', 'battery-rul@1.1.0', 390);
    await predicted(1, 'failure', 'battery-failure@1.0.0', 0.25);
    await predicted(2, 'failure', 'battery-failure@1.0.0', 0.5);
    for (let i = 0; i < 2; i++)
      expect((await linesOf()).sort()).toEqual([
        'battery_failure_probability{battery_id="EV-001"} 0.25',
        'battery_failure_probability{battery_id="EV-002"} 0.5',
        'battery_predictions_total{battery_id="EV-001"} 2',
        'battery_predictions_total{battery_id="EV-002"} 1',
        'battery_rul_cycles{battery_id="EV-001"} 390',
      ]);
  });

  it('are left out where there are more batteries than may be shown one by one', async () => {
    await predicted(1, 'rul', 'battery-rul@1.0.0', 1);
    expect(await watch(1).metrics()).not.toMatch(/^battery_\w+\{/m);
  });
});
