import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { SNAPSHOT_SHAPE } from '../../actors/runtime/snapshot.ts';
import { Pg } from '../../actors/store/pg.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { MIGRATIONS } from '../../actors/store/schema.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { dataOf } from '../e2e/api.ts';
import { eventually, NodeProcess, whereabouts } from '../e2e/node-process.ts';
import { fixtureOf, toldOf, type View } from '../fixtures/upgrade/fixture.ts';
import { emptyDatabase } from '../servers/embedded.ts';
import { findPostgres } from '../servers/postgres.ts';

/** A database that began at schema version 2, before there were models, is gone on with, and its twins are asked about. */
const PATIENCE_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), 'twinmesh-upgrade-'));
const postgres = await findPostgres();
const { sql: dump, views } = fixtureOf('schema-2');
const wanted = Object.keys(views).sort();
/** What the kinds of the fixture's twins are asked about by what they report. */
const FORETOLD: Record<string, string[]> = {
  'machine:M1': ['anomaly'],
  'battery:B1': ['soh'],
  'mote:7': ['anomaly'],
};

afterAll(async () => {
  await postgres?.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Place {
  env: Record<string, string>;
  open(): Promise<Sql>;
}

const places: [string, () => Promise<Place>][] = [
  [
    'PGlite',
    async () => {
      const dataDir = join(folder, 'embedded');
      await emptyDatabase(dataDir);
      return { env: { DATA_DIR: dataDir }, open: () => Pglite.open({ dataDir }) };
    },
  ],
];
if (postgres !== null)
  places.push([
    'PostgreSQL',
    async () => {
      const url = await postgres.database();
      const dataDir = join(folder, 'data');
      mkdirSync(dataDir);
      return { env: { DATABASE_URL: url, DATA_DIR: dataDir }, open: () => Pg.open({ url }) };
    },
  ]);

describe.each(places)('a database of schema version 2 on %s', (_, placed) => {
  it('is migrated, its twins are what they were, and predictions follow what they hear', {
    timeout: PATIENCE_MS,
  }, async () => {
    const { env, open } = await placed();
    /** The embedded one is open to one at a time: looked at while no node runs. */
    const look = async <T>(at: (sql: Sql) => Promise<T>): Promise<T> => {
      const sql = await open();
      try {
        return await at(sql);
      } finally {
        await sql.close();
      }
    };
    const schema = async (sql: Sql) =>
      (
        await sql.query<{ version: number }>(
          `select (value ->> 'version')::int as version from settings where name = 'schema'`,
        )
      )[0];
    const readings = async (sql: Sql) => {
      const counted = ['machine', 'battery', 'mote'].map((kind) => `(select count(*) from ${kind}_readings)`);
      return (await sql.query<{ n: number }>(`select (${counted.join(' + ')})::int as n`))[0].n;
    };
    const before = await look(async (sql) => {
      await sql.exec(dump);
      expect(await schema(sql)).toEqual({ version: 2 });
      const tails = 'select count(*)::int as n from shards where snapshot_floor < commit_no';
      expect((await sql.query<{ n: number }>(tails))[0].n).toBeGreaterThan(0);
      return readings(sql);
    });
    const node = NodeProcess.start(folder, { ...env, SHARDS: '4', TTL_MS: '1500', DEMO: 'off' });
    const { http, key } = await whereabouts(node);
    const at = { http, key: key as string };
    const viewed: Record<string, View> = {};
    for (const twinId of wanted) {
      viewed[twinId] = await eventually(
        () => dataOf(at, `/api/v1/twins/${twinId}`),
        ({ stale }: View) => stale?.reason !== 'not owner',
      );
      const { revision: _, ...same } = toldOf(views[twinId]);
      expect(toldOf(viewed[twinId])).toMatchObject(same);
    }

    let told = 0;
    const tell = async (twinId: string): Promise<View> => {
      const was = views[twinId];
      told++;
      const reading = { twinId, at: Date.parse(was.at) + told * 10_000, values: was.reported };
      expect(await dataOf(at, '/api/v1/telemetry', 'POST', [reading])).toMatchObject({ accepted: 1 });
      return await dataOf(at, `/api/v1/twins/${twinId}`);
    };
    for (const [twinId, names] of Object.entries(FORETOLD)) {
      const { predictions } = await eventually(
        () => tell(twinId),
        (view) => names.every((name) => isForetold(view, name, views[twinId].at)),
      );
      expect(Object.keys(predictions)).toEqual(expect.arrayContaining(names));
    }
    const silent: View = await dataOf(at, '/api/v1/twins/device:D1');
    expect([silent.ingest.accepted, silent.predictions]).toEqual([views['device:D1'].ingest.accepted, {}]);
    node.signal('SIGTERM');
    expect(await node.ended()).toBe(0);

    await look(async (sql) => {
      expect(await schema(sql)).toEqual({ version: MIGRATIONS.at(-1)?.version });
      expect(await readings(sql)).toBe(before + told);
      for (const twinId of wanted) {
        // Time has passed, and models may have been asked: what only that changes is left out.
        const [{ others }] = await sql.query<{ others: number }>(
          `select count(*)::int as others from entries join twins using (twin)
           where twins.twin_id = $1 and entries.type in ('tick', 'prediction') and entries.revision > $2 and entries.revision <= $3`,
          [twinId, views[twinId].revision, viewed[twinId].revision],
        );
        expect([twinId, viewed[twinId].revision - others]).toEqual([twinId, views[twinId].revision]);
      }
      const foretold = await sql.query<{ twinId: string }>(
        `select distinct twin_id as "twinId" from entries join twins using (twin) where type = 'prediction' order by 1`,
      );
      // the tail of one that was told nothing is folded again, and it is asked about by that
      const others = wanted.filter((twinId) => !twinId.startsWith('device:'));
      expect(foretold.map(({ twinId }) => twinId)).toEqual(expect.arrayContaining(Object.keys(FORETOLD)));
      expect(others).toEqual(expect.arrayContaining(foretold.map(({ twinId }) => twinId)));
      const kept = await sql.query(
        `select twin_id as "twinId", shape, (twins.revision - s.revision)::int as tail
         from twin_snapshots s join twins using (twin, twin_id) where latest order by twin_id`,
      );
      expect(kept).toEqual(wanted.map((twinId) => ({ twinId, shape: SNAPSHOT_SHAPE, tail: 0 })));
    });
  });
});

function isForetold({ predictions }: View, name: string, at: string): boolean {
  return predictions[name] !== undefined && Date.parse(predictions[name].at) > Date.parse(at);
}
