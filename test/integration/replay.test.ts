import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Pglite } from '../../actors/store/pglite.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { loadSettings, type Settings } from '../../config/settings.ts';
import { runLoad } from '../../services/load/load-command.ts';
import { runReplay } from '../../services/load/replay-command.ts';
import { NodeProcess, whereabouts } from '../e2e/node-process.ts';
import { emptyDatabase } from '../servers/embedded.ts';

/** Files through a whole node: over MQTT, through the control socket, and into the database without a server. */
const DATA = join(import.meta.dirname, '../../../shared/data');
const BMW = join(DATA, 'bmw_i3_trips/TripA01.csv.gz');
const MOTES = join(DATA, 'lwsndr_motes/single_hop.csv.gz');
const LAB = ['Temperature', 'Humidity'].map((metric) => join(DATA, `intel_lab_30min/intel${metric}Train.csv`));
const real = [BMW, MOTES, ...LAB].every((path) => existsSync(path));
if (!real) console.info(`skipped: the real data are not at ${DATA}; generated files stand in for them`);

const folder = mkdtempSync(join(tmpdir(), 'twinmesh-replay-'));
const DATA_DIR = join(folder, 'data');
const START = '2026-01-01T00:00:00Z';
const MAP = ['--map', 'bmw-i3', '--start', START];
let node: NodeProcess;
let http: string;
let key: string;
let settings: Settings;

const drive = join(folder, 'Drive1.csv');
const driveRows = Array.from({ length: 300 }, (_, i) => {
  // Charge is blank at times, and at the end.
  const soc = i % 5 === 4 ? '' : (80 - i / 100).toFixed(1);
  return `${i}.0,${380 + (i % 7)},${-20 + (i % 11)},${(25 + i / 100).toFixed(2)},${soc}`;
});
writeFileSync(drive, `t_s,pack_v,pack_a,batt_temp_c,soc_pct\n${driveRows.join('\n')}\n`);

async function run(command: typeof runLoad | typeof runReplay, args: string[]) {
  const said = { out: '', err: '' };
  const code = await command(args, () => settings, {
    out: { write: (text: string) => (said.out += text) },
    err: { write: (text: string) => (said.err += text) },
    signal: new AbortController().signal,
  });
  return { code, ...said };
}

async function twin(twinId: string) {
  const answer = await fetch(`${http}/api/v1/twins/${twinId}`, { headers: { 'x-api-key': key } });
  const { data } = (await answer.json()) as { data: Record<string, unknown> & { ingest: Record<string, number> } };
  return data;
}

/** What readings make of a twin, without when they came. */
function stateOf({ reported, rolling, revision, at, alerts, health }: Record<string, unknown>) {
  return { reported, rolling, revision, at, alerts, health };
}

beforeAll(async () => {
  await emptyDatabase(DATA_DIR);
  // revisions are counted here: predictions would make some of their own
  node = NodeProcess.start(folder, { DATA_DIR, DEMO: 'off', INFERENCE_MAX_PER_SECOND: '0' });
  const where = await whereabouts(node);
  http = where.http;
  key = where.key ?? '';
  settings = loadSettings({ DATA_DIR, MQTT_LISTEN_PORT: String(where.mqttPort) });
});

afterAll(async () => {
  node?.signal('SIGKILL');
  await node?.ended();
  rmSync(folder, { recursive: true, force: true });
});

describe('replay over MQTT', { timeout: 120_000 }, () => {
  it('makes a twin of a file, and the same again makes duplicates', async () => {
    const first = await run(runReplay, ['--kind', 'battery', ...MAP, '--speed', '500', drive]);
    expect(first).toMatchObject({ code: 0 });
    expect(first.err).toContain('as ev-telemetry on ev/battery/telemetry/{id}');
    expect(first.out).toMatch(/^300 of 300 messages acknowledged, of 1 twins/);
    const before = await twin('battery:Drive1');
    expect(before.reported).toEqual({
      voltage: 380 + (299 % 7),
      current: -20 + (299 % 11),
      temperature: 27.99,
      soc: 77,
      power: (380 + (299 % 7)) * (20 - (299 % 11)),
    });
    expect(before).toMatchObject({
      revision: 300,
      at: '2026-01-01T00:04:59.000Z',
      ingest: { accepted: 300, duplicate: 0 },
    });

    expect(first.out).toMatch(/what 1 twin made of 300 readings of these times\n[\s\S]*models +no answer/);

    const again = await run(runReplay, [...MAP, '--speed', 'max', '--no-outcome', drive]);
    expect(again.code).toBe(0);
    expect(again.out).not.toContain('made of');
    const after = await twin('battery:Drive1');
    expect(stateOf(after)).toEqual(stateOf(before));
    expect(after.ingest).toMatchObject({ accepted: 300, duplicate: 300 });
  });

  it('leaves no key behind that works', async () => {
    const answer = await fetch(`${http}/api/v1/devices`, { headers: { 'x-api-key': key } });
    const { data } = (await answer.json()) as { data: { items: { name: string; revokedAt: string | null }[] } };
    const made = data.items.filter(({ name }) => name.startsWith('replay'));
    expect(made.length).toBeGreaterThan(0);
    for (const { revokedAt } of made) expect(revokedAt).not.toBeNull();
  });

  it('ends with a clear word where the key is not known', async () => {
    const { code, err } = await run(runReplay, [...MAP, '--key', 'tm_nobody', drive]);
    expect(code).toBe(2);
    expect(err).toContain('The MQTT broker does not know the key.');
  });

  it.skipIf(!real)('brings the pack of a BMW i3 to the last values of its drive', async () => {
    expect((await run(runReplay, ['--kind', 'battery', ...MAP, '--speed', '200', BMW])).code).toBe(0);
    const before = await twin('battery:TripA01');
    expect(before).toMatchObject({
      revision: 1009,
      at: '2026-01-01T00:16:48.000Z',
      reported: { voltage: 387.76, current: -4.32, temperature: 22, soc: 81.5 },
      ingest: { accepted: 1009, duplicate: 0 },
    });
    expect((await run(runReplay, [...MAP, '--speed', 'max', BMW])).code).toBe(0);
    const after = await twin('battery:TripA01');
    expect(stateOf(after)).toEqual(stateOf(before));
    expect(after.ingest).toMatchObject({ accepted: 1009, duplicate: 1009 });
  });

  it.skipIf(!real)('brings four motes to the end of their series', async () => {
    const args = ['--map', 'single-hop', '--start', START, '--speed', 'max', MOTES];
    const first = await run(runReplay, args);
    expect(first.code).toBe(0);
    // the journals say the same as the file folded by itself
    expect(first.out).toContain('what 4 twins made of 18,914 readings of these times');
    expect(first.out).toMatch(/against 149 labelled readings \(1\)\n {2}detectors +precision 1.000 {2}recall 0.973/);
    const before = await Promise.all(['1', '2', '3', '4'].map((id) => twin(`mote:${id}`)));
    expect(before.map(({ revision }) => revision)).toEqual([4417, 4417, 5039, 5041]);
    expect(before[0].reported).toEqual({ temperature: 27.05, humidity: 42.62 });
    expect(before[3]).toMatchObject({
      at: '2026-01-01T07:00:00.000Z',
      reported: { temperature: 23.05, humidity: 46.72 },
    });
    expect((await run(runReplay, args)).code).toBe(0);
    const after = await Promise.all(['1', '2', '3', '4'].map((id) => twin(`mote:${id}`)));
    expect(after.map(stateOf)).toEqual(before.map(stateOf));
    expect(after.map(({ ingest }) => ingest.duplicate)).toEqual([4417, 4417, 5039, 5041]);
  });

  it.skipIf(!real)('plays fifty motes side by side', async () => {
    const args = ['--map', 'intel-30min', '--start', START, '--speed', '200000', ...LAB];
    const { code, out } = await run(runReplay, args);
    expect(code).toBe(0);
    expect(out).toMatch(/^7,200 of 7,200 messages acknowledged, of 50 twins/);
    const last = await twin('mote:lab-50');
    expect(last).toMatchObject({
      revision: 144,
      at: '2026-01-03T23:30:00.000Z',
      reported: { temperature: 16.8, humidity: 45.5 },
    });
    expect(
      (
        await run(
          runReplay,
          args.map((arg) => (arg === '200000' ? 'max' : arg)),
        )
      ).code,
    ).toBe(0);
    expect(stateOf(await twin('mote:lab-50'))).toEqual(stateOf(last));
  });
});

describe('load', { timeout: 120_000 }, () => {
  it('through the running server knows what came over MQTT', async () => {
    const { code, out, err } = await run(runLoad, [...MAP, drive]);
    expect(err).toContain('through the running server');
    expect(out).toMatch(/stored +0\n {2}duplicates +300\n/);
    expect(code).toBe(0);
  });

  it('stores what is good and tells what is not', async () => {
    const path = join(folder, 'lab.txt');
    const line = (i: number, temperature: string) =>
      `2004-02-28 0${Math.floor(i / 60)}:${String(i % 60).padStart(2, '0')}:00.5 ${i} 701 ${temperature} 40 100 2.7`;
    const lines = Array.from({ length: 200 }, (_, i) => line(i, i === 7 ? '5000' : i === 8 ? 'NaN' : '20.5'));
    writeFileSync(path, `${lines.join('\n')}\n2004-02-28 00:00:00 701 2004-02-28T00:00:01Z\nrubbish\n`);
    const { code, out } = await run(runLoad, ['--kind', 'mote', path]);
    expect(code).toBe(0);
    expect(out).toMatch(/stored +198\n/);
    expect(out).toMatch(/rejected +2 .*out_of_range 1/);
    expect(out).toMatch(/rejected +2 .*not_finite 1/);
    expect(out).toMatch(/skipped +2 /);
    expect(await twin('mote:701')).toMatchObject({ revision: 198, at: '2004-02-28T03:19:00.500Z' });
    expect(readdirSync(join(DATA_DIR, 'load'))).toEqual([]);
  });

  it('needs no server', async () => {
    node.signal('SIGTERM');
    expect(await node.ended()).toBe(0);
    const again = await run(runLoad, [...MAP, drive]);
    expect(again.err).toContain('no server is running');
    expect(again.out).toMatch(/stored +0\n {2}duplicates +300\n/);
    expect(again.code).toBe(0);

    const other = join(folder, 'Drive2.csv');
    writeFileSync(other, `t_s,pack_v,pack_a,batt_temp_c,soc_pct\n${driveRows.join('\n')}\n400,9999,1,20,50\n`);
    const fresh = await run(runLoad, [...MAP, other]);
    expect(fresh.out).toMatch(/stored +300\n {2}duplicates +0\n {2}rejected +1 {2}out_of_range 1\n/);
  });

  it('and replay have put exactly the rows of the files into history, and the refused into the dead letters', async () => {
    const sql: Sql = await Pglite.open({ dataDir: DATA_DIR });
    try {
      const counts = async (table: string) => {
        const rows = await sql.query<{ id: string; rows: number }>(
          `select t.id, count(*)::int as rows from ${table} r join twins t on t.twin = r.twin group by 1 order by 1`,
        );
        return Object.fromEntries(rows.map(({ id, rows }) => [id, rows]));
      };
      const batteries = await counts('battery_readings');
      expect(batteries).toMatchObject({ Drive1: 300, Drive2: 300, ...(real ? { TripA01: 1009 } : {}) });
      const motes = await counts('mote_readings');
      expect(motes['701']).toBe(198);
      if (real) {
        expect([1, 2, 3, 4].map((id) => motes[id])).toEqual([4417, 4417, 5039, 5041]);
        const lab = Object.keys(motes).filter((id) => id.startsWith('lab-'));
        expect(lab).toHaveLength(50);
        for (const id of lab) expect(motes[id]).toBe(144);
      }
      const letters = await sql.query<{ code: string; source: string; payload: string }>(
        'select code, source, payload from dead_letters order by id',
      );
      expect(letters.map(({ code }) => code)).toEqual(['out_of_range', 'not_finite', 'out_of_range']);
      // As a message that can be mended and sent again.
      expect(JSON.parse(letters[2].payload)).toMatchObject({ twinId: 'battery:Drive2', values: { voltage: 9999 } });
      expect(letters[2].source).toBe('file:Drive2.csv');
    } finally {
      await sql.close();
    }
  });
});
