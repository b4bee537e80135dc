import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../actors/protocol/clock.ts';
import { MqttClient } from '../../mixins/mqtt-client.ts';
import { tlsFiles } from '../../mixins/tls.ts';
import { ShareGroup } from '../../services/ingest/share-group.ts';
import { makeCertificates } from '../servers/certificates.ts';
import { tcpProxy } from '../servers/tcp-proxy.ts';
import { findMosquitto, Mosquitto } from './mosquitto.ts';

const binary = findMosquitto();
const closing: (() => unknown)[] = [];
const until = (what: () => boolean) => expect.poll(what, { timeout: 60_000, interval: 10 }).toBe(true);
const QUIET = { info() {}, warn() {} };
let groups = 0;

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

describe.skipIf(binary === null)('a share group on Mosquitto', () => {
  let broker: Mosquitto;
  beforeAll(async () => {
    broker = new Mosquitto(binary as string);
    await broker.start();
  });
  afterAll(() => broker.remove());

  /** A node: its connections go through a cable of its own, which can be cut as kill -9 does. `holds`: acknowledges nothing. */
  async function node(
    name: string,
    group: string,
    seen: Map<string, number>,
    options: { retireAfterMs?: number } = {},
  ) {
    const cable = await tcpProxy(broker.port);
    const url = `mqtt://127.0.0.1:${cable.port}`;
    const state = { holds: false };
    const client = (clientId: string, onTakenOver?: () => void) =>
      new MqttClient({
        url,
        clientId,
        filters: ['in/#'],
        shareGroup: group,
        clock: systemClock,
        random: Math.random,
        backoffMs: { first: 50, most: 100 },
        onTakenOver,
        onMessage(_, payload, done) {
          if (state.holds) return;
          const text = Buffer.from(payload).toString();
          seen.set(text, (seen.get(text) ?? 0) + 1);
          done('stored');
        },
      });
    const member = `twinmesh-${name}`;
    const own = client(member);
    const share = new ShareGroup({
      url,
      group,
      member,
      clock: systemClock,
      random: Math.random,
      logger: QUIET,
      standIn: client,
      afterMs: 100,
      ...options,
    });
    share.open(() => own.open());
    let dead = false;
    const kill = async () => {
      if (dead) return;
      dead = true;
      // The cable first: nothing of what the node would say at its end is heard.
      await cable.close();
      own.close();
      await share.close();
    };
    closing.push(async () => {
      if (!dead) {
        await share.close();
        own.close();
      }
      dead = true;
      await cable.close();
    });
    await until(() => own.state === 'connected');
    return { own, share, state, kill };
  }

  async function publisher() {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`);
    closing.push(() => client.endAsync(true));
    return (from: number, to: number) =>
      Promise.all(
        Array.from({ length: to - from }, (_, i) => client.publishAsync('in/x', String(from + i), { qos: 1 })),
      );
  }
  const whole = (seen: Map<string, number>, n: number) => () => seen.size === n;

  it('divides the messages, and loses none that the broker acknowledged when a member is killed', async () => {
    const group = `g${++groups}`;
    const [a, b] = [new Map<string, number>(), new Map<string, number>()];
    const one = await node('one', group, a);
    const other = await node('other', group, b);
    const send = await publisher();
    await send(0, 200);
    await until(() => a.size + b.size === 200);
    expect([a.size, b.size]).toEqual([100, 100]);
    // It dies with messages in its hands, and the broker goes on giving it its share.
    one.state.holds = true;
    await send(200, 300);
    await until(() => b.size === 150);
    await one.kill();
    await send(300, 500);
    await until(() => a.size + b.size === 500);
    expect(other.share.standingInFor).toEqual(['twinmesh-one']);
    await send(500, 600);
    await until(() => a.size + b.size === 600);
    expect(new Set([...a.keys(), ...b.keys()]).size).toBe(600);

    // It comes back, and has its session to itself.
    const again = await node('one', group, a);
    await until(() => other.share.standingInFor.length === 0);
    await send(600, 700);
    await until(() => a.size + b.size === 700);
    expect(again.own.state).toBe('connected');
    expect(a.size).toBeGreaterThan(100);
  });

  it('has one that stands in for a dead member when several could, and another when that one dies', async () => {
    const group = `g${++groups}`;
    const seen = new Map<string, number>();
    const [first, second, third] = [
      await node('first', group, seen),
      await node('second', group, seen),
      await node('third', group, seen),
    ];
    const send = await publisher();
    await first.kill();
    await send(0, 60);
    await until(whole(seen, 60));
    const covering = () => [second, third].filter(({ share }) => share.standingInFor.includes('twinmesh-first'));
    await until(() => covering().length === 1);
    const [keeper] = covering();
    const left = keeper === second ? third : second;
    await keeper.kill();
    await send(60, 120);
    await until(whole(seen, 120));
    await until(() => left.share.standingInFor.length === 2);
  });

  it('ends the session of a member that does not come back, with nothing left in it', async () => {
    const group = `g${++groups}`;
    const seen = new Map<string, number>();
    const gone = await node('gone', group, seen);
    const stays = await node('stays', group, seen, { retireAfterMs: 300 });
    const send = await publisher();
    await gone.kill();
    await send(0, 50);
    await until(whole(seen, 50));
    await until(() => stays.share.standingInFor.length === 1);
    await send(50, 100);
    await until(whole(seen, 100));
    await until(() => stays.share.standingInFor.length === 0);
    await send(100, 150);
    await until(whole(seen, 150));
    // A fourth node hears of no such member any more.
    const heard: string[] = [];
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`);
    closing.push(() => client.endAsync(true));
    client.on('message', (topic) => heard.push(topic));
    await client.subscribeAsync(`twinmesh/${group}/members/+`, { qos: 1 });
    await until(() => heard.length > 0);
    expect(heard).toEqual([`twinmesh/${group}/members/twinmesh-stays`]);
  });
});

describe.skipIf(binary === null)('Mosquitto over TLS with a password', () => {
  it('is reached with the authority that was set, and refused without it or with a wrong password', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'twinmesh-mqtts-'));
    closing.push(() => rmSync(folder, { recursive: true, force: true }));
    const certificates = makeCertificates(folder);
    const passwords = join(folder, 'passwords');
    writeFileSync(passwords, 'node:pw-of-the-test\n', { mode: 0o600 });
    const places = [
      '/usr/bin/mosquitto_passwd',
      '/usr/local/bin/mosquitto_passwd',
      '/opt/homebrew/bin/mosquitto_passwd',
    ];
    const hashed = places.map((place) => spawnSync(place, ['-U', passwords]).status).includes(0);
    expect(hashed).toBe(true);
    const broker = new Mosquitto(binary as string, [
      `cafile ${certificates.caFile}`,
      `certfile ${certificates.certFile}`,
      `keyfile ${certificates.keyFile}`,
      'require_certificate true',
      'allow_anonymous false',
      `password_file ${passwords}`,
    ]);
    await broker.start();
    closing.push(() => broker.remove());
    const files = { tlsCaFile: null, tlsCertFile: certificates.clientCertFile, tlsKeyFile: certificates.clientKeyFile };
    const open = (password: string, tlsCaFile: string | null) => {
      const seen: string[] = [];
      const reasons: string[] = [];
      const client = new MqttClient({
        url: `mqtts://node:${password}@127.0.0.1:${broker.port}`,
        tls: tlsFiles({ ...files, tlsCaFile }),
        clientId: `twinmesh-${password}-${tlsCaFile === null}`,
        filters: ['in/#'],
        clock: systemClock,
        random: Math.random,
        backoffMs: { first: 50, most: 100 },
        onState: (_, reason) => reason !== null && reasons.push(reason),
        onMessage(_, payload, done) {
          seen.push(Buffer.from(payload).toString());
          done('stored');
        },
      });
      closing.push(() => client.close());
      client.open();
      return { client, seen, reasons };
    };
    const good = open('pw-of-the-test', certificates.caFile);
    await until(() => good.client.state === 'connected');
    await good.client.publish('in/a', 'hello', { qos: 1, retain: false });
    await until(() => good.seen[0] === 'hello');
    const wrong = open('another', certificates.caFile);
    await until(() => wrong.reasons.some((reason) => /refuses the connection/.test(reason)));
    const stranger = open('pw-of-the-test', null);
    await until(() => stranger.reasons.some((reason) => /certificate/.test(reason)));
    expect([wrong.client.state, stranger.client.state]).not.toContain('connected');
  });
});
