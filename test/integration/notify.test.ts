import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SMTPServer } from 'smtp-server';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Sql } from '../../actors/store/sql.ts';
import { listNotifications, queueStates } from '../../services/notify/list.ts';
import { Notifying } from '../../services/notify/notifying.ts';
import { type LocalReceiver, localReceiver } from '../unit/notify/local-receiver.ts';
import { alertOf, event } from '../unit/notify/sample.ts';
import { openDatabase } from '../unit/queries/database.ts';

/** Each receiver against a local one that fails, is slow, hangs, is gone, or wants to be left alone. */
let sql: Sql;
let folder: string;
let file: string;
const open: Notifying[] = [];
const servers: LocalReceiver[] = [];
const said: string[] = [];

beforeAll(async () => {
  sql = await openDatabase();
  folder = mkdtempSync(join(tmpdir(), 'tm-notify-'));
  file = join(folder, 'notifiers.json');
});
beforeEach(async () => {
  await sql.exec('truncate notifications, notify_cooldowns, notify_bursts, notify_escalations');
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.stop()));
  await Promise.all(servers.splice(0).map((one) => one.stop()));
});
afterAll(async () => {
  await sql.close();
  rmSync(folder, { recursive: true });
});

const ENV = { SIGN: 'signing-secret-1', PD: 'routing-key-77', SLACK: '', SMTP: '' };

async function server(): Promise<LocalReceiver> {
  const one = await localReceiver();
  servers.push(one);
  return one;
}

function write(receivers: Record<string, unknown>, more: Record<string, unknown> = {}): void {
  const names = Object.keys(receivers);
  const rules = [
    { name: 'all', events: ['alert', 'anomaly', 'maintenance'], receivers: names, cooldown_s: 0, group: false },
  ];
  writeFileSync(file, JSON.stringify({ receivers, rules, ...more }));
}

async function start(node = 'n1'): Promise<Notifying> {
  const logger = {
    info: (fields: object, message: string) => void said.push(JSON.stringify({ fields, message })),
    warn: (fields: object, message: string) => void said.push(JSON.stringify({ fields, message })),
  };
  const secrets = { env: ENV, readFile: () => '' };
  const one = new Notifying({ file, sql, node, secrets, logger, firstPauseMs: 20, longestMs: 100, everyMs: 20 });
  open.push(one);
  await one.start();
  return one;
}

const tell = (notifying: Notifying, ...ids: string[]) =>
  notifying.sink.deliver(ids.map((id) => ({ ...alertOf('raised', id), receivedAt: Date.now() })));

async function until<T>(look: () => T | Promise<T>): Promise<NonNullable<T>> {
  for (let i = 0; i < 3_000; i++) {
    const found = await look();
    if (found) return found as NonNullable<T>;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('it did not happen');
}

const states = async (receiver: string) =>
  (await listNotifications(sql, { receiver, limit: 1_000 })).items.map((row) => row.state);
const allSent = (receiver: string, count: number) =>
  until(async () => {
    const found = await states(receiver);
    return found.length === count && found.every((state) => state === 'sent');
  });

describe('a webhook', () => {
  it('gets each notification once, signed, with headers of its own', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: `${hook.url}/in`, secret: { env: 'SIGN' }, headers: { 'X-Plant': 'north' } } });
    await tell(await start(), 'A', 'B');
    await allSent('w', 2);
    expect(hook.asked).toHaveLength(2);
    const [{ method, path, headers, raw, body }] = hook.taken;
    expect([method, path, headers['x-plant']]).toEqual(['POST', '/in', 'north']);
    expect(headers['content-type']).toBe('application/json; charset=utf-8');
    const [, t, v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['x-twinmesh-signature'])) ?? [];
    expect(v1).toBe(createHmac('sha256', ENV.SIGN).update(`${t}.${raw}`).digest('hex'));
    expect(Math.abs(Number(t) - Date.now() / 1_000)).toBeLessThan(60);
    expect(headers['x-twinmesh-delivery']).toBe('A~raised');
    expect(body).toMatchObject({
      id: 'A~raised',
      rule: 'all',
      type: 'alert.raised',
      action: 'trigger',
      severity: 'high',
      twin: 'machine:M1',
      alert_id: 'A',
      event: { alert_id: 'A', state: 'raised', alert_type: 'hot' },
    });
  });

  it('is tried again after errors, timeouts and lost connections, in order of each alert', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: hook.url, timeout_s: 0.2 } });
    hook.next(500, 'drop', 'hang', 503);
    const notifying = await start();
    await tell(notifying, 'A');
    await notifying.sink.deliver([{ ...alertOf('cleared', 'A'), receivedAt: Date.now() }]);
    await allSent('w', 2);
    expect(hook.taken.map(({ body }) => body.id)).toEqual(['A~raised', 'A~cleared']);
    expect(hook.asked.slice(0, 5).map(({ headers }) => headers['x-twinmesh-delivery'])).toEqual(
      Array.from({ length: 5 }, () => 'A~raised'),
    );
    const { items } = await listNotifications(sql, { receiver: 'w' });
    expect(items.at(-1)).toMatchObject({ attempts: 5 });
  });

  it('is left alone as long as it asks', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: hook.url } });
    hook.next({ status: 429, headers: { 'retry-after': '600' } });
    const notifying = await start();
    await tell(notifying, 'A', 'B');
    await until(async () => (await queueStates(sql, ['w'])).get('w')?.last_error === 'HTTP 429');
    expect(notifying.stateOf('w')).toMatchObject({ state: 'paused', failures: 1 });
    const left = Number(notifying.stateOf('w').pausedUntilMs) - Date.now();
    expect(Math.round(left / 60_000)).toBe(10);
    // The one that failed waits as long itself; the other one only because its receiver does.
    const { items } = await listNotifications(sql, { receiver: 'w' });
    const minutes = items.map((row) => Math.round(Math.abs(Date.parse(String(row.next_at)) - Date.now()) / 60_000));
    expect([minutes, items.map((row) => row.attempts)]).toEqual([
      [0, 10],
      [0, 1],
    ]);
    await tell(notifying, 'C');
    expect(hook.asked).toHaveLength(1);
  });

  it('is not followed elsewhere', async () => {
    const [hook, elsewhere] = [await server(), await server()];
    write({ w: { type: 'webhook', url: hook.url, attempts: 2 } });
    hook.always({ status: 307, headers: { location: `${elsewhere.url}/meta` } });
    await tell(await start(), 'A');
    await until(async () => (await states('w'))[0] === 'dead');
    expect(elsewhere.asked).toHaveLength(0);
    const state = (await queueStates(sql, ['w'])).get('w');
    expect(state).toMatchObject({ dead: 1, waiting: 0, last_error: 'HTTP 307, a redirect, which is not followed' });
  });

  it('that refuses a message for good gets the next one, and not the end of what it refused', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: hook.url } });
    hook.next(400);
    const notifying = await start();
    await tell(notifying, 'A', 'B');
    await until(async () => (await states('w')).includes('sent'));
    await notifying.sink.deliver([{ ...alertOf('cleared', 'A'), receivedAt: Date.now() }]);
    await tell(notifying, 'C');
    await until(async () => (await states('w')).filter((state) => state === 'sent').length === 2);
    expect(hook.taken.map(({ body }) => body.alert_id)).toEqual(['B', 'C']);
  });

  it('that answers without end is read to a bound, and its words are stored without secrets', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: hook.url, secret: { env: 'SIGN' }, attempts: 1 } });
    hook.always({ status: 500, body: `${ENV.SIGN}\u0000\n${'x'.repeat(5_000_000)}` });
    await tell(await start(), 'A');
    await until(async () => (await states('w'))[0] === 'dead');
    const error = (await queueStates(sql, ['w'])).get('w')?.last_error ?? '';
    expect(error).toMatch(/^HTTP 500: … x+$/);
    expect(error.length).toBeLessThanOrEqual(300);
  });
});

describe('a receiver that is dead', () => {
  it('delays neither the sink nor another receiver, and gets everything when it is back', async () => {
    const [dead, alive] = [await server(), await server()];
    write({ dead: { type: 'webhook', url: dead.url, timeout_s: 30 }, alive: { type: 'webhook', url: alive.url } });
    dead.always('hang');
    const notifying = await start();
    const ids = Array.from({ length: 40 }, (_, i) => `A${i}`);
    for (const id of ids) await tell(notifying, id);
    await allSent('alive', 40);
    expect(dead.asked).toHaveLength(1);
    expect((await states('dead')).every((state) => state === 'waiting')).toBe(true);
    // The node stops in the middle of a delivery that hangs; the next one goes on.
    await notifying.stop();
    dead.always(200);
    await start('n2');
    await allSent('dead', 40);
    expect(new Set(dead.taken.map(({ body }) => body.alert_id))).toEqual(new Set(ids));
    expect(dead.taken).toHaveLength(40);
    expect(alive.taken).toHaveLength(40);
  });

  it('is given up at last, one notification after the other', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: hook.url, attempts: 3 } });
    hook.always(503);
    const notifying = await start();
    const events = [alertOf('raised', 'A'), alertOf('raised', 'B'), alertOf('cleared', 'A')];
    await notifying.sink.deliver(events.map((one) => ({ ...one, receivedAt: Date.now() })));
    await until(async () => !(await states('w')).includes('waiting'));
    // Newest first: whoever never heard of A need not hear of its end.
    expect(await states('w')).toEqual(['dropped', 'dead', 'dead']);
    expect(hook.asked).toHaveLength(6);
  });
});

describe('two nodes', () => {
  it('deliver each notification once', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: hook.url } });
    const [one, two] = [await start('n1'), await start('n2')];
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        tell(i % 2 ? one : two, ...Array.from({ length: 5 }, (_, k) => `A${i}-${k}`)),
      ),
    );
    await allSent('w', 50);
    expect(hook.taken).toHaveLength(50);
    expect(new Set(hook.taken.map(({ body }) => body.id)).size).toBe(50);
  });

  it('go on where one of them died, when its claims have run out', async () => {
    const hook = await server();
    write({ w: { type: 'webhook', url: hook.url } });
    const one = await start('n1');
    hook.always('hang');
    await tell(one, 'A');
    await until(() => hook.asked.length === 1);
    // As a node that is killed leaves it: claimed, and nobody there.
    await sql.query(`update notifications set owner = 'gone', claimed_until = now() + interval '300 ms'`);
    hook.always(200);
    await start('n2');
    await until(() => hook.taken.length === 1);
  });
});

describe('Slack', () => {
  it('gets a message in which nobody can hide a command', async () => {
    const hook = await server();
    ENV.SLACK = `${hook.url}/services/T0/B0/token-in-path`;
    write({ s: { type: 'slack', url: { env: 'SLACK' } } });
    const notifying = await start();
    const body = { alertId: 'A', rule: 'hot', severity: 'critical', message: '<!channel> & <https://evil|fine>' };
    await notifying.sink.deliver([event('alert.raised', body, { receivedAt: Date.now() })]);
    await allSent('s', 1);
    expect(hook.taken[0].path).toBe('/services/T0/B0/token-in-path');
    expect(hook.taken[0].body).toMatchObject({
      text: '*CRITICAL* machine:M1: hot',
      attachments: [{ color: '#e01e5a', text: '&lt;!channel&gt; &amp; &lt;https://evil|fine&gt;' }],
    });
    // Slack speaks plain text, and its address is a secret.
    hook.next({ status: 404, body: `no_service at ${ENV.SLACK}` });
    await tell(notifying, 'B');
    await allSent('s', 2);
    const stored = JSON.stringify(await sql.query('select * from notifications'));
    expect(stored).toContain('no_service at');
    expect(stored + said.join()).not.toContain('token-in-path');
  });
});

describe('PagerDuty', () => {
  it('gets trigger, acknowledge and resolve of one incident', async () => {
    const hook = await server();
    write({ pd: { type: 'pagerduty', url: `${hook.url}/v2/enqueue`, routing_key: { env: 'PD' } } });
    hook.always({ status: 202, body: '{"status":"success","message":"Event processed"}' });
    const notifying = await start();
    for (const state of ['raised', 'acknowledged', 'cleared'] as const)
      await notifying.sink.deliver([{ ...alertOf(state, 'A'), receivedAt: Date.now() }]);
    await allSent('pd', 3);
    expect(hook.taken.map(({ body }) => body.event_action)).toEqual(['trigger', 'acknowledge', 'resolve']);
    expect(hook.taken.every(({ body }) => body.dedup_key === 'A' && body.routing_key === ENV.PD)).toBe(true);
    expect(hook.taken[0].body.payload).toMatchObject({
      summary: 'machine:M1: hot: It is too hot.',
      source: 'machine:M1',
      severity: 'error',
      custom_details: { alert_type: 'hot', rule: 'all' },
    });
    expect(JSON.stringify(await sql.query('select * from notifications'))).not.toContain(ENV.PD);
  });
});

describe('e-mail', () => {
  it('goes over SMTP, is tried again after a 4xx and given up after a 5xx', async () => {
    const mails: { from: string; to: string[]; text: string }[] = [];
    const refusals = [450, 0, 550, 0];
    const smtp = new SMTPServer({
      disabledCommands: ['STARTTLS'],
      authOptional: true,
      allowInsecureAuth: true,
      onAuth: ({ username, password }, _session, done) =>
        done(password === 'pa ss' ? null : new Error('no'), { user: username }),
      onData(stream, session, done) {
        let text = '';
        stream.on('data', (chunk: Buffer) => {
          text += chunk.toString('utf8');
        });
        stream.on('end', () => {
          const code = refusals.shift() ?? 0;
          if (code !== 0) return done(Object.assign(new Error('not now'), { responseCode: code }));
          const { mailFrom, rcptTo } = session.envelope;
          mails.push({ from: mailFrom ? mailFrom.address : '', to: rcptTo.map((to) => to.address), text });
          done();
        });
      },
    });
    smtp.listen(0, '127.0.0.1');
    await once(smtp.server, 'listening');
    try {
      const { port } = smtp.server.address() as AddressInfo;
      ENV.SMTP = `smtp://plant:pa%20ss@127.0.0.1:${port}?tls=off`;
      write({
        m: {
          type: 'email',
          url: { env: 'SMTP' },
          from: 'Plant <plant@example.com>',
          to: ['a@example.com', 'b@example.com'],
        },
      });
      const notifying = await start();
      await tell(notifying, 'A');
      await allSent('m', 1);
      await tell(notifying, 'B');
      await until(async () => (await states('m')).includes('dead'));
      await tell(notifying, 'C');
      await until(async () => (await states('m')).filter((state) => state === 'sent').length === 2);
      expect(mails).toHaveLength(2);
      expect(mails[0]).toMatchObject({ from: 'plant@example.com', to: ['a@example.com', 'b@example.com'] });
      expect(mails[0].text).toMatch(/^Subject: \[twinmesh high\] machine:M1: hot\r$/m);
      expect(mails[0].text).toMatch(/^Message-ID: <[0-9a-f]{40}@twinmesh>\r$/m);
      expect(mails[0].text).toContain('It is too hot.');
    } finally {
      await new Promise<void>((resolve) => smtp.close(() => resolve()));
    }
  });
});

describe('the file', () => {
  const changed = (content: () => void) => {
    content();
    // The clock of a file system may be coarse.
    utimesSync(file, new Date(), new Date(Date.now() + Math.random() * 1e6));
  };

  it('is read again when it changes, and stays as it was when it has faults', async () => {
    const [first, second] = [await server(), await server()];
    write({ w: { type: 'webhook', url: first.url } });
    const notifying = await start();
    await tell(notifying, 'A');
    await allSent('w', 1);
    changed(() => writeFileSync(file, '{ "receivers": 3 }'));
    expect(notifying.reload()).toBe(false);
    expect(notifying.fault).toContain('receivers must be an object');
    await tell(notifying, 'B');
    await allSent('w', 2);
    changed(() => write({ w: { type: 'webhook', url: second.url } }));
    expect(notifying.reload()).toBe(true);
    expect(notifying.fault).toBe(null);
    await tell(notifying, 'C');
    await allSent('w', 3);
    expect([first.taken.length, second.taken.length]).toEqual([2, 1]);
  });

  it('that is missing is a fault of the settings', async () => {
    rmSync(file, { force: true });
    await expect(start()).rejects.toMatchObject({ code: 'bad_settings' });
  });
});
