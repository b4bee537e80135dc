import { cpSync, rmSync } from 'node:fs';
import { connect, headers, type NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { encodeBatch } from '../../actors/log/batch-encoding.ts';
import { JetStreamLog, type JetStreamLogOptions } from '../../actors/log/jetstream.ts';
import type { LogBatch, LogMessage, LogReader } from '../../actors/log/port.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { findNats, type NatsServer } from '../servers/nats.ts';
import { logConformance, moteOf, SHARDS } from './log.ts';

/** The log on a real server, and what is done to that server. */
const MIB = 1024 * 1024;
let names = 0;

const options = (server: NatsServer, given: Partial<JetStreamLogOptions> = {}): JetStreamLogOptions => {
  // subjects of streams must not overlap: every log of this file has its own
  const name = `T${process.pid}_${++names}`;
  return {
    connection: { url: server.url, name: 'test' },
    clock: systemClock,
    shards: SHARDS,
    stream: name,
    prefix: name,
    maxBytes: 16 * MIB,
    ...given,
  };
};

let unique = 0;
const batch = (shard: number, readings = 1, label = 'm'): LogBatch => ({
  shard,
  id: `${label}-${++unique}`,
  receivedAt: 1_750_000_000_000,
  readings: Array.from({ length: readings }, (_, i) => ({
    kind: 'mote',
    id: moteOf(shard),
    at: 1_750_000_000_000 + unique * 1000 + i,
    values: { temperature: 20 + i / 3 },
  })),
});

async function until<T>(what: () => T | null | undefined | false, withinMs = 15_000): Promise<T> {
  for (const end = Date.now() + withinMs; Date.now() < end; ) {
    const found = what();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`It did not happen within ${withinMs} ms: ${what}`);
}

async function takes(reader: LogReader, count: number): Promise<LogMessage[]> {
  const messages: LogMessage[] = [];
  await until(() => {
    messages.push(...reader.take(10_000));
    return messages.length >= count;
  });
  return messages;
}

const rowOf = ({ shard, position, id, appendedAt }: LogMessage) => ({
  shard,
  position,
  positionId: id,
  positionAt: appendedAt,
});

const shared = await findNats({ own: true });
afterAll(() => shared?.stop());

describe.runIf(shared)('the log on JetStream', () => {
  const opened: JetStreamLog[] = [];
  let raw: NatsConnection;
  const open = async (given: Partial<JetStreamLogOptions> = {}, server = shared!): Promise<JetStreamLog> => {
    const log = await JetStreamLog.open(options(server, given));
    opened.push(log);
    return log;
  };
  beforeAll(async () => {
    raw = await connect({ servers: shared!.url });
  });
  afterEach(async () => {
    for (const log of opened.splice(0)) await log.close();
  });
  afterAll(() => raw.close());

  logConformance('jetstream', () => JetStreamLog.open(options(shared!)));

  it('keeps what it took for whoever opens it next', async () => {
    const given = options(shared!);
    const log = await open(given);
    const sent = [batch(1, 3), batch(1, 2)];
    for (const b of sent) await log.append(b);
    await log.close();
    const [first, second] = await takes(
      (await open(given)).read(1, 0, () => {}),
      2,
    );
    expect([first, second].map(({ id, readings }) => ({ id, readings }))).toEqual(
      sent.map(({ id, readings }) => ({ id, readings })),
    );
    expect(Math.abs(first.appendedAt - Date.now())).toBeLessThan(60_000);
  });

  it('recognises a batch that is sent again', async () => {
    const log = await open();
    const b = { ...batch(1), trace: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' };
    const first = await log.append(b);
    expect(await log.append(b)).toEqual(first);
    await log.append(batch(1));
    const messages = await takes(
      log.read(1, 0, () => {}),
      2,
    );
    expect(messages).toHaveLength(2);
    expect(messages[0].trace).toBe(b.trace);
    expect(log.status()).toMatchObject({ published: 2, duplicates: 1 });
  });

  it('splits what is larger than a message may be', async () => {
    const log = await open();
    const b = batch(2, 3_000);
    for (const [i, reading] of b.readings.entries()) reading.key = `${i}-${'k'.repeat(500)}`;
    const reader = log.read(2, 0, () => {});
    const done = log.append(b, { wait: 'commit' });
    const messages = await takes(reader, 2);
    expect(messages.flatMap(({ readings }) => readings)).toEqual(b.readings);
    log.committed(
      2,
      messages[1].position,
      messages.map(({ position, readings }) => ({ position, outcomes: readings.map(() => 'accepted' as const) })),
    );
    expect((await done).outcomes).toHaveLength(3_000);
    b.readings = [{ ...b.readings[0], key: 'k'.repeat(2 * MIB) }];
    await expect(log.append({ ...b, id: 'huge' })).rejects.toMatchObject({ code: 'too_large' });
  });

  it('skips a message that cannot be read, tells of it with its bytes, and goes on', async () => {
    const told: { position: number; id: string | null; bytes: Uint8Array; reason: string }[] = [];
    const given = options(shared!, { onUndecodable: (message) => told.push(message) });
    const log = await open(given);
    await log.append(batch(3));
    const head = headers();
    head.set('Nats-Msg-Id', 'broken');
    raw.publish(`${given.prefix}.log.3`, Uint8Array.of(1, 2, 3), { headers: head });
    raw.publish(`${given.prefix}.log.3`, encodeBatch(batch(3)));
    head.set('Nats-Msg-Id', 'elsewhere');
    raw.publish(`${given.prefix}.log.3`, encodeBatch(batch(4)), { headers: head });
    await raw.flush();
    const last = await log.append(batch(3));
    const messages = await takes(
      log.read(3, 0, () => {}),
      2,
    );
    expect(messages.map(({ position }) => position)).toEqual([1, last.position]);
    expect(told.map(({ position, id }) => ({ position, id }))).toEqual([
      { position: 2, id: 'broken' },
      { position: 3, id: null },
      { position: 4, id: 'elsewhere' },
    ]);
    expect([...told[0].bytes]).toEqual([1, 2, 3]);
    expect(told[2].reason).toContain('not of this shard');
    expect(log.status().undecodable).toBe(3);
  });

  it('refuses when it is full, keeps all it has, and takes again after what is committed is trimmed', async () => {
    const log = await open({ maxBytes: MIB });
    const kept: string[] = [];
    let refused: LogBatch | null = null;
    for (let i = 0; i < 2_000 && refused === null; i++) {
      const b = batch(5, 500);
      await log.append(b).then(
        () => kept.push(b.id),
        (error) => {
          expect(error).toMatchObject({ code: 'overloaded' });
          refused = b;
        },
      );
    }
    expect(refused).not.toBeNull();
    const messages = await takes(
      log.read(5, 0, () => {}),
      kept.length,
    );
    expect(messages.map(({ id }) => id)).toEqual(kept);
    const last = messages.at(-1)!;
    // another shard's message is in nobody's way
    expect(await log.trim([rowOf(last)], 10)).toEqual({ messages: kept.length - 10, doubtful: 0 });
    expect(await log.trim([rowOf(last)], 0)).toEqual({ messages: 9, doubtful: 0 });
    expect(await log.at(5, last.position)).toEqual({ id: last.id, appendedAt: last.appendedAt });
    await log.append(refused!);
    expect((await log.size()).messages).toBe(2);
  });

  it('trims each shard to its own position, and none whose position names another message', async () => {
    const log = await open();
    for (let i = 0; i < 5; i++) for (const shard of [1, 2, 3, 4]) await log.append(batch(shard));
    const [one] = (
      await takes(
        log.read(1, 0, () => {}),
        5,
      )
    ).slice(4);
    const [two] = await takes(
      log.read(2, 0, () => {}),
      5,
    );
    const [three] = (
      await takes(
        log.read(3, 0, () => {}),
        5,
      )
    ).slice(4);
    const rows = [
      rowOf(one),
      rowOf(two),
      { ...rowOf(three), positionAt: three.appendedAt - 1 },
      { shard: 4, position: 0, positionId: null, positionAt: null },
    ];
    expect(await log.trim(rows, 0)).toEqual({ messages: 4, doubtful: 1 });
    expect(
      await takes(
        log.read(1, 0, () => {}),
        1,
      ),
    ).toHaveLength(1);
    for (const shard of [2, 3, 4])
      expect(
        await takes(
          log.read(shard, 0, () => {}),
          5,
        ),
      ).toHaveLength(5);
  });

  it('gives an existing stream its settings, and says what it cannot change', async () => {
    const given = options(shared!);
    const manager = await raw.jetstreamManager();
    await manager.streams.add({ name: given.stream!, subjects: [`${given.prefix}.log.*`], max_age: 1e9 * 3600 });
    await open(given);
    expect((await manager.streams.info(given.stream!)).config).toMatchObject({
      max_age: 0,
      discard: 'new',
      max_bytes: 16 * MIB,
    });
    const memory = options(shared!);
    await manager.streams.add({ name: memory.stream!, subjects: ['elsewhere.*'], storage: 'memory' as never });
    await expect(JetStreamLog.open(memory)).rejects.toMatchObject({ code: 'bad_settings' });
    await manager.streams.delete(memory.stream!);
    await expect(JetStreamLog.open(options(shared!, { replicas: 3 }))).rejects.toMatchObject({ code: 'bad_settings' });
  });

  it('makes a consumer anew that was taken away or brings nothing, and tells the host', async () => {
    const given = options(shared!);
    const log = await open(given);
    let told = 0;
    const reader = log.read(
      6,
      0,
      () => {},
      () => told++,
    );
    await log.append(batch(6));
    await takes(reader, 1);
    const manager = await raw.jetstreamManager();
    const [consumer] = await manager.consumers.list(given.stream!).next();
    const before = log.connections;
    await manager.consumers.delete(given.stream!, consumer.name);
    await log.append(batch(6));
    expect(await takes(reader, 1)).toHaveLength(1);
    expect(told).toBe(1);
    expect(log.connections).toBe(before + 1);
    // a consumer that skips what is there, as a stalled one would
    const [second] = await manager.consumers.list(given.stream!).next();
    await manager.consumers.pause(given.stream!, second.name, new Date(Date.now() + 3_600_000));
    await log.append(batch(6));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(reader.take(10)).toEqual([]);
    expect(await log.look()).toEqual([6]);
    expect(await takes(reader, 1)).toHaveLength(1);
    expect(log.status().stalls).toBe(1);
    expect(await log.look()).toEqual([]);
  });

  it('makes a stream anew that somebody removed, and has everything that was known of the one before looked up again', async () => {
    const given = options(shared!);
    const log = await open(given);
    let told = 0;
    const reader = log.read(
      5,
      0,
      () => {},
      () => told++,
    );
    for (let i = 0; i < 3; i++) await log.append(batch(5));
    const taken = await takes(reader, 3);
    const waiting = log.append(batch(4), { wait: 'commit' });
    const refused = expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
    await until(() => log.status().published === 4);
    const before = log.connections;
    await (await raw.jetstreamManager()).streams.delete(given.stream!);
    const again = batch(5);
    for (let took = false; !took; ) {
      took = await log.append(again).then(
        () => true,
        () => new Promise<boolean>((resolve) => setTimeout(resolve, 20, false)),
      );
    }
    // numbers begin again: whoever waits for the commit of a lost one must not be told of another that has its number
    await refused;
    await until(() => told > 0);
    expect(log.connections).toBeGreaterThan(before);
    expect(await log.at(5, taken[2].position)).toBeNull();
    expect(await log.at(5, 1)).toMatchObject({ id: again.id });
    const fresh = log.read(5, 0, () => {});
    expect((await takes(fresh, 1))[0].id).toBe(again.id);
  });

  it('reads on after a delivery was lost, without a gap and without anything twice', async () => {
    const given = options(shared!);
    const log = await open(given);
    const reader = log.read(7, 0, () => {});
    await log.append(batch(7));
    await takes(reader, 1);
    // somebody else takes one delivery of the consumer
    const manager = await raw.jetstreamManager();
    const [consumer] = await manager.consumers.list(given.stream!).next();
    let stolen = 0;
    const thief = raw.subscribe('stolen.7', { callback: () => stolen++ });
    raw.publish(`$JS.API.CONSUMER.MSG.NEXT.${given.stream}.${consumer.name}`, '{"batch":1,"expires":60000000000}', {
      reply: 'stolen.7',
    });
    await raw.flush();
    const sent: number[] = [];
    for (let i = 0; i < 4; i++) sent.push((await log.append(batch(7))).position);
    const messages = await takes(reader, 4);
    expect(messages.map(({ position }) => position)).toEqual(sent);
    expect(stolen).toBe(1);
    expect(log.status().gaps).toBe(1);
    thief.unsubscribe();
  });

  it('learns of a commit from the database when the note is lost, but not of a position that names another message', async () => {
    let asked = 0;
    let rows: Parameters<JetStreamLog['trim']>[0] = [];
    const given = options(shared!);
    const positions = async () => {
      asked++;
      return rows;
    };
    const log = await open({ ...given, positions, askAfterMs: 50 });
    const host = await open(given);
    let done: unknown = null;
    const waiting = log.append(batch(8, 2), { wait: 'commit' }).then((appended) => {
      done = appended;
    });
    const [message] = await takes(
      host.read(8, 0, () => {}),
      1,
    );
    // killed between commit and note; the row is one of before the log went back
    rows = [{ ...rowOf(message), position: message.position + 5 }];
    const before = asked;
    await until(() => asked >= before + 2);
    expect(done).toBeNull();
    rows = [rowOf(message)];
    await waiting;
    expect(done).toEqual({ position: message.position });
    expect(log.status().lostNotes).toBe(1);
  });

  it('carries outcomes from one process to another, also when the message is read again by the next owner', async () => {
    const given = options(shared!);
    const [ingest, first, second] = [await open(given), await open(given), await open(given)];
    const done = ingest.append(batch(9, 2), { wait: 'commit' });
    await takes(
      first.read(9, 0, () => {}),
      1,
    );
    await first.close();
    const [message] = await takes(
      second.read(9, 0, () => {}),
      1,
    );
    second.committed(9, message.position, [{ position: message.position, outcomes: ['accepted', 'poison'] }]);
    expect(await done).toEqual({ position: message.position, outcomes: ['accepted', 'poison'] });
  });
});

describe.runIf(shared)('the log on JetStream, when the server is not spared', () => {
  /** Ended with the test, however that ends. */
  const own = async () => {
    const server = (await findNats({ own: true }))!;
    onTestFinished(() => server.stop());
    const log = await JetStreamLog.open(options(server));
    onTestFinished(() => log.close());
    return { server, log };
  };

  it('loses nothing acknowledged when the server is killed under appends, and readers go on', async () => {
    const { server, log } = await own();
    const acknowledged = new Set<string>();
    let going = true;
    let told = 0;
    const readers = [1, 2].map((shard) =>
      log.read(
        shard,
        0,
        () => {},
        () => told++,
      ),
    );
    const seen = [new Set<string>(), new Set<string>()];
    const again: string[] = [];
    const poll = setInterval(() => {
      for (const [i, reader] of readers.entries())
        for (const { id } of reader.take(1_000)) {
          if (seen[i].has(id)) again.push(id);
          seen[i].add(id);
        }
    }, 2);
    const append = async (shard: number): Promise<void> => {
      while (going) {
        const b = batch(shard, 20);
        for (;;) {
          const failed = await log.append(b).then(
            () => null,
            (error) => error,
          );
          if (failed === null) break;
          expect(failed).toMatchObject({ code: 'unavailable' });
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        acknowledged.add(b.id);
      }
    };
    const appends = [1, 2, 1, 2, 1, 2].map((shard) => append(shard));
    for (let kills = 0; kills < 2; kills++) {
      const before = acknowledged.size;
      await until(() => acknowledged.size > before + 200);
      await server.kill();
      // told so at once, not when the acknowledgement is overdue
      await expect(log.append(batch(3))).rejects.toThrow('The connection to the log is lost.');
      await server.restart();
      await until(() => acknowledged.size > before + 400);
    }
    going = false;
    await Promise.all(appends);
    await until(() => seen[0].size + seen[1].size >= acknowledged.size);
    clearInterval(poll);
    const missing = [...acknowledged].filter((id) => !seen.some((set) => set.has(id)));
    expect(missing).toEqual([]);
    expect(again).toEqual([]);
    expect(told).toBeGreaterThanOrEqual(4);
    expect(log.connections).toBeGreaterThanOrEqual(2);
    expect(log.status().reconnects).toBe(2);
  });

  it('says the truth of a log that was restored from an older copy, also after it has grown again', async () => {
    const { server, log } = await own();
    const copy = `${server.storeDir}-copy`;
    onTestFinished(() => rmSync(copy, { recursive: true, force: true }));
    const reader = log.read(
      1,
      0,
      () => {},
      () => reconnected.push(log.connections),
    );
    const reconnected: number[] = [];
    for (let i = 0; i < 3; i++) await log.append(batch(1));
    await takes(reader, 3);
    await server.kill();
    cpSync(server.storeDir!, copy, { recursive: true });
    await server.restart();
    await until(() => log.status().connected);
    await until(() => reconnected.length === 1);
    for (let i = 0; i < 4; i++) await log.append(batch(1));
    const lost = await takes(reader, 4);
    expect(lost.map(({ position }) => position)).toEqual([4, 5, 6, 7]);
    const waiting = log.append(batch(2), { wait: 'commit' });
    const refused = expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
    await until(() => log.status().inFlightBytes === 0 && log.status().published === 8);

    await server.kill();
    rmSync(server.storeDir!, { recursive: true });
    cpSync(copy, server.storeDir!, { recursive: true });
    await server.restart();
    await until(() => log.status().connected && reconnected.length === 2);
    expect(await log.at(1, 7)).toBeNull();
    expect(await log.at(1, 3)).not.toBeNull();
    await refused;
    // grown beyond: another message stands at the position
    for (let i = 0; i < 6; i++) await log.append(batch(1));
    const mark = await log.at(1, 7);
    expect(mark).not.toBeNull();
    expect(mark!.id).not.toBe(lost[3].id);
    // nothing of it may be thrown away for what was committed before
    expect(await log.trim([rowOf(lost[3])], 0)).toEqual({ messages: 0, doubtful: 1 });
    const after = await log.seek(1, lost[3].appendedAt - 60_000);
    expect(
      await takes(
        log.read(1, after, () => {}),
        9,
      ),
    ).toHaveLength(9);
  });
});
