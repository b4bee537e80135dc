import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { SNAPSHOT_SHAPE } from '../../actors/runtime/snapshot.ts';
import { Pg } from '../../actors/store/pg.ts';
import { MIGRATIONS } from '../../actors/store/schema.ts';
import { eventually, NodeProcess, ROOT, whereabouts } from '../e2e/node-process.ts';
import { fixtureOf, toldOf, type View } from '../fixtures/upgrade/fixture.ts';
import { type Mesh, startMesh } from '../servers/mesh.ts';
import { findPostgres } from '../servers/postgres.ts';

/** What older versions have left is gone on with, and nodes of two versions work side by side while they are replaced. */
const PATIENCE_MS = 120_000;
const { sql: dump, views } = fixtureOf('schema-1');
const OLD = 'c6cca28da84383b41a5ed147d9519699297f331d';
const folder = fs.mkdtempSync(join(tmpdir(), 'twinmesh-upgrade-'));
const postgres = await findPostgres();

afterAll(async () => {
  await postgres?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(postgres === null)(
  'a database of schema version 1, with snapshots of shape 1 and tails above them',
  () => {
    it(
      'is migrated, and its twins are what they were',
      async () => {
        const url = await postgres!.database();
        const loading = await Pg.open({ url });
        await loading.exec(dump);
        const shapes = 'select distinct shape from twin_snapshots where latest';
        expect(await loading.query(shapes)).toEqual([{ shape: 1 }]);
        const tails = 'select count(*)::int as n from shards where snapshot_floor < commit_no';
        expect((await loading.query<{ n: number }>(tails))[0].n).toBeGreaterThan(0);
        const before = await loading.query<{ n: number }>('select count(*)::int as n from machine_readings');
        await loading.close();

        const env = {
          DATABASE_URL: url,
          DATA_DIR: join(folder, 'data'),
          SHARDS: '4',
          TTL_MS: '1500',
          DEMO: 'off',
          // a twin that is asked about has changed
          INFERENCE_MAX_PER_SECOND: '0',
        };
        const migrated = spawnSync(process.execPath, [join(ROOT, 'services/migrate-cli.ts')], {
          cwd: folder,
          encoding: 'utf8',
          env: { PATH: process.env.PATH, ...env },
        });
        expect(migrated.stdout).toContain(`schema version ${MIGRATIONS.at(-1)?.version}`);
        const sql = await Pg.open({ url });
        try {
          const first = NodeProcess.start(folder, env);
          const { http, key } = await whereabouts(first);
          const ask = async (twinId: string) => {
            const headers = { authorization: `Bearer ${key}` };
            const answer = await fetch(`${http}/api/v1/twins/${twinId}`, { headers });
            return ((await answer.json()) as { data: View }).data;
          };
          for (const [twinId, was] of Object.entries(views)) {
            const is = await eventually(
              () => ask(twinId),
              // some are silent since; what counts is that the owner answers
              ({ stale }) => stale?.reason !== 'not owner',
            );
            // Time has passed: what only that changes (ticks, and what they said of being silent) is left out.
            const { revision, ...same } = toldOf(was);
            expect(toldOf(is)).toMatchObject(same);
            const [{ ticks }] = await sql.query<{ ticks: number }>(
              `select count(*)::int as ticks from entries join twins using (twin)
           where twins.twin_id = $1 and entries.type = 'tick' and entries.revision > $2`,
              [twinId, revision],
            );
            expect([twinId, is.revision - ticks]).toEqual([twinId, revision]);
          }
          expect(await sql.query('select count(*)::int as n from machine_readings')).toEqual(before);
          first.signal('SIGTERM');
          expect(await first.ended()).toBe(0);
          const kept = await sql.query<{ twinId: string; shape: number; tail: number }>(
            `select twin_id as "twinId", shape, (twins.revision - s.revision)::int as tail
             from twin_snapshots s join twins using (twin, twin_id) where latest order by twin_id`,
          );
          const wanted = Object.keys(views).sort();
          expect(kept).toEqual(wanted.map((twinId) => ({ twinId, shape: SNAPSHOT_SHAPE, tail: 0 })));
        } finally {
          await sql.close();
        }
      },
      PATIENCE_MS,
    );
  },
);

const old = checkout(OLD);
const mesh = old === null ? null : await startMesh({ ttlMs: 2_000, shards: 32 });

describe.skipIf(mesh === null)('nodes of the version before, replaced one after the other under load', () => {
  const { nodes, sql, env } = (mesh ?? {}) as Mesh;
  const TWINS = Array.from({ length: 24 }, (_, i) => `U${i}`);
  const BASE = Date.now() - 3_600_000;
  const STEP_MS = 50;
  const gateways = new Map<string, string>();
  /** What was answered besides 200, and could be tried again. */
  const retried: string[] = [];
  const faults: string[] = [];
  const started: NodeProcess[] = [];
  let key = '';
  let sent = 0;
  let going = true;

  afterAll(() => mesh?.stop(), PATIENCE_MS);

  it(
    'loses nothing, counts nothing twice and fails no call',
    async () => {
      const roles = { a: 'host', b: 'host', g: 'gateway,history,ingest', h: 'gateway,history,ingest' };
      const own = (name: string) => ({
        ...env,
        NODE_ID: name,
        ROLES: roles[name as keyof typeof roles],
        DATA_DIR: join(folder, name),
      });
      const start = async (name: string, root: string) => {
        const node = NodeProcess.run(folder, [join(root, 'services/main.ts')], own(name));
        nodes.set(name, node);
        await node.until(/keys, devices/);
        const http = node.output.match(/API\s+(http:\S+)\/api\/v1\/twins/)?.[1];
        if (http !== undefined) gateways.set(name, http);
        key ||= node.output.match(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/)?.[0] ?? '';
      };
      await start('g', old as string);
      await Promise.all(['a', 'b', 'h'].map((name) => start(name, old as string)));
      await mesh?.settled();

      /** Again until a gateway has taken it, as a client has to. */
      const call = async (path: string, body?: unknown) => {
        for (let tries = 0; ; tries++) {
          const all = [...gateways];
          const [name, http] = all[tries % all.length];
          let said = '';
          try {
            const answer = await fetch(http + path, {
              method: body === undefined ? 'GET' : 'POST',
              headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
              body: body === undefined ? undefined : JSON.stringify(body),
            });
            const text = await answer.text();
            if (answer.status === 200) return JSON.parse(text).data;
            said = `${answer.status} ${text}`;
            if (answer.status !== 503 && answer.status !== 504)
              faults.push(`${new Date().toISOString()} ${name} ${path}: ${said}`);
          } catch (error) {
            said = String(error);
          }
          retried.push(`${name} ${path}: ${said.slice(0, 200)}`);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      };
      const telling = (async () => {
        while (going) {
          const at = BASE + sent * STEP_MS;
          const readings = TWINS.map((id) => ({
            twinId: `machine:${id}`,
            at,
            seq: sent,
            values: { temperature: 40 + (sent % 64) / 8 },
          }));
          const { rejected } = await call('/api/v1/telemetry', readings);
          if (rejected.length > 0) faults.push(JSON.stringify(rejected));
          sent++;
        }
      })();
      const asking = (async () => {
        for (let i = 0; going; i++) {
          const twinId = `machine:${TWINS[i % TWINS.length]}`;
          // Acknowledged before it was asked for, so it has to be in the answer, unless that says that it is not the newest.
          const before = sent;
          const view = before === 0 ? null : await call(`/api/v1/twins/${twinId}`);
          if (view !== null && view.stale === null && view.ingest.accepted < before)
            faults.push(`${twinId} answered ${view.ingest.accepted} of ${before}`);
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      })();
      const more = async () => {
        const from = sent;
        await eventually(
          async () => sent,
          (n) => n >= from + 10,
        );
      };
      await more();
      for (const name of ['a', 'b', 'g', 'h']) {
        // A load balancer takes a gateway out before it is ended.
        gateways.delete(name);
        expect([name, await mesh?.end(name)]).toEqual([name, 0]);
        await more();
        await start(name, ROOT);
        await mesh?.settled();
        await more();
      }
      going = false;
      await Promise.all([telling, asking]);
      const told = started.flatMap(({ output }) => output.split('\n').filter((line) => /"level":"error"/.test(line)));
      expect({ faults, told }).toEqual({ faults: [], told: [] });
      const rows = await sql.query<{ n: number; different: number; least: number; most: number }>(
        `select count(*)::int as n, count(distinct seq)::int as different, min(seq)::int as least, max(seq)::int as most
       from machine_readings group by twin`,
      );
      expect(rows).toEqual(TWINS.map(() => ({ n: sent, different: sent, least: 0, most: sent - 1 })));
      for (const id of TWINS) {
        const view = await call(`/api/v1/twins/machine:${id}`);
        expect(view).toMatchObject({ stale: null, ingest: { accepted: sent } });
        expect(view.reported.temperature).toBe(40 + ((sent - 1) % 64) / 8);
      }
      console.log(`${sent} rounds, tried again ${retried.length}:\n${[...new Set(retried)].slice(0, 20).join('\n')}`);
    },
    PATIENCE_MS,
  );
});

/** The tree of a commit; null, with a printed reason, where this is no clone or one without that commit. */
function checkout(commit: string): string | null {
  const tar = join(folder, 'old.tar');
  const archived = spawnSync('git', ['archive', '--output', tar, commit], { cwd: ROOT, encoding: 'utf8' });
  if (archived.status !== 0) {
    console.warn(`The rolling upgrade is not tried: git has no ${commit} here (${archived.stderr?.trim()}).`);
    return null;
  }
  const tree = join(folder, 'old');
  fs.mkdirSync(tree);
  const unpacked = spawnSync('tar', ['-xf', tar, '-C', tree], { encoding: 'utf8' });
  if (unpacked.status !== 0) throw new Error(unpacked.stderr);
  fs.symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
  return tree;
}
