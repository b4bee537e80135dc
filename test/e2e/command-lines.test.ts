import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { archiveCommand } from '../../services/archive-cli.ts';
import { runCommand } from '../../services/command-line.ts';
import { deviceCommands } from '../../services/device-cli.ts';
import { exportHistory } from '../../services/export-cli.ts';
import { keyCommands } from '../../services/key-cli.ts';
import { modelsCommands } from '../../services/models-cli.ts';
import { emptyDatabase } from '../servers/embedded.ts';
import { inherited } from '../servers/short-lived.ts';
import { COMPILED, NodeProcess, whereabouts } from './node-process.ts';

const KEY = /tm_[a-z0-9]{12}_[A-Za-z0-9_-]{43}/;
let folder = '';
const before = process.env.DATA_DIR;

const key = (...args: string[]) => runCommand(keyCommands, args);
const device = (...args: string[]) => runCommand(deviceCommands, args);

/** A process of its own. */
function commandLine(path: string, ...args: string[]) {
  const env = { ...process.env, NODE_COMPILE_CACHE: COMPILED };
  return spawnSync(process.execPath, [...inherited(), path, ...args], { cwd: folder, encoding: 'utf8', env });
}

function idIn(text: string): string {
  return KEY.exec(text)?.[0].split('_')[1] ?? '';
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-keys-'));
  await emptyDatabase(join(folder, 'data'));
  process.env.DATA_DIR = join(folder, 'data');
});

afterAll(() => {
  if (before === undefined) delete process.env.DATA_DIR;
  else process.env.DATA_DIR = before;
  rmSync(folder, { recursive: true, force: true });
});

describe('eval:detectors', () => {
  it('without a file says which one is wanted and where there is one', () => {
    const path = fileURLToPath(new URL('../../services/detectors-cli.ts', import.meta.url));
    const { status, stderr } = commandLine(path);
    expect(status).toBe(2);
    expect(stderr).toMatch(/Name a labelled file.*@stdlib\/datasets-suthaharan-single-hop-sensor-network/);
  });
});

describe('command lines', () => {
  it('show help, and refuse what they do not know without opening anything', async () => {
    expect(await key('--help')).toMatchObject({ code: 0, text: expect.stringContaining('technician') });
    expect(await device('add', '--help')).toMatchObject({ code: 0, text: expect.stringContaining('--gateway') });
    expect(await key()).toMatchObject({ code: 2 });
    expect(await key('constructor')).toMatchObject({ code: 2, text: expect.stringContaining('bad_request') });
    expect(await key('add')).toMatchObject({ code: 2, text: expect.stringContaining('NAME') });
    expect(await key('add', 'x', '--rôle', 'viewer')).toMatchObject({
      code: 2,
      text: expect.not.stringContaining(' at '),
    });
  });

  it('work on the database where no server runs', async () => {
    const made = await key('add', 'night shift', '--role', 'technician');
    expect(made).toMatchObject({ code: 0, text: expect.stringMatching(KEY) });
    const list = await key('list');
    expect(list.text).toMatch(new RegExp(`${idIn(made.text)}\\s+technician\\s+night shift`));
    expect(list.text).not.toMatch(KEY);
    expect(await key('add', 'x', '--role', 'boss')).toMatchObject({
      code: 2,
      text: expect.stringContaining('role: "boss" is none of viewer, technician, operator, admin.'),
    });
  });
});

describe('command lines that only read', () => {
  it('say that no data is there, and make none', async () => {
    const empty = join(folder, 'empty');
    const said = {
      code: 2,
      text: expect.stringMatching(/^data_dir\n {2}No data is in .*empty: no node has run on it/),
    };
    const own = process.env.DATA_DIR;
    process.env.DATA_DIR = empty;
    try {
      expect(await runCommand(modelsCommands, ['list'])).toMatchObject(said);
      expect(await key('list')).toMatchObject(said);
      expect(await device('list')).toMatchObject(said);
      expect(await runCommand(archiveCommand, ['archive', '--list'])).toMatchObject(said);
      const file = join(folder, 'none.csv');
      await expect(exportHistory(['--kind', 'mote', '--out', file])).rejects.toMatchObject({ code: 'data_dir' });
      const path = fileURLToPath(new URL('../../services/rescore-cli.ts', import.meta.url));
      const args = ['--model', 'mote-anomaly', '--version', '1.0.0', '--from', '2026-01-01'];
      const { status, stderr } = commandLine(path, ...args);
      expect(status).toBe(2);
      expect(stderr).toContain(`No data is in ${empty}`);
    } finally {
      process.env.DATA_DIR = own;
    }
    expect(existsSync(empty)).toBe(false);
  });
});

describe('command lines beside a running server', () => {
  let node: NodeProcess;
  let http = '';

  beforeAll(async () => {
    node = NodeProcess.start(folder, { DEMO: 'off' });
    ({ http } = await whereabouts(node));
  });

  afterAll(async () => {
    node.signal('SIGKILL');
    await node.ended();
  });

  const statusWith = async (secret: string, path = '/api/v1/twins/machine:none') =>
    (await fetch(`${http}${path}`, { headers: { authorization: `Bearer ${secret}` } })).status;

  it('made before the first start, a key still leaves the first admin key to be made', async () => {
    expect(node.output).toMatch(KEY);
    expect((await key('list')).text).toContain('night shift');
  });

  it('make keys that work at once and end at once', async () => {
    const made = await key('add', 'screen', '--role', 'viewer');
    const secret = KEY.exec(made.text)?.[0] ?? '';
    expect(await statusWith(secret)).toBe(404);
    expect((await key('revoke', idIn(made.text))).code).toBe(0);
    expect(await statusWith(secret)).toBe(401);
    expect(await key('revoke', idIn(made.text))).toMatchObject({ code: 2, text: expect.stringContaining('not_found') });
  });

  it('follow a rescoring to its end', () => {
    const path = fileURLToPath(new URL('../../services/rescore-cli.ts', import.meta.url));
    const args = ['--model', 'mote-anomaly', '--version', '1.0.0', '--from', '2026-01-01'];
    const { status, stdout, stderr } = commandLine(path, ...args);
    expect(stderr).toBe('');
    expect(stdout).toMatch(
      /^mote-anomaly@1.0.0.*\n0 twins, 0 readings.*\nThere is no twin of a kind that asks mote-anomaly/,
    );
    expect(status).toBe(0);
  });

  it('enrol, list, rotate and revoke devices', async () => {
    const enrolled = await device('add', 'Press 4', '--kind', 'machine');
    expect(enrolled.code).toBe(0);
    for (const part of [
      'machine:Press-4',
      'twins/machine/Press-4/telemetry',
      'mosquitto_pub',
      'PubSubClient',
      'umqtt',
    ]) {
      expect(enrolled.text).toContain(part);
    }
    const send = async (secret: string) => {
      const headers = { authorization: `Bearer ${secret}`, 'content-type': 'application/json' };
      const body = JSON.stringify([{ twinId: 'machine:Press-4', values: { temperature: 60 } }]);
      return (await fetch(`${http}/api/v1/telemetry`, { method: 'POST', headers, body })).status;
    };
    const first = KEY.exec(enrolled.text)?.[0] ?? '';
    expect(await send(first)).toBe(200);
    const rotated = await device('rotate', 'machine:Press-4', '--quiet');
    expect(rotated.text).toMatch(new RegExp(`^${KEY.source}$`));
    expect(await send(first)).toBe(401);
    expect(await send(rotated.text)).toBe(200);
    expect((await device('list')).text).toMatch(/machine:Press-4\s+\w+\s+Press 4/);
    expect((await device('revoke', 'machine:Press-4')).code).toBe(0);
    expect(await send(rotated.text)).toBe(401);
    expect(await device('add', 'x', '--kind', 'unicorn')).toMatchObject({
      code: 2,
      text: expect.stringContaining('unknown_kind'),
    });
  });
});
