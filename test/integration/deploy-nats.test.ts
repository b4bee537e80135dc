import { spawnSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type JetStreamManager, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { JetStreamLog } from '../../actors/log/jetstream.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { ROOT } from '../e2e/node-process.ts';
import { findNats, type NatsServer } from '../servers/nats.ts';

/** deploy/nats/nats.conf on a real server: each role can do its work, and nothing that would harm another's. */
const FILE = join(ROOT, 'deploy/nats/nats.conf');
const USERS = ['host', 'ingest', 'gateway', 'history', 'inference', 'sys'] as const;
type User = (typeof USERS)[number];
const passwordOf = (user: User) => `test${user}password`;

for (const user of USERS) process.env[`NATS_${user.toUpperCase()}_PASSWORD`] = passwordOf(user);
process.env.NATS_SYNC_INTERVAL = '1s';

const text = readFileSync(FILE, 'utf8');
/** Ports and folders are the test's own; the accounts are those of the plant. */
const server: NatsServer | null = await findNats({
  own: true,
  config: text.slice(text.indexOf('accounts {')),
  user: 'host',
  password: passwordOf('host'),
});

describe.skipIf(server === null)('accounts of NATS', () => {
  const connections: Partial<Record<User, NatsConnection>> = {};
  const logs: JetStreamLog[] = [];
  /** What the server refused on the connections that only do what they have to. */
  const violations: string[] = [];
  const asUser = async (user: User) => {
    if (connections[user]) return connections[user];
    const made = await connect({
      servers: `127.0.0.1:${server!.port}`,
      user,
      pass: passwordOf(user),
      timeout: 5000,
    });
    connections[user] = made;
    void (async () => {
      for await (const status of made.status())
        if (status.type === 'error')
          violations.push(`${user}: ${status.permissionContext?.operation} ${status.permissionContext?.subject}`);
    })();
    return made;
  };
  const logOf = async (user: User) => {
    const log = await JetStreamLog.open({
      connection: await asUser(user),
      clock: systemClock,
      shards: 1,
      maxBytes: 64 * 1024 * 1024,
    });
    logs.push(log);
    return log;
  };
  /** Asks without waiting for JetStream's own check, so that the answer is about this subject alone. */
  const managerOf = async (user: User): Promise<JetStreamManager> =>
    (await asUser(user)).jetstreamManager({ timeout: 1500, checkAPI: false });

  /** What the server says to a message on a subject: null when it takes it. */
  const refusal = async (user: User, subject: string): Promise<string | null> => {
    const connection = await connect({ servers: `127.0.0.1:${server!.port}`, user, pass: passwordOf(user) });
    try {
      const said = (async () => {
        for await (const status of connection.status()) {
          if (status.type === 'error') return `${status.data}`;
        }
        return null;
      })();
      connection.publish(subject, '{}');
      // The answer to a ping comes after the refusal.
      await connection.flush();
      return await Promise.race([said, new Promise<null>((resolve) => setImmediate(() => resolve(null)))]);
    } finally {
      await connection.close();
    }
  };

  beforeAll(async () => {
    await logOf('host');
  });
  afterAll(async () => {
    for (const log of logs) await log.close();
    for (const connection of Object.values(connections)) await connection.close();
    await server?.stop();
  });

  it('are in a file that the server accepts as a whole', () => {
    const program = readlinkSync(`/proc/${server!.pid}/exe`);
    const checked = spawnSync(program, ['-t', '-c', FILE], { encoding: 'utf8', env: process.env });
    expect([checked.status, checked.stderr]).toEqual([0, expect.stringMatching(/is valid/)]);
    const empty = { ...process.env };
    delete empty.NATS_INGEST_PASSWORD;
    expect(spawnSync(program, ['-t', '-c', FILE], { encoding: 'utf8', env: empty }).status).not.toBe(0);
  });

  it('let nobody in without a password, or with a wrong one', async () => {
    const servers = `127.0.0.1:${server!.port}`;
    await expect(connect({ servers, timeout: 2000, reconnect: false })).rejects.toThrow(/authorization/i);
    await expect(
      connect({ servers, user: 'ingest', pass: passwordOf('host'), timeout: 2000, reconnect: false }),
    ).rejects.toThrow(/authorization/i);
  });

  it('let ingest append and hear of the commit, and a host read, commit and trim', async () => {
    const host = await logOf('host');
    const ingest = await logOf('ingest');
    const batch = { shard: 0, id: 'a-1', receivedAt: Date.now(), readings: [reading(1), reading(2)] };
    const reader = host.read(0, 0, () => undefined);
    const appended = ingest.append(batch, { wait: 'commit' });
    const taken = await eventuallyOne(() => reader.take(1_000_000));
    expect(taken).toHaveLength(1);
    host.committed(0, taken[0].position, []);
    expect(await appended).toMatchObject({ position: taken[0].position });
    expect(await host.at(0, taken[0].position)).toMatchObject({ id: 'a-1' });
    expect(await host.seek(0, 0)).toBeLessThan(taken[0].position);
    const manager = await managerOf('host');
    expect((await manager.streams.purge('TWINS', { filter: 'twins.log.0' })).purged).toBe(1);
    expect(violations).toEqual([]);
  });

  it.each([
    '$JS.API.STREAM.DELETE.TWINS',
    '$JS.API.STREAM.PURGE.TWINS',
    '$JS.API.STREAM.UPDATE.TWINS',
    '$JS.API.STREAM.CREATE.OTHER',
    '$JS.API.STREAM.MSG.DELETE.TWINS',
    '$JS.API.STREAM.MSG.GET.TWINS',
    '$JS.API.DIRECT.GET.TWINS',
    '$JS.API.CONSUMER.CREATE.TWINS.c.twins.log.1',
    '$JS.API.CONSUMER.DELETE.TWINS.c',
    '$JS.API.STREAM.SNAPSHOT.TWINS',
    '$JS.API.STREAM.RESTORE.TWINS',
    '$JS.API.ACCOUNT.PURGE.PLANT',
    '$SYS.REQ.SERVER.PING',
    'twins.note.x',
    'anything.else',
  ])('refuse to ingest: %s', async (subject) => {
    expect(await refusal('ingest', subject)).toMatch(/permissions/i);
  });

  it('refuse to gateway, history and inference what ingest may, and to a host what nobody may', async () => {
    expect(await refusal('ingest', 'twins.log.1')).toBeNull();
    for (const user of ['gateway', 'history', 'inference'] as const) {
      for (const subject of [
        'twins.log.1',
        'twins.note.x',
        '$JS.API.STREAM.PURGE.TWINS',
        '$JS.API.STREAM.DELETE.TWINS',
      ])
        expect([user, subject, await refusal(user, subject)]).toEqual([
          user,
          subject,
          expect.stringMatching(/permissions/i),
        ]);
      expect(await refusal(user, 'MOL-twinmesh.DISCOVER')).toBeNull();
    }
    for (const subject of [
      '$JS.API.STREAM.DELETE.TWINS',
      '$JS.API.STREAM.CREATE.OTHER',
      '$JS.API.STREAM.MSG.DELETE.TWINS',
    ])
      expect([subject, await refusal('host', subject)]).toEqual([subject, expect.stringMatching(/permissions/i)]);
  });

  it('keep the stream through an attempt to delete it', async () => {
    const before = (await (await managerOf('host')).streams.info('TWINS')).created;
    await expect((await managerOf('ingest')).streams.delete('TWINS')).rejects.toThrow();
    await expect((await managerOf('ingest')).streams.purge('TWINS')).rejects.toThrow();
    await expect((await managerOf('host')).streams.delete('TWINS')).rejects.toThrow();
    expect((await (await managerOf('host')).streams.info('TWINS')).created).toBe(before);
  });

  it('let nobody listen to what he has no business with', async () => {
    for (const [user, subject] of [
      ['ingest', 'twins.log.>'],
      ['gateway', 'twins.in.>'],
      ['history', '>'],
      ['host', '$SYS.>'],
    ] as const) {
      const connection = await connect({ servers: `127.0.0.1:${server!.port}`, user, pass: passwordOf(user) });
      const failed = new Promise<string>((resolve) => {
        connection.subscribe(subject, { callback: (error) => error && resolve(error.message) });
      });
      expect([user, subject, await failed]).toEqual([user, subject, expect.stringMatching(/permissions/i)]);
      await connection.close();
    }
  });
});

function reading(n: number) {
  return { kind: 'machine', id: `M${n}`, at: Date.now(), values: { temperature: 20 + n } };
}

async function eventuallyOne<T>(take: () => readonly T[]): Promise<readonly T[]> {
  for (let tries = 0; ; tries++) {
    if (tries > 500) throw new Error('nothing came');
    const taken = take();
    if (taken.length > 0) return taken;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
