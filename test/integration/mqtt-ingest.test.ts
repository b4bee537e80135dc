import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import type { ServiceSchema } from 'moleculer';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import deadLetters from '../../services/dead-letters.service.ts';
import { publishDeltas } from '../../services/ingest/mqtt-events.ts';
import type { IngestStatus } from '../../services/ingest.service.ts';
import ingest from '../../services/ingest.service.ts';
import { enrolDevice } from '../../services/keys/enrolment.ts';
import { doorstepOf } from '../../services/keys/sketch.ts';
import { BAD_MESSAGES, goodMessage, ODD_BUT_GOOD, tenMegabytes } from '../fixtures/bad-input/corpus.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from './gateway/node.ts';

/** The whole way: a real node with the embedded database, its MQTT broker and its gateway. */
let node: GatewayNode;
let operator: MqttClient;
const clients: MqttClient[] = [];

beforeAll(async () => {
  node = await startGateway({ services: [...GATEWAY_SERVICES, ingest, deadLetters] as unknown as ServiceSchema[] });
  operator = await connect(node.keys.operator);
});
afterAll(async () => {
  await operator?.endAsync(true);
  await node?.stop();
});
afterEach(async () => {
  for (const client of clients.splice(0)) await client.endAsync(true);
});

const status = () => node.broker.call<IngestStatus>('ingest.status');

async function connect(key: string, options: IClientOptions = {}): Promise<MqttClient> {
  const { port } = (await status()).mqtt;
  return mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
    username: 'any',
    password: key,
    reconnectPeriod: 0,
    ...options,
  });
}

async function join(key: string, options?: IClientOptions): Promise<MqttClient> {
  const client = await connect(key, options);
  clients.push(client);
  return client;
}

async function enrol(id: string, gateway = false): Promise<string> {
  const { sql, kinds, settings } = node.parts;
  const enrolment = await enrolDevice(
    { sql, kinds, doorstep: doorstepOf(settings) },
    { name: id, kind: 'machine', id, gateway },
    'test',
  );
  return enrolment.key;
}

interface Row {
  id: number;
  code: string;
  source: string;
  message: string;
  payload: string;
  twin_id: string | null;
}

/** Dead letters behind an id, once nothing more is waiting to be written. */
async function letters(after: number): Promise<Row[]> {
  let seen = -1;
  for (;;) {
    const rows = await node.parts.sql.query<Row>('select * from dead_letters where id > $1 order by id', [after]);
    if (rows.length === seen) return rows;
    seen = rows.length;
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

async function newest(): Promise<number> {
  return (await letters(0)).at(-1)?.id ?? 0;
}

async function history(id: string): Promise<{ at: Date; temperature: number }[]> {
  return node.parts.sql.query(
    `select r.at, r.temperature from machine_readings r join twins t on t.twin = r.twin where t.twin_id = $1 order by r.at`,
    [`machine:${id}`],
  );
}

const telemetry = (body: string | Buffer, key: string, headers: Record<string, string> = {}) =>
  node.http('POST', '/api/v1/telemetry', {
    key,
    raw: body,
    headers: { 'content-type': 'application/json', ...headers },
  });

describe('MQTT', () => {
  it('has stored a message when it acknowledges it', async () => {
    await operator.publishAsync('twins/machine/MQ1/telemetry', goodMessage('MQ1'), { qos: 1 });
    const twin = await node.http('GET', '/api/v1/twins/machine:MQ1', { key: node.keys.viewer });
    expect(twin.json.data).toMatchObject({ revision: 1, reported: { temperature: 60.5 } });
  });

  it('takes every kind in its own format on its own topic', async () => {
    const now = new Date().toISOString();
    await operator.publishAsync(
      'ev/battery/telemetry',
      JSON.stringify({ battery_id: 'EV-9', timestamp: now, SoC: 50 }),
      { qos: 1 },
    );
    await operator.publishAsync(
      'factory/machines/MQ2/readings',
      JSON.stringify({ timestamp: now, readings: { power: 9 } }),
      { qos: 1 },
    );
    await operator.publishAsync('building/motes/9/readings', JSON.stringify({ mote_id: 9, light: 1, timestamp: now }), {
      qos: 1,
    });
    await operator.publishAsync('iot/data', JSON.stringify({ device_id: 'd9', sensor_type: 'co2', value: 400 }), {
      qos: 1,
    });
    for (const twinId of ['battery:EV-9', 'machine:MQ2', 'mote:9', 'device:d9']) {
      expect((await node.http('GET', `/api/v1/twins/${twinId}`, { key: node.keys.viewer })).status).toBe(200);
    }
  });

  it('counts nothing twice, however often it is sent', async () => {
    for (let i = 0; i < 3; i++)
      await operator.publishAsync('twins/machine/MQ3/telemetry', goodMessage('MQ3'), { qos: 1 });
    expect(await history('MQ3')).toHaveLength(1);
  });

  it('takes one connection’s thousands of messages in, each once', async () => {
    const base = Date.UTC(2026, 0, 1);
    const sent = Array.from({ length: 5000 }, (_, i) =>
      operator.publishAsync(`twins/machine/MANY${i % 50}/telemetry`, goodMessage(`MANY${i % 50}`, base + i), {
        qos: 1,
      }),
    );
    await Promise.all(sent);
    const [{ rows }] = await node.parts.sql.query<{ rows: number }>(
      `select count(*)::int as rows from machine_readings r join twins t on t.twin = r.twin where t.twin_id like 'machine:MANY%'`,
    );
    expect(rows).toBe(5000);
  });

  it('lets a device speak as itself, and only the good of its messages count', async () => {
    const before = await newest();
    const device = await join(await enrol('SELF'));
    await device.publishAsync('twins/machine/SELF/telemetry', goodMessage('SELF'), { qos: 1 });
    await device.publishAsync('twins/machine/OTHER/telemetry', goodMessage('OTHER'), { qos: 1 });
    await device.publishAsync('factory/machines/OTHER/readings', '{"readings":{"power":1}}', { qos: 1 });
    await device.publishAsync('$SYS/x', 'x', { qos: 1 });
    await device.publishAsync('twins/machine/SELF/events/alerts', '{"fake":true}', { qos: 1 });
    const viewer = await join(node.keys.viewer);
    await viewer.publishAsync('twins/machine/SELF/telemetry', goodMessage('SELF', 1e12), { qos: 1 });
    expect((await letters(before)).map(({ code, source }) => `${code} ${source}`)).toEqual([
      'not_yourself mqtt:twins/machine/OTHER/telemetry',
      'not_yourself mqtt:factory/machines/OTHER/readings',
      'unknown_topic mqtt:$SYS/x',
      'unknown_topic mqtt:twins/machine/SELF/events/alerts',
      'forbidden mqtt:twins/machine/SELF/telemetry',
    ]);
    expect(await history('SELF')).toHaveLength(1);
    expect(await history('OTHER')).toHaveLength(0);
  });

  it('shows a device that vanishes as offline, and back online with its next reading', async () => {
    const key = await enrol('GONE');
    const will = { topic: 'twins/machine/GONE/status', payload: Buffer.from('offline'), qos: 1, retain: true } as const;
    const device = await join(key, { will });
    await device.publishAsync('twins/machine/GONE/telemetry', goodMessage('GONE'), { qos: 1 });
    const view = async () =>
      (await node.http('GET', '/api/v1/twins/machine:GONE', { key: node.keys.viewer })).json.data;
    expect((await view()).online).toBe(true);
    device.stream.destroy();
    await expect.poll(async () => (await view()).online, { timeout: 10_000 }).toBe(false);
    expect((await view()).stale).toMatchObject({ reason: 'device silent' });
    const again = await join(key, { will });
    await again.publishAsync('twins/machine/GONE/telemetry', goodMessage('GONE', Date.UTC(2026, 0, 2)), { qos: 1 });
    expect((await view()).online).toBe(true);
  });

  it('ends the connections of a revoked key', async () => {
    const device = await join(await enrol('REVOKED'));
    const answer = await node.http('DELETE', '/api/v1/devices/machine:REVOKED', { key: node.keys.admin });
    expect(answer.status).toBe(200);
    await expect.poll(() => device.connected, { timeout: 5000 }).toBe(false);
  });

  it('brings the delta of desired values to the device, retained, and alerts to whoever listens', async () => {
    await operator.publishAsync('twins/machine/WANT/telemetry', goodMessage('WANT'), { qos: 1 });
    const heard: string[] = [];
    const listener = await join(node.keys.viewer);
    listener.on('message', (topic, payload) => heard.push(`${topic} ${payload.toString()}`));
    await listener.subscribeAsync('twins/machine/WANT/events/#', { qos: 1 });
    await node.http('PATCH', '/api/v1/twins/machine:WANT/desired', {
      key: node.keys.operator,
      body: { fan: 'on', temperature: 60.5 },
    });
    const device = await join(await enrol('WANT'));
    const deltas: string[] = [];
    device.on('message', (topic, payload, packet) => deltas.push(`${topic} ${payload.toString()} ${packet.retain}`));
    await expect
      .poll(
        async () => {
          await device.unsubscribeAsync('twins/machine/WANT/desired/delta');
          await device.subscribeAsync('twins/machine/WANT/desired/delta', { qos: 1 });
          return deltas[0];
        },
        { timeout: 10_000 },
      )
      .toBe('twins/machine/WANT/desired/delta {"fan":"on"} true');

    const hot = { at: Date.now() - 600_000, values: { temperature: 199 } };
    await operator.publishAsync('twins/machine/WANT/telemetry', JSON.stringify(hot), { qos: 1 });
    await operator.publishAsync('twins/machine/WANT/telemetry', JSON.stringify({ ...hot, at: Date.now() }), { qos: 1 });
    await expect
      .poll(() => heard.some((text) => text.startsWith('twins/machine/WANT/events/alerts')), { timeout: 10_000 })
      .toBe(true);
    const alert = heard.find((text) => text.includes('/alerts '))!;
    const body = JSON.parse(alert.slice(alert.indexOf(' ')));
    expect(body).toMatchObject({
      twin: 'machine:WANT',
      state: 'raised',
      alert_type: expect.any(String),
      severity: expect.any(String),
    });
    expect(body.event_id).toMatch(/^machine:WANT~\d+~\d+$/);
  });
});

describe('after a start', () => {
  it('the deltas that stand are retained anew, those that are met are not', async () => {
    const desire = (id: string, body: object) =>
      node.http('PATCH', `/api/v1/twins/machine:${id}/desired`, { key: node.keys.operator, body });
    for (const id of ['D1', 'D2'])
      await operator.publishAsync(`twins/machine/${id}/telemetry`, goodMessage(id), { qos: 1 });
    await desire('D1', { fan: 'on' });
    await desire('D1', { fan: 'off', lamp: true });
    await desire('D2', { fan: 'on' });
    await desire('D2', { fan: null });
    const published = new Map<string, string>();
    await publishDeltas(node.parts.sql, async (topic, payload, { retain }) => {
      expect(retain).toBe(true);
      published.set(topic, payload);
    });
    expect(published.get('twins/machine/D1/desired/delta')).toBe('{"fan":"off","lamp":true}');
    expect(published.has('twins/machine/D2/desired/delta')).toBe(false);
  });
});

describe('bad input over MQTT', () => {
  it('is acknowledged and kept with its reason, and the good messages between are stored', async () => {
    const before = await newest();
    const expected: string[][] = [];
    const sent: Promise<unknown>[] = [];
    for (const [i, { payload, codes }] of BAD_MESSAGES.entries()) {
      expected.push([...codes, 'not_yourself']);
      sent.push(operator.publishAsync('twins/machine/CORPUS/telemetry', payload, { qos: 1 }));
      sent.push(operator.publishAsync(`twins/machine/BETWEEN${i}/telemetry`, goodMessage(`BETWEEN${i}`), { qos: 1 }));
    }
    await Promise.all(sent);
    const kept = await letters(before);
    expect(kept).toHaveLength(BAD_MESSAGES.length);
    for (const [i, letter] of kept.entries()) {
      expect(expected[i], BAD_MESSAGES[i].name).toContain(letter.code);
      expect(letter.source).toBe('mqtt:twins/machine/CORPUS/telemetry');
    }
    const [{ twins }] = await node.parts.sql.query<{ twins: number }>(
      `select count(distinct r.twin)::int as twins from machine_readings r join twins t on t.twin = r.twin where t.twin_id like 'machine:BETWEEN%'`,
    );
    expect(twins).toBe(BAD_MESSAGES.length);
    expect(operator.connected).toBe(true);
  });

  it('of ten megabytes is refused as too large, and its connection goes on', async () => {
    const before = await newest();
    await operator.publishAsync('twins/machine/BIG/telemetry', tenMegabytes(), { qos: 1 });
    await operator.publishAsync('twins/machine/BIG/telemetry', goodMessage('BIG'), { qos: 1 });
    expect(await letters(before)).toMatchObject([{ code: 'too_large', truncated: true }]);
    expect(await history('BIG')).toHaveLength(1);
  });

  it('may be as large as MAX_PAYLOAD_BYTES says', async () => {
    const large = await startGateway({
      env: { MAX_PAYLOAD_BYTES: String(18 * 2 ** 20), MAX_BODY_BYTES: String(18 * 2 ** 20) },
      services: [...GATEWAY_SERVICES, ingest] as unknown as ServiceSchema[],
    });
    try {
      const { mqtt: door } = await large.broker.call<IngestStatus>('ingest.status');
      const sender = await mqtt.connectAsync(`mqtt://127.0.0.1:${door.port}`, {
        username: 'any',
        password: large.keys.operator,
        reconnectPeriod: 0,
      });
      clients.push(sender);
      const padded = goodMessage('WIDE') + ' '.repeat(17 * 2 ** 20);
      await sender.publishAsync('twins/machine/WIDE/telemetry', padded, { qos: 1 });
      const { json } = await large.http('GET', '/api/v1/twins/machine:WIDE', { key: large.keys.viewer });
      expect(json.data.revision).toBe(1);
      const metrics = await large.http('GET', '/metrics');
      expect(metrics.text).toMatch(/^twinmesh_mqtt_refused_sign_ins 0$/m);
      expect(metrics.text).toMatch(/^twinmesh_mqtt_dropped 0$/m);
      await sender.endAsync(true);
    } finally {
      await large.stop();
    }
  });

  it('beyond what a packet may be costs the connection, and is kept too', async () => {
    const before = await newest();
    const device = await join(await enrol('HUGE'));
    device.publish('twins/machine/HUGE/telemetry', Buffer.alloc(17 * 2 ** 20), { qos: 1 }, () => {});
    await expect.poll(() => device.connected, { timeout: 10_000 }).toBe(false);
    expect(await letters(before)).toMatchObject([{ code: 'too_large', source: 'mqtt:' }]);
  });

  it('of any sort never stops the next good message', async () => {
    const topics = fc.constantFrom(
      'iot/data',
      'ev/battery/telemetry',
      'twins/machine/FUZZ/telemetry',
      'twins/machine/FUZZ/status',
      'x/y',
      'twins/\u0001/a/b',
    );
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
      fc.json({ maxDepth: 4 }).map((text) => Buffer.from(text)),
      fc.constantFrom(...BAD_MESSAGES.slice(0, 60).map((bad) => bad.payload)),
    );
    let at = Date.UTC(2026, 1, 1);
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(topics, payload), { maxLength: 10 }), async (messages) => {
        for (const [topic, bytes] of messages) operator.publish(topic, bytes, { qos: 1 });
        await operator.publishAsync('twins/machine/FUZZED/telemetry', goodMessage('FUZZED', at++), { qos: 1 });
        runs++;
      }),
      { numRuns: 100 },
    );
    expect(await history('FUZZED')).toHaveLength(runs);
    expect(operator.connected).toBe(true);
    const { counters, stale } = node.parts.host.status();
    expect([counters.poison, counters.aborted, stale]).toEqual([0, 0, null]);
  });
});

describe('HTTP telemetry', () => {
  it('answers after the commit, message by message', async () => {
    const body = `[${goodMessage('H1')},${goodMessage('H1')},{"twinId":"machine:H1","values":{"temperature":1e9}}]`;
    const answer = await telemetry(body, node.keys.operator);
    expect(answer.status).toBe(200);
    expect(answer.json.data).toMatchObject({
      accepted: 1,
      duplicates: 1,
      rejected: [{ index: 2, code: 'out_of_range' }],
    });
    expect(await history('H1')).toHaveLength(1);
  });

  it('takes NDJSON and gzip, on both paths', async () => {
    const lines = gzipSync(`${goodMessage('H2')}\n${goodMessage('H3')}\n`);
    const headers = { 'content-type': 'application/x-ndjson', 'content-encoding': 'gzip' };
    expect((await telemetry(lines, node.keys.operator, headers)).json.data).toMatchObject({ accepted: 2 });
    const device = { device_id: 'h4', sensor_type: 'co2', value: 400 };
    const answer = await node.http('POST', '/api/data', { key: node.keys.operator, body: device });
    expect(answer.json.data ?? answer.json).toMatchObject({ accepted: 1 });
  });

  it('refuses a gzip bomb, another content type, the anonymous and those who only read', async () => {
    const bomb = gzipSync(Buffer.alloc(200 * 2 ** 20), { level: 9 });
    expect((await telemetry(bomb, node.keys.operator, { 'content-encoding': 'gzip' })).status).toBe(413);
    expect((await telemetry('a,b', node.keys.operator, { 'content-type': 'text/csv' })).status).toBe(415);
    expect((await node.http('POST', '/api/v1/telemetry', { raw: '[]' })).status).toBe(401);
    expect((await telemetry('[]', node.keys.viewer)).status).toBe(403);
  });

  it('holds a device to itself', async () => {
    const key = await enrol('H5');
    const answer = await telemetry(`[${goodMessage('H5')},${goodMessage('H6')}]`, key);
    expect(answer.json.data).toMatchObject({ accepted: 1, rejected: [{ index: 1, code: 'not_yourself' }] });
  });

  it('answers the whole corpus without an error of its own', async () => {
    for (const { name, payload, codes } of BAD_MESSAGES) {
      const answer = await telemetry(payload, node.keys.operator);
      expect(answer.status, name).toBe(200);
      for (const { code } of answer.json.data.rejected) expect(codes, name).toContain(code);
    }
    for (const { name, message } of ODD_BUT_GOOD) {
      const answer = await telemetry(message, node.keys.operator);
      expect(answer.json.data, name).toMatchObject({ accepted: 1, rejected: [] });
    }
    expect((await telemetry(tenMegabytes(), node.keys.operator)).status).toBe(413);
  });
});

describe('dead letters over HTTP', () => {
  it('are listed newest first, filtered, page by page', async () => {
    for (let i = 0; i < 5; i++)
      await telemetry(`{"twinId":"machine:L${i}","values":{"pressure":1e9}}`, node.keys.operator);
    await letters(0);
    const own = await node.http('GET', '/api/v1/dead-letters?twinId=machine:L4', { key: node.keys.viewer });
    expect(own.json.data.items).toMatchObject([{ twinId: 'machine:L4', code: 'out_of_range' }]);
    const pages: number[] = [];
    let cursor = '';
    do {
      const answer = await node.http('GET', `/api/v1/dead-letters?source=http&code=out_of_range&limit=2${cursor}`, {
        key: node.keys.viewer,
      });
      expect(answer.status).toBe(200);
      for (const item of answer.json.data.items) {
        expect(item).toMatchObject({
          code: 'out_of_range',
          source: 'http:/api/v1/telemetry',
          replayedAt: null,
          truncated: false,
        });
        pages.push(item.id);
      }
      cursor = answer.json.data.nextCursor ? `&cursor=${answer.json.data.nextCursor}` : '';
    } while (cursor !== '');
    expect(pages.length).toBeGreaterThanOrEqual(5);
    expect(pages).toEqual([...new Set(pages)].sort((a, b) => b - a));
  });

  it('are replayed through the same door: what can be taken now is, the rest stays', async () => {
    const before = await newest();
    const soon = Date.now() + 400_000;
    await operator.publishAsync(
      'factory/machines/R1/readings',
      JSON.stringify({ timestamp: soon, readings: { power: 5 } }),
      { qos: 1 },
    );
    await operator.publishAsync('factory/machines/R1/readings', '{"readings":{"power":"five"}}', { qos: 1 });
    const ids = (await letters(before)).map(({ id }) => id);
    expect(ids).toHaveLength(2);
    const replay = () => node.http('POST', '/api/v1/dead-letters/replay', { key: node.keys.admin, body: { ids } });
    expect((await replay()).json.data).toMatchObject({
      replayed: 2,
      accepted: 0,
      rejected: [{ code: 'future_time' }, { code: 'wrong_type' }],
    });
    // The reason is mended: the letter's time has come.
    await node.parts.sql.query(`update dead_letters set payload = replace(payload, $1, $2) where id = $3`, [
      String(soon),
      String(Date.now()),
      ids[0],
    ]);
    expect((await replay()).json.data).toMatchObject({
      replayed: 2,
      accepted: 1,
      rejected: [{ id: ids[1], code: 'wrong_type' }],
    });
    expect((await node.http('GET', '/api/v1/twins/machine:R1', { key: node.keys.viewer })).json.data.reported).toEqual({
      power: 5,
    });
    const rows = await node.parts.sql.query<{ replayed: boolean }>(
      'select replayed_at is not null as replayed from dead_letters where id > $1 order by id',
      [before],
    );
    expect(rows).toEqual([{ replayed: true }, { replayed: false }]);
    expect((await node.http('POST', '/api/v1/dead-letters/replay', { key: node.keys.operator, body: {} })).status).toBe(
      403,
    );
  });

  it('are one reading however often they are replayed, and an impostor is replayed only when named', async () => {
    const before = await newest();
    const device = await join(await enrol('R2'));
    device.on('error', () => undefined);
    await device.publishAsync('factory/machines/R3/readings', '{"readings":{"power":6}}', { qos: 1 });
    await operator.publishAsync('factory/machines/R2/readings', '{"readings":{"power":"five"}}', { qos: 1 });
    const [impostor, mended] = await letters(before);
    expect([impostor.code, mended.code]).toEqual(['not_yourself', 'wrong_type']);
    await node.parts.sql.query(`update dead_letters set payload = '{"readings":{"power":5}}' where id = $1`, [
      mended.id,
    ]);
    const replay = async (body: object) =>
      (await node.http('POST', '/api/v1/dead-letters/replay', { key: node.keys.admin, body })).json.data;
    expect(await replay({ after: before })).toMatchObject({ replayed: 1, accepted: 1, lastId: mended.id });
    expect(await replay({ after: before })).toMatchObject({ replayed: 0 });
    expect(await replay({ ids: [mended.id] })).toMatchObject({ replayed: 1, accepted: 0, duplicates: 1 });
    const rows = await node.parts.sql.query(
      'select r.at from machine_readings r join twins t using (twin) where t.twin_id = $1',
      ['machine:R2'],
    );
    const [letter] = await node.parts.sql.query<{ at: Date }>(
      'select received_at as at from dead_letters where id = $1',
      [mended.id],
    );
    expect(rows).toEqual([{ at: letter.at }]);
    expect(await replay({ after: before, code: 'not_yourself' })).toMatchObject({ replayed: 1, accepted: 1 });
  });

  it('come live, and go on after the last one seen', async () => {
    const open = async (lastEventId?: string) => {
      const abort = new AbortController();
      const response = await fetch(`http://127.0.0.1:${node.port}/api/v1/dead-letters/stream?code=unknown_kind`, {
        headers: {
          authorization: `Bearer ${node.keys.viewer}`,
          accept: 'text/event-stream',
          ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
        },
        signal: abort.signal,
      });
      let text = '';
      const reading = (async () => {
        for await (const chunk of response.body!) text += Buffer.from(chunk).toString();
      })().catch(() => {});
      const ids = () => [...text.matchAll(/event: dead-letter\nid: (\d+)\n/g)].map((match) => match[1]);
      return {
        text: () => text,
        ids,
        close: async () => {
          abort.abort();
          await reading;
        },
      };
    };
    const refuse = (i: number) => telemetry(`{"twinId":"dragon:S${i}","values":{"fire":1}}`, node.keys.operator);
    const first = await open();
    await expect.poll(() => first.text()).toContain('event: hello');
    await refuse(1);
    await telemetry('nonsense', node.keys.operator);
    await refuse(2);
    await expect.poll(() => first.ids().length, { timeout: 10_000 }).toBe(2);
    await first.close();
    await refuse(3);
    const second = await open(first.ids()[0]);
    await expect.poll(() => second.ids().length, { timeout: 10_000 }).toBe(2);
    expect(second.ids()[0]).toBe(first.ids()[1]);
    expect(second.text()).toContain('dragon:S3');
    await second.close();
  });
});
