import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { emptyDatabase } from '../servers/embedded.ts';
import { eventually, NodeProcess, ROOT, whereabouts } from './node-process.ts';

const run = promisify(execFile);
let folder = '';
let nodes: NodeProcess[] = [];
/** A data folder that has been used once, so that most tests need not make a database; and its admin key. */
let used = '';
let usedKey = '';

function start(env: Record<string, string> = {}, args: string[] = []): NodeProcess {
  const node = NodeProcess.start(folder, env, args);
  nodes.push(node);
  return node;
}

/** What curl prints: nothing but curl and the printed key is needed to look. */
async function curl(key: string, url: string): Promise<{ data: Record<string, unknown> }> {
  const { stdout } = await run('curl', ['-sS', '-H', `Authorization: Bearer ${key}`, url]);
  return JSON.parse(stdout);
}

interface Twin {
  twinId: string;
  revision: number;
}

async function twinsOf(key: string, http: string): Promise<Twin[]> {
  const { data } = await curl(key, `${http}/api/v1/twins?limit=200`);
  return data.items as Twin[];
}

/** Puts a copy of the used data folder where the next start finds it. */
function useDatabase(at = folder): void {
  cpSync(join(used, 'data'), join(at, 'data'), { recursive: true });
}

beforeAll(async () => {
  used = mkdtempSync(join(tmpdir(), 'twinmesh-used-'));
  await emptyDatabase(join(used, 'data'));
  const node = NodeProcess.start(used, { DEMO: 'off' });
  usedKey = (await whereabouts(node)).key ?? '';
  node.signal('SIGTERM');
  await node.ended();
});

afterAll(() => rmSync(used, { recursive: true, force: true }));

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-start-'));
  nodes = [];
});

afterEach(async () => {
  for (const node of nodes) {
    node.signal('SIGKILL');
    await node.ended();
  }
  rmSync(folder, { recursive: true, force: true });
});

describe('npm start', () => {
  it('is services/main.ts, which these tests start', async () => {
    const { stdout } = await run('npm', ['pkg', 'get', 'scripts.start'], { cwd: ROOT });
    expect(JSON.parse(stdout)).toBe('node services/main.ts');
  });

  it('brings a fleet to life, stops on SIGINT, and goes on where it was', async () => {
    const startedAt = performance.now();
    const first = start();
    const { http, key } = await whereabouts(first);
    console.log(`banner after ${Math.round(performance.now() - startedAt)} ms (first start)`);
    expect(key).not.toBeNull();
    // The banner comes first: nothing of how services wait for each other stands before it.
    expect(first.output).not.toContain('Waiting for service');
    expect(http).not.toMatch(/:0$/);

    const fleet = await eventually(
      () => twinsOf(key!, http),
      (twins) => twins.filter(({ twinId }) => twinId.startsWith('mote:')).length >= 42,
    );
    const count = (kind: string) => fleet.filter(({ twinId }) => twinId.startsWith(`${kind}:`)).length;
    expect(count('battery')).toBeGreaterThanOrEqual(8);
    expect(count('machine')).toBeGreaterThanOrEqual(8);

    const one = `${http}/api/v1/twins/${fleet[0].twinId}`;
    const seen = (await curl(key!, one)).data.revision as number;
    const moved = await eventually(
      async () => (await curl(key!, one)).data.revision as number,
      (revision) => revision > seen,
    );
    // Sensors that stand still show whether it is the same asset that speaks after the next start.
    const press = 'machine:MACHINE_001';
    const injected = JSON.stringify({ twinId: press, scenario: 'sensor_stuck', severity: 1 });
    const json = ['-H', 'Content-Type: application/json', '-d', injected];
    await run('curl', ['-sSf', '-H', `Authorization: Bearer ${key}`, ...json, `${http}/api/v1/demo/scenarios`]);
    const since = (await curl(key!, `${http}/api/v1/twins/${press}`)).data.revision as number;
    const stuck = await eventually(
      async () => (await curl(key!, `${http}/api/v1/twins/${press}`)).data,
      ({ revision }) => (revision as number) >= since + 2,
    );

    const stoppedAt = performance.now();
    first.signal('SIGINT');
    expect(await first.ended()).toBe(0);
    console.log(`stopped after ${Math.round(performance.now() - stoppedAt)} ms`);
    expect(first.output).not.toMatch(/"level":"(error|fatal)"/);

    const second = start({ DEMO: 'off' });
    const again = await whereabouts(second);
    expect(again.key).toBeNull();
    const { data } = await curl(key!, `${again.http}/api/v1/twins/${fleet[0].twinId}`);
    expect(data.revision).toBeGreaterThanOrEqual(moved);
    expect((await twinsOf(key!, again.http)).length).toBe(fleet.length);
    second.signal('SIGTERM');
    expect(await second.ended()).toBe(0);

    const third = start();
    const { http: thirdHttp } = await whereabouts(third);
    await eventually(
      async () => (await curl(key!, `${thirdHttp}/api/v1/twins/${fleet[0].twinId}`)).data.revision as number,
      (revision) => revision > (data.revision as number),
    );
    const same = await eventually(
      async () => (await curl(key!, `${thirdHttp}/api/v1/twins/${press}`)).data,
      ({ at }) => Date.parse(at as string) > Date.parse(stuck.at as string) + 5_000,
    );
    expect(same.reported).toEqual(stuck.reported);
  });
});

describe('a node that plays', () => {
  let home = '';
  let playing: NodeProcess;
  let http = '';

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'twinmesh-playing-'));
    useDatabase(home);
    playing = NodeProcess.start(home, { SIMULATION_INTERVAL: '0.2' });
    ({ http } = await whereabouts(playing));
  });

  afterAll(async () => {
    playing.signal('SIGKILL');
    await playing.ended();
    rmSync(home, { recursive: true, force: true });
  });

  it('plays a failure scenario on request', async () => {
    const key = usedKey;
    const scenarios = await curl(key!, `${http}/api/v1/demo/scenarios`);
    const stuck = (scenarios.data.items as { scenario: string; twins: string[] }[]).find(
      ({ scenario }) => scenario === 'pressure_loss',
    );
    const [twinId] = stuck!.twins;
    await eventually(
      () => twinsOf(key!, http),
      (twins) => twins.some((twin) => twin.twinId === twinId),
    );
    const post = (body: unknown) =>
      fetch(`${http}/api/v1/demo/scenarios`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    const cli = NodeProcess.run(home, [join(ROOT, 'services/scenario-cli.ts'), twinId, 'pressure_loss', '1']);
    await cli.until(new RegExp(`pressure_loss has started on ${twinId}, severity 1`));
    expect(await cli.ended()).toBe(0);
    expect((await post({ twinId, scenario: 'flood', severity: 1 })).status).toBe(400);
    expect((await post({ twinId: 'machine:NOBODY', scenario: 'pressure_loss', severity: 1 })).status).toBe(404);
    const before = (await curl(key, `${http}/api/v1/twins/${twinId}`)).data.reported as { pressure: number };
    const after = await eventually(
      async () => (await curl(key, `${http}/api/v1/twins/${twinId}`)).data.reported as { pressure: number },
      ({ pressure }) => pressure < before.pressure - 0.5,
    );
    expect(after.pressure).toBeLessThan(before.pressure);
  });

  it('says in /metrics what came in', async () => {
    const metric = async (name: string) => {
      const text = await (await fetch(`${http}/metrics`)).text();
      return Number(text.match(new RegExp(`^${name} (\\d+)`, 'm'))?.[1] ?? Number.NaN);
    };
    const accepted = await eventually(
      () => metric('twinmesh_readings_accepted_total'),
      (count) => count > 10,
    );
    expect(await metric('mqtt_messages_received_total')).toBeGreaterThanOrEqual(accepted);
  });

  it('has its folder to itself', async () => {
    const second = NodeProcess.start(home, { DEMO: 'off' });
    nodes.push(second);
    expect(await second.ended()).toBe(2);
    expect(second.output).toContain('data_dir');
    expect(second.output).toContain('in use');
  });
});

describe('a start that cannot be', () => {
  it('reports every fault of the settings with the remedy, no stack, exit 2', async () => {
    writeFileSync(join(folder, 'twinmesh.config.json'), '{"MQTT_LISTEN_PROT": 1}');
    const node = start({ PORT: 'eighty', NEO4J_URL: 'bolt://graph' });
    expect(await node.ended()).toBe(2);
    expect(node.output).toContain('bad_settings');
    for (const name of ['PORT must be', 'NEO4J_URL is set', 'did you mean MQTT_LISTEN_PORT?', '--help']) {
      expect(node.output).toContain(name);
    }
    expect(node.output).not.toMatch(/\n\s+at /);
  });

  it('names the setting of a taken port and releases its folder', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const port = String((taken.address() as { port: number }).port);
    await emptyDatabase(join(folder, 'data'));
    for (const setting of ['PORT', 'MQTT_LISTEN_PORT', 'MQTT_WS_PORT']) {
      const node = start({ [setting]: port, DEMO: 'off' });
      expect(await node.ended(), node.output).toBe(2);
      expect(node.output).toContain(`${setting} ${port} is taken`);
      expect(node.output).not.toMatch(/\n\s+at /);
    }
    taken.close();
    // The folder is free again, and the first key, which nobody has seen yet, is shown now.
    expect((await whereabouts(start({ DEMO: 'off' }))).key).not.toBeNull();
  });

  it('names the file of a faulty kind', async () => {
    const kinds = join(folder, 'kinds');
    mkdirSync(kinds);
    writeFileSync(join(kinds, 'turbine.ts'), 'export default { kind: "Wind Turbine" };');
    const node = start({ KINDS_DIR: kinds });
    expect(await node.ended()).toBe(2);
    expect(node.output).toContain('bad_kind');
    expect(node.output).toContain('turbine.ts');
  });

  it('refuses a database that does not answer', async () => {
    const node = start({ DATABASE_URL: 'postgres://nobody:hush@127.0.0.1:1/none' });
    expect(await node.ended()).toBe(2);
    expect(node.output).toContain('store_down');
    expect(node.output).not.toContain('hush');
  });

  it('ends cleanly when it is interrupted while it starts, and keeps the first key for who sees it', async () => {
    const node = start();
    await eventually(
      async () => existsSync(join(folder, 'data', 'lock')),
      (there) => there,
    );
    node.signal('SIGINT');
    expect(await node.ended(), node.output).toBe(0);
    // What it was making is whole or not there.
    if (!existsSync(join(folder, 'data', 'pg'))) await emptyDatabase(join(folder, 'data'));

    const later = start({ LOG_LEVEL: 'debug' });
    await later.until(/Service 'gateway' is starting/);
    later.signal('SIGTERM');
    expect(await later.ended(), later.output.split('\n').slice(-5).join('\n')).toBe(0);
    for (const { output } of [node, later]) {
      expect(output.split('\n').filter((line) => /does not start|"level":"(error|fatal)"/.test(line))).toEqual([]);
    }

    // whoever printed it first: a node that was told to stop just after its banner has shown it
    const shown = later.output.match(/tm_[a-z0-9]+_[A-Za-z0-9_-]+/)?.[0] ?? null;
    const { key } = await whereabouts(start({ DEMO: 'off' }));
    expect(key ?? shown).not.toBeNull();
  });

  it('helps without touching anything', async () => {
    const node = start({ PORT: 'eighty' }, ['--help']);
    expect(await node.ended()).toBe(0);
    expect(node.output).toContain('MQTT_LISTEN_PORT');
    const check = start({ PORT: 'eighty' }, ['--check']);
    expect(await check.ended()).toBe(2);
    const good = start({}, ['--check']);
    expect(await good.ended()).toBe(0);
  });
});

describe('moleculer-runner', () => {
  it('loads config and services as npm run dev does, and stops on SIGTERM', async () => {
    useDatabase();
    const { stdout } = await run('npm', ['pkg', 'get', 'scripts.dev'], { cwd: ROOT });
    const line = JSON.parse(stdout) as string;
    const runner = join(ROOT, 'node_modules/moleculer/bin/moleculer-runner.mjs');
    expect(line).toContain('moleculer-runner.mjs --repl --config moleculer.config.ts "services/**/*.service.ts"');
    const node = NodeProcess.run(ROOT, [runner, '--config', 'moleculer.config.ts', 'services/**/*.service.ts'], {
      DATA_DIR: join(folder, 'data'),
      DEMO: 'off',
      LOG_LEVEL: 'debug',
    });
    nodes.push(node);
    await node.until(/Service 'gateway' started/);
    expect(node.output).not.toMatch(/"level":"(error|fatal)"/);
    node.signal('SIGTERM');
    expect(await node.ended()).toBe(0);
  });
});
