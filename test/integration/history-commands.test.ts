import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { archiveCommand } from '../../services/archive-cli.ts';
import { runCommand } from '../../services/command-line.ts';
import { exportHistory } from '../../services/export-cli.ts';
import { dataOf } from '../e2e/api.ts';
import { NodeProcess, ROOT, type Whereabouts, whereabouts } from '../e2e/node-process.ts';
import { emptyDatabase } from '../servers/embedded.ts';

/**
 * `npm run export` and `npm run archive` as people run them: beside a node, and on its data folder once it has stopped. What
 * they write is read back and held against what was sent.
 */
const DAY_MS = 86_400_000;
const DAYS = 3;
const A_DAY = 40;
const MOTES = ['7', '10'];
const FROM = (Math.floor(Date.now() / DAY_MS) - 6) * DAY_MS;
const FIRST_DAY = new Date(FROM).toISOString().slice(0, 10);

interface Sent {
  id: string;
  at: number;
  temperature: number;
  humidity: number;
}

const sent: Sent[] = MOTES.flatMap((id) =>
  Array.from({ length: DAYS * A_DAY }, (_, i) => ({
    id,
    at: FROM + i * (DAY_MS / A_DAY),
    temperature: 15 + (i % 20) / 4,
    humidity: 40 + (i % 7),
  })),
);
const ofMote = (id: string) => sent.filter((reading) => reading.id === id);

let folder = '';
let node: NodeProcess;
let at: Whereabouts;

const ENV = { SHARDS: '16', ARCHIVE_AFTER_DAYS: '1' };

/** As a process of its own, with nothing of the test's environment but the path. */
function run(command: 'export' | 'archive', ...args: string[]) {
  const NODE_COMPILE_CACHE = join(ROOT, 'node_modules', '.cache', 'compiled');
  const env = { PATH: process.env.PATH, NODE_COMPILE_CACHE, ...ENV };
  const file = join(ROOT, `services/${command}-cli.ts`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [file, ...args], {
    cwd: folder,
    encoding: 'utf8',
    env,
  });
  return { status, stdout, stderr };
}

const archive = (...args: string[]) => runCommand(archiveCommand, ['archive', ...args]);
const out = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tm-history-'));
  await emptyDatabase(join(folder, 'data'));
  node = NodeProcess.start(folder, { DEMO: 'off', ...ENV });
  for (const [name, value] of Object.entries({ ...ENV, DATA_DIR: join(folder, 'data') })) vi.stubEnv(name, value);
  at = await whereabouts(node);
  const readings = sent.map(({ id, at: time, temperature, humidity }) => {
    return { twinId: `mote:${id}`, at: time, values: { temperature, humidity } };
  });
  expect(await dataOf(at, '/api/v1/telemetry', 'POST', readings)).toMatchObject({
    accepted: sent.length,
    rejected: [],
  });
});

afterAll(async () => {
  node?.signal('SIGKILL');
  await node?.ended();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

describe('both commands', () => {
  it('show how they are used', async () => {
    expect(await archive('--help')).toMatchObject({
      code: 0,
      text: expect.stringContaining('npm run -s archive -- --'),
    });
    expect(await exportHistory(['--help'])).toContain('npm run -s export -- --');
  });

  it('refuse what they do not know, with exit code 2', async () => {
    const { status, stdout, stderr } = run('export', '--wrong');
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^bad_request\n.*--help shows what there is/);
    for (const [args, why] of [
      [['--kind', 'mote'], /--out FILE/],
      [['--kind', 'mote', '--out', 'x.xlsx'], /csv or parquet/],
      [['--kind', 'mote', '--out', 'x.csv', '--from', '2026-01-02', '--to', '2026-01-01'], /--from/],
    ] as const)
      await expect(exportHistory([...args])).rejects.toMatchObject({
        code: 'bad_request',
        message: expect.stringMatching(why),
      });
    expect(await archive('--list', '--verify')).toMatchObject({ code: 2, text: expect.stringMatching(/Say one of/) });
    expect(await archive('--all')).toMatchObject({
      code: 2,
      text: expect.stringMatching(/--help shows what there is/),
    });
    expect(readdirSync(folder)).toEqual(['data']);
  });
});

describe('beside the node of the data folder', () => {
  it('the archive is written, listed and verified by that node', async () => {
    expect(await archive('--list')).toEqual({ code: 0, text: 'Nothing has been archived.' });
    const written = await archive('--now');
    expect(written.text).toBe(
      `${sent.length} readings in ${DAYS * MOTES.length} files, 0 of them came late; 0 files had expired.`,
    );
    const listed = (await archive('--list')).text.split('\n');
    expect(listed[0]).toMatch(/^day +kind +files +readings +MB +late$/);
    expect(listed.slice(1).map((line) => line.split(/ +/).filter((_, i) => i !== 4))).toEqual(
      Array.from({ length: DAYS }, (_, i) => [
        new Date(FROM + (DAYS - 1 - i) * DAY_MS).toISOString().slice(0, 10),
        'mote',
        String(MOTES.length),
        String(A_DAY * MOTES.length),
        '0',
      ]),
    );
    expect((await archive('--verify')).text).toBe(`${DAYS * MOTES.length} files are as they were written.`);
  });

  it("an export is refused and leaves nothing behind: the database is that node's", async () => {
    const refused = exportHistory(['--kind', 'mote', '--out', out('refused.csv')]);
    await expect(refused).rejects.toMatchObject({
      code: 'data_dir',
      message: expect.stringMatching(/A node runs on .*GET \/api\/v1\/export\/csv\?kind=mote/),
    });
    expect(readdirSync(folder)).toEqual(['data']);
  });
});

describe('once the node has stopped', () => {
  beforeAll(async () => {
    node.signal('SIGTERM');
    expect(await node.ended()).toBe(0);
  });

  it('a CSV file has every reading, asset by asset, in order of time', () => {
    const { status, stdout, stderr } = run('export', '--kind', 'mote', '--out', 'motes.csv');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`motes.csv: ${sent.length} readings, `);
    const [head, ...lines] = readFileSync(join(folder, 'motes.csv'), 'utf8').trimEnd().split('\n');
    const columns = head.trim().split(',');
    const read = lines.map((line) => {
      const cells = line.trim().split(',');
      const cell = (name: string) => cells[columns.indexOf(name)];
      return {
        id: cell('mote_id'),
        at: Date.parse(cell('timestamp')),
        temperature: Number(cell('temperature')),
        humidity: Number(cell('humidity')),
      };
    });
    const order = [...new Set(read.map(({ id }) => id))];
    expect(order.toSorted()).toEqual(MOTES.toSorted());
    expect(read).toEqual(order.flatMap(ofMote));
    expect(readdirSync(folder).toSorted()).toEqual(['data', 'motes.csv']);
  });

  it('a Parquet file has what was asked for and nothing else', async () => {
    const to = FROM + DAY_MS;
    const asked = ['--kind', 'mote', '--twins', '7', '--metrics', 'temperature', '--from', FIRST_DAY];
    const said = await exportHistory([...asked, '--to', String(to), '--out', out('day.parquet')]);
    expect(said).toContain(`day.parquet: ${A_DAY} readings, `);
    const bytes = readFileSync(join(folder, 'day.parquet'));
    const rows = await parquetReadObjects({ file: new Uint8Array(bytes).buffer });
    expect(rows).toEqual(
      ofMote('7')
        .filter((reading) => reading.at < to)
        .map(({ id, at: time, temperature }) => ({ mote_id: id, timestamp: new Date(time), temperature })),
    );
  });

  it('a twin that does not exist is an error, as over HTTP', async () => {
    const asked = exportHistory(['--kind', 'mote', '--twins', '7,NOPE', '--out', out('some.csv')]);
    await expect(asked).rejects.toMatchObject({ code: 'not_found', message: 'There is no twin mote:NOPE.' });
    expect(existsSync(out('some.csv'))).toBe(false);
  });

  it('what cannot be written is said, and nothing is left of it', async () => {
    const failed = exportHistory(['--kind', 'mote', '--out', out('nowhere/x.csv')]);
    await expect(failed).rejects.toMatchObject({ code: 'bad_request', message: expect.stringContaining('ENOENT') });
    expect(existsSync(out('nowhere'))).toBe(false);
  });

  it('an archive that is damaged is found out', () => {
    const files = readdirSync(join(folder, 'data', 'archive'), { recursive: true, encoding: 'utf8' });
    const first = files.filter((file) => file.endsWith('.parquet')).toSorted()[0];
    truncateSync(join(folder, 'data', 'archive', first), 100);
    const { status, stdout, stderr } = run('archive', '--verify');
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toContain(`1 of ${DAYS * MOTES.length} files are not as they were written.`);
    expect(stderr).toContain(first.split('/').at(-1));
  });
});
