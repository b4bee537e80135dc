import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emptyDatabase } from '../servers/embedded.ts';
import { eventually, NodeProcess, ROOT, type Whereabouts, whereabouts } from './node-process.ts';

/** The README is run as it stands: only addresses are those of this test's node. */
const run = promisify(execFile);
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

const hasMosquitto = spawnSync('mosquitto_pub', ['--help']).error === undefined;
if (!hasMosquitto && process.env.REQUIRE_SERVERS !== '1') {
  console.log('skipped: mosquitto_pub is not installed (apt-get install mosquitto-clients)');
}

/** The fenced blocks of a language, in order. */
function blocks(language: string): string[] {
  return [...README.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map((match) =>
    match[1].trim(),
  );
}

function lineWith(text: string): string {
  const line = blocks('sh')
    .flatMap((block) => block.split('\n'))
    .find((each) => each.includes(text));
  if (line === undefined) throw new Error(`README.md has no command with ${text}`);
  return line;
}

let folder = '';
let node: NodeProcess;
let at: Whereabouts;
let deviceKey = '';

const here = (text: string) =>
  text.replaceAll('http://127.0.0.1:8080', at.http).replaceAll('-p 1883', `-p ${at.mqttPort}`);

async function shell(command: string): Promise<string> {
  const env = { ...process.env, KEY: at.key ?? '', DEVICE_KEY: deviceKey, DATA_DIR: join(folder, 'data') };
  const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', here(command)], { cwd: ROOT, env });
  return stdout;
}

async function twin(twinId: string): Promise<{ revision: number; reported: Record<string, number> } | undefined> {
  const answer = await fetch(`${at.http}/api/v1/twins/${twinId}`, { headers: { authorization: `Bearer ${at.key}` } });
  return answer.ok ? ((await answer.json()) as { data: never }).data : undefined;
}

/** The README's device under another name, so that each way makes a twin that was not there before. */
const renamed = (text: string, name: string) => text.replaceAll('press-4', name);

/** Enrols it with the README's command, as `DEVICE_KEY` for what is run next. Answers the id of its twin to be. */
async function enrol(name: string): Promise<string> {
  const command = lineWith('device -- add').replace(/^DEVICE_KEY=\$\((.*)\)$/, '$1');
  deviceKey = (await shell(renamed(command, name))).trim();
  expect(deviceKey).toMatch(/^tm_[a-z0-9]+_\S+$/);
  const twinId = `machine:${name}`;
  expect(await twin(twinId)).toBeUndefined();
  return twinId;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-readme-'));
  await emptyDatabase(join(folder, 'data'));
  const kinds = join(folder, 'kinds');
  mkdirSync(kinds);
  writeFileSync(join(kinds, 'turbine.ts'), blocks('ts')[0]);
  // Its machines move twice a second: what the README shows of them shows sooner.
  node = NodeProcess.start(folder, { KINDS_DIR: kinds, SIMULATION_INTERVAL: '0.5' });
  at = await whereabouts(node);
});

afterAll(async () => {
  node.signal('SIGKILL');
  await node.ended();
  rmSync(folder, { recursive: true, force: true });
});

describe('README', () => {
  it('shows the fleet and a twin with curl and the printed key', async () => {
    await eventually(
      () => twin('machine:MACHINE_001'),
      (found) => found !== undefined,
    );
    expect(JSON.parse(await shell(lineWith('/api/v1/fleet'))).status).toBe('success');
    expect(JSON.parse(await shell(lineWith('/api/v1/twins/machine:MACHINE_001'))).data.twinId).toBe(
      'machine:MACHINE_001',
    );
  });

  it('breaks a machine, and it shows', async () => {
    await eventually(
      () => twin('machine:MACHINE_001'),
      (found) => found !== undefined,
    );
    expect(JSON.parse(await shell(lineWith('"power_surge"'))).status).toBe('success');
    const alerts = () =>
      shell('curl -s -H "Authorization: Bearer $KEY" "http://127.0.0.1:8080/api/v1/alerts?twinId=machine:MACHINE_001"');
    await eventually(alerts, (text) => text.includes('"alert_type":"power_surge"'));
  });

  it.skipIf(!hasMosquitto && process.env.REQUIRE_SERVERS !== '1')('feeds a new device with mosquitto_pub', async () => {
    const twinId = await enrol('press-mqtt');
    await shell(renamed(lineWith('mosquitto_pub'), 'press-mqtt'));
    expect(await twin(twinId)).toMatchObject({ revision: 1, reported: { temperature: 61.5, vibration: 1.1 } });
  });

  it('feeds a new device with curl', async () => {
    const twinId = await enrol('press-http');
    const answer = JSON.parse(await shell(renamed(lineWith('"machine:press-4"'), 'press-http')));
    expect(answer.data).toEqual({ accepted: 1, duplicates: 0, rejected: [] });
    expect(await twin(twinId)).toMatchObject({ revision: 1, reported: { temperature: 62 } });
  });

  it('feeds a new device with a program of ten lines', async () => {
    const [program] = blocks('js');
    expect(program.split('\n').length).toBeLessThanOrEqual(10);
    const twinId = await enrol('press-program');
    const file = join(folder, 'press.mjs');
    writeFileSync(file, here(renamed(program, 'press-program')));
    await shell(`node ${file}`);
    expect(await twin(twinId)).toMatchObject({ revision: 10, reported: { pressure: 45 } });
  });

  it('adds a kind by a file', async () => {
    const body = JSON.stringify({ rpm: 12.1, kw: 1800, id: 'WT-1' });
    const headers = { authorization: `Bearer ${at.key}`, 'content-type': 'application/json' };
    const answer = await fetch(`${at.http}/api/v1/telemetry`, { method: 'POST', headers, body });
    expect(((await answer.json()) as { data: unknown }).data).toEqual({ accepted: 1, duplicates: 0, rejected: [] });
    expect((await twin('turbine:WT-1'))?.reported).toEqual({ rotor_speed: 12.1, power: 1800 });
  });
});
