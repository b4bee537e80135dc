import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NatsConnection } from 'nats';
import { afterAll, afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { type ConnectOptions, connectNats, natsOptions } from '../../actors/log/jetstream-connection.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { findNats } from '../servers/nats.ts';

const folder = mkdtempSync(join(tmpdir(), 'twinmesh-nats-tls-'));
const at = (name: string) => join(folder, name);
const password = 'correct-horse';
const server = await findNats({
  own: true,
  user: 'twinmesh',
  password,
  config: `authorization { user: twinmesh, password: ${password} }`,
});

describe('the options of a NATS connection', () => {
  const of = (url: string, more = {}) => natsOptions({ url, name: 'test', ...more });

  it('come from the URLs', () => {
    expect(of('nats://u:p%40ss@one:4222, nats://u:p%40ss@two')).toMatchObject({
      servers: ['one:4222', 'two'],
      user: 'u',
      pass: 'p@ss',
      maxReconnectAttempts: -1,
    });
    expect(of('nats://secret@one').token).toBe('secret');
    expect(of('nats://one').tls).toBeUndefined();
    expect(of('tls://one').tls).toEqual({});
  });

  it('are refused where they cannot be meant', () => {
    for (const url of [
      '',
      'one:4222',
      'http://one',
      'nats://a:b@one,nats://c:d@two',
      'nats://a:100%@one',
      'nats://5%@one',
    ])
      expect(() => of(url), url).toThrow(expect.objectContaining({ code: 'bad_settings' }));
    expect(() => of('tls://one', { tls: { caFile: '/nowhere' } })).toThrow(/TLS_CA_FILE/);
    expect(() => of('nats://one', { credentialsFile: '/nowhere' })).toThrow(/NATS_CREDENTIALS_FILE/);
  });
});

describe.runIf(server)('a NATS connection', () => {
  const opened: NatsConnection[] = [];
  const open = async (url: string, more: Partial<ConnectOptions> = {}): Promise<NatsConnection> => {
    const connection = await connectNats({ url, name: 'test', clock: systemClock, ...more });
    opened.push(connection);
    return connection;
  };
  afterEach(async () => {
    for (const connection of opened.splice(0)) await connection.close();
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  it('takes user and password from the URL, and says at once that they are wrong, without repeating them', async () => {
    await (await open(server!.url)).flush();
    const wrong = open(`nats://twinmesh:not-the-password@127.0.0.1:${server!.port}`);
    await expect(wrong).rejects.toMatchObject({ code: 'bad_settings' });
    await expect(wrong).rejects.not.toThrow(/not-the-password/);
  });

  it('gives up only when it is told to, and says what did not answer', async () => {
    const refused = open('nats://u:secret@127.0.0.1:1', { firstWithinMs: 0 });
    await expect(refused).rejects.toMatchObject({ code: 'unavailable' });
    await expect(refused).rejects.toThrow(/127\.0\.0\.1:1/);
    await expect(refused).rejects.not.toThrow(/secret/);
  });

  it('comes back when the server does', async () => {
    const states: string[] = [];
    const connection = await open(server!.url, { onState: (state) => states.push(state) });
    await server!.kill();
    await server!.restart();
    await expect.poll(() => states, { timeout: 10_000 }).toEqual(['lost', 'connected']);
    await connection.flush();
  });

  it('speaks TLS with the given authority, and never plain where the URL says tls:', async () => {
    const openssl = (...args: string[]) => {
      const done = spawnSync('openssl', args, { cwd: folder, encoding: 'utf8' });
      if (done.status !== 0) throw new Error(done.stderr || String(done.error));
    };
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=nats',
      '-addext',
      'subjectAltName=DNS:localhost',
      '-keyout',
      'key.pem',
      '-out',
      'cert.pem',
    );
    const secured = (await findNats({
      own: true,
      config: `tls { cert_file: "${at('cert.pem')}", key_file: "${at('key.pem')}" }`,
    }))!;
    onTestFinished(() => secured.stop());
    const url = `tls://localhost:${secured.port}`;
    await (await open(url, { tls: { caFile: at('cert.pem') }, firstWithinMs: 0 })).flush();
    await expect(open(url, { firstWithinMs: 0 })).rejects.toThrow(/self-signed|certificate/);
    await expect(open(`tls://twinmesh:${password}@127.0.0.1:${server!.port}`)).rejects.toThrow(/offers no TLS/);
  });
});
