import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../../actors/protocol/clock.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { SqlError } from '../../../actors/store/sql.ts';
import { loadSettings, SettingsError } from '../../../config/settings.ts';
import { type Check, type Finding, findingsOf, masked, type Patient } from '../../../services/doctor/check.ts';
import { clocks } from '../../../services/doctor/clocks.ts';
import { dataDir } from '../../../services/doctor/data-dir.ts';
import { databaseCheck } from '../../../services/doctor/database.ts';
import { memoryCheck } from '../../../services/doctor/machine.ts';
import { ports } from '../../../services/doctor/ports.ts';
import { doctor } from '../../../services/doctor-cli.ts';
import { FakeClock } from '../gateway/fake-clock.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tm-doctor-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function patient(env: Record<string, string> = {}, parts: Partial<Patient> = {}): Patient {
  return {
    settings: loadSettings({ DATA_DIR: folder, ...env }),
    clock: systemClock,
    sql: async () => null,
    running: async () => false,
    ...parts,
  };
}

const look = (check: Check, of: Patient) => findingsOf(check, of);
const levels = (findings: Finding[]) => findings.map(({ level }) => level);

function sqlOf(answer: (text: string) => Record<string, unknown>[]): Sql {
  return {
    query: async <Row>(text: string) => answer(text) as Row[],
    exec: async () => undefined,
    close: async () => undefined,
  };
}

describe('a check', () => {
  it('that throws is a finding, and what it quotes carries no password', async () => {
    const broken: Check = {
      part: 'x',
      look() {
        throw new Error('refused by nats://me:geheim@host:4222');
      },
    };
    const [finding] = await look(broken, patient());
    expect(finding).toMatchObject({ part: 'x', level: 'fault', says: expect.stringContaining('nats://***@host:4222') });
    expect(masked('redis://:geheim@h, mqtt://a:b@c')).toBe('redis://***@h, mqtt://***@c');
  });

  it('that hangs is a finding, and what it says later is not', async () => {
    const clock = new FakeClock();
    let late: () => void = () => undefined;
    const hangs: Check = {
      part: 'x',
      look: (_, tell) =>
        new Promise<void>((resolve) => {
          late = () => {
            tell.ok('after all');
            resolve();
          };
        }),
    };
    const looking = look(hangs, patient({}, { clock }));
    await clock.advance(30_000);
    const found = await looking;
    late();
    expect(found).toEqual([expect.objectContaining({ level: 'fault', says: expect.stringContaining('30 s') })]);
  });

  it('of a part that is not configured says nothing', async () => {
    const silent: Check = { part: 'x', applies: ({ natsUrl }) => natsUrl !== null, look: (_, tell) => tell.ok('hm') };
    expect(await look(silent, patient())).toEqual([]);
  });
});

describe('the data folder', () => {
  it('is good where it can be written or made', async () => {
    expect(levels(await look(dataDir, patient()))).toEqual(['ok']);
    expect(levels(await look(dataDir, patient({ DATA_DIR: join(folder, 'a', 'b') })))).toEqual(['ok']);
  });

  it('is at fault where it is a file', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const [finding] = await look(dataDir, patient({ DATA_DIR: join(file) }));
    expect(finding).toMatchObject({ level: 'fault', says: `${file} is a file`, remedy: 'Set DATA_DIR to a folder.' });
  });

  it('names the process that has locked it, and whether that answers', async () => {
    const locked = join(folder, 'locked');
    mkdirSync(locked);
    writeFileSync(join(locked, 'lock'), `${process.pid} 1@x\n`);
    const silent = await look(dataDir, patient({ DATA_DIR: locked }));
    expect(silent[1]).toMatchObject({ level: 'warning', says: expect.stringContaining(`process ${process.pid}`) });
    const answering = await look(dataDir, patient({ DATA_DIR: locked }, { running: async () => true }));
    expect(levels(answering)).toEqual(['ok', 'ok']);
    // A process that has ended leaves its lock behind: the next start takes it over.
    writeFileSync(join(locked, 'lock'), '4194303 1@x\n');
    expect(levels(await look(dataDir, patient({ DATA_DIR: locked })))).toEqual(['ok']);
  });
});

describe('ports', () => {
  let taken: Server;
  let port: string;
  beforeAll(async () => {
    taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    port = String((taken.address() as { port: number }).port);
  });
  afterAll(() => new Promise<unknown>((resolve) => taken.close(resolve)));
  const free = { MQTT_LISTEN_PORT: '0', MQTT_WS_PORT: '0' };

  it('that are taken are a fault, unless by the node that runs here', async () => {
    const [stranger] = await look(ports, patient({ PORT: port, ...free }));
    expect(stranger).toMatchObject({ level: 'fault', remedy: expect.stringContaining('PORT') });
    const [own] = await look(ports, patient({ PORT: port, ...free }, { running: async () => true }));
    expect(own.level).toBe('ok');
  });

  it('are opened on HOST, which has to be ours', async () => {
    const [finding] = await look(ports, patient({ HOST: '192.0.2.1', ...free }));
    expect(finding).toMatchObject({ level: 'fault', says: expect.stringContaining('EADDRNOTAVAIL') });
  });

  it('are those of the roles', async () => {
    await new Promise<unknown>((resolve) => taken.close(resolve));
    const mesh = { NATS_URL: 'nats://h', DATABASE_URL: 'postgres://h/d', ROLES: 'host', METRICS_PORT: port };
    const found = await look(ports, patient(mesh));
    expect(found.map(({ says }) => says)).toEqual([`127.0.0.1:${port} (METRICS_PORT) is free`]);
  });
});

describe('memory', () => {
  it('has to hold what is resident', async () => {
    expect(levels(await look(memoryCheck(8 * 2 ** 30), patient()))).toEqual(['ok']);
    expect(levels(await look(memoryCheck(2 ** 30), patient()))).toEqual(['warning']);
  });
});

describe('the database', () => {
  const there = { DATABASE_URL: 'postgres://me:geheim@db.example:5432/x' };
  const facts = {
    version: '15.4',
    number: 150_004,
    create: true,
    schema: 'public',
    user: 'me',
    superuser: false,
    replica: false,
    readOnly: 'off',
    synchronousCommit: 'on',
    fsync: 'on',
    fullPageWrites: 'on',
    maxConnections: 100,
    reserved: 3,
    used: 5,
    timescale: null,
  };
  const examined = (change: Partial<typeof facts>) =>
    look(
      databaseCheck(async () => null),
      patient(there, { sql: async () => sqlOf(() => [{ ...facts, ...change }]) }),
    );

  it('that is well is well', async () => {
    expect(new Set(levels(await examined({})))).toEqual(new Set(['ok']));
  });

  it.each<[string, Partial<typeof facts>, Finding['level'], RegExp]>([
    ['only reads', { replica: true }, 'fault', /only reads/],
    ['lets us make no tables', { create: false }, 'fault', /create tables/],
    ['is not durable', { fsync: 'off', synchronousCommit: 'off' }, 'warning', /synchronous_commit=off, fsync=off/],
    ['is old', { number: 130_001 }, 'warning', /older/],
    ['has too few connections', { maxConnections: 8 }, 'fault', /5 of 5 connections/],
    ['has few connections left', { used: 90 }, 'warning', /90 of 97/],
    ['knows us as a superuser', { superuser: true }, 'warning', /superuser/],
  ])('that %s is told apart', async (_, change, level, says) => {
    const bad = (await examined(change)).filter((finding) => finding.level !== 'ok');
    expect(bad).toEqual([expect.objectContaining({ level, says: expect.stringMatching(says) })]);
    expect(bad[0].remedy).toMatch(/\.$/);
  });

  it('that refuses us is said by its reason', async () => {
    const refusal = new SqlError('not_sent', 'password authentication failed', '28P01');
    const [finding] = await look(
      databaseCheck(async () => refusal),
      patient(there),
    );
    expect(finding).toMatchObject({ level: 'fault', says: 'PostgreSQL at db.example:5432: the password is refused' });
  });

  it('and this machine are compared by their clocks', async () => {
    const at = (ms: number) => patient(there, { sql: async () => sqlOf(() => [{ at: Date.now() + ms }]) });
    const worst = async (ms: number) => (await look(clocks, at(ms))).at(-1);
    expect(await worst(0)).toMatchObject({ level: 'ok', says: expect.stringContaining('within the round trip') });
    expect(await worst(-10_000)).toMatchObject({ level: 'warning' });
    expect(await worst(300_000)).toMatchObject({ level: 'fault' });
  });
});

describe('npm run doctor', () => {
  const good = () => loadSettings({ DATA_DIR: folder, PORT: '0', MQTT_LISTEN_PORT: '0', MQTT_WS_PORT: '0' });

  it('prints a line for each finding, and its exit code says the worst', async () => {
    const told = await doctor(['data folder', 'node'], good);
    expect(told.code).toBe(0);
    expect(told.text).toMatch(/^ok {7}node {9}Node 24/m);
    expect(told.text.trimEnd()).toMatch(/Everything is well\.$/);
    const notices = () => ({ ...good(), notices: ['MODEL_PATH has no effect.'] });
    expect(await doctor([], notices)).toMatchObject({
      code: 0,
      text: expect.stringContaining('0 faults, 1 warnings.'),
    });
    expect((await doctor(['--strict'], notices)).code).toBe(1);
  });

  it('answers faults of settings, all of them, as JSON too', async () => {
    const bad = () => {
      throw new SettingsError(['A is wrong.', 'B is wrong.']);
    };
    const { text, code } = await doctor(['--json'], bad);
    expect(code).toBe(2);
    const answer = JSON.parse(text);
    expect(answer.worst).toBe('fault');
    expect(answer.findings.map((finding: Finding) => finding.says)).toEqual(['A is wrong.', 'B is wrong.']);
  });

  it('explains itself, and refuses what it does not know', async () => {
    expect(await doctor(['--help'], good)).toMatchObject({ code: 0, text: expect.stringContaining('--strict') });
    expect(await doctor(['heart'], good)).toMatchObject({ code: 2, text: expect.stringContaining('"heart"') });
    expect((await doctor(['--force'], good)).code).toBe(2);
  });
});
