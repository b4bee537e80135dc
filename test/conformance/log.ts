import { describe, expect, it } from 'vitest';
import type { Log, LogBatch, LogMessage } from '../../actors/log/port.ts';
import { shardOf } from '../../actors/protocol/twin-id.ts';

/** Shards of the logs under test. */
export const SHARDS = 16;

/** The id of a mote that belongs to the shard. */
export function moteOf(shard: number): string {
  for (let id = 1; ; id++) if (shardOf(`mote:${id}`, SHARDS) === shard) return String(id);
}

/** What every log has to do: the invariants of actors/log/port.ts. `maxReadings` is the bound a log that is not durable was opened with. */
export function logConformance(name: string, open: (maxReadings: number) => Promise<Log>): void {
  let unique = 0;
  const batch = (shard: number, readings = 1): LogBatch => ({
    shard,
    id: `m${++unique}`,
    receivedAt: 1_750_000_000_000,
    readings: Array.from({ length: readings }, (_, i) => ({
      kind: 'mote',
      id: moteOf(shard),
      at: 1_750_000_000_000 + unique * 1000 + i,
      values: { temperature: 20 },
    })),
  });
  const all = async (take: () => LogMessage[], count: number): Promise<LogMessage[]> => {
    const messages: LogMessage[] = [];
    for (let tries = 0; messages.length < count && tries < 500; tries++) {
      messages.push(...take());
      if (messages.length < count) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return messages;
  };

  describe(`log: ${name}`, () => {
    it('L1 gives positions that grow and hands messages out in that order', async () => {
      const log = await open(1_000);
      const reader = log.read(3, 0, () => {});
      const sent = Array.from({ length: 20 }, () => batch(3, 2));
      const appended = sent.map((b) => log.append(b));
      const messages = await all(() => reader.take(1_000), 20);
      expect(messages.map(({ id }) => id)).toEqual(sent.map(({ id }) => id));
      expect(messages.map(({ readings }) => readings)).toEqual(sent.map(({ readings }) => readings));
      for (let i = 1; i < messages.length; i++) expect(messages[i].position).toBeGreaterThan(messages[i - 1].position);
      log.committed(3, messages[19].position, []);
      await Promise.all(appended);
      await log.close();
    });

    it('L1 keeps shards apart and resumes after a given position', async () => {
      const log = await open(1_000);
      const one = log.append(batch(1));
      const two = log.append(batch(2));
      const readers = [1, 2].map((shard) => log.read(shard, 0, () => {}));
      const [a] = await all(() => readers[0].take(10), 1);
      const [b] = await all(() => readers[1].take(10), 1);
      expect([a.shard, b.shard]).toEqual([1, 2]);
      log.committed(1, a.position, []);
      log.committed(2, b.position, []);
      await Promise.all([one, two]);
      const next = log.append(batch(1));
      const again = log.read(1, a.position, () => {});
      const [c] = await all(() => again.take(10), 1);
      expect(c.position).toBeGreaterThan(a.position);
      log.committed(1, c.position, []);
      await next;
      await log.close();
    });

    it('L3 hands an uncommitted message to the next reader again and closes the one before', async () => {
      const log = await open(1_000);
      const done = log.append(batch(5));
      const first = log.read(5, 0, () => {});
      const [seen] = await all(() => first.take(10), 1);
      const second = log.read(5, 0, () => {});
      const [again] = await all(() => second.take(10), 1);
      expect(again.id).toBe(seen.id);
      expect(first.take(10)).toEqual([]);
      log.committed(5, again.position, []);
      await done;
      await log.close();
    });

    it('tells the reader when there is something to take', async () => {
      const log = await open(1_000);
      let told = 0;
      const reader = log.read(7, 0, () => told++);
      const done = log.append(batch(7));
      const [message] = await all(() => reader.take(10), 1);
      expect(told).toBeGreaterThan(0);
      log.committed(7, message.position, []);
      await done;
      await log.close();
    });

    it('takes at least one message and otherwise about what was asked for', async () => {
      const log = await open(1_000);
      const reader = log.read(8, 0, () => {});
      const done = Promise.all([log.append(batch(8, 50)), log.append(batch(8, 50)), log.append(batch(8, 50))]);
      const first = await all(() => reader.take(10), 1);
      expect(first).toHaveLength(1);
      const rest = await all(() => reader.take(1_000), 2);
      expect(rest).toHaveLength(2);
      log.committed(8, rest[1].position, []);
      await done;
      await log.close();
    });

    it('answers the outcomes of a batch to whoever waits for its commit', async () => {
      const log = await open(1_000);
      const reader = log.read(9, 0, () => {});
      const done = log.append(batch(9, 3), { wait: 'commit' });
      const [message] = await all(() => reader.take(10), 1);
      log.committed(9, message.position, [
        { position: message.position, outcomes: ['accepted', 'duplicate', 'backfill'] },
      ]);
      expect(await done).toEqual({ position: message.position, outcomes: ['accepted', 'duplicate', 'backfill'] });
      await log.close();
    });

    it('L4 waits or refuses when it is full, and loses nothing', async () => {
      const log = await open(100);
      const reader = log.read(4, 0, () => {});
      const outcomes: string[] = [];
      const sent = Array.from({ length: 30 }, () => batch(4, 10));
      const appends = sent.map((b) =>
        log.append(b).then(
          () => outcomes.push(b.id),
          (error) => {
            expect(error.code).toBe('overloaded');
          },
        ),
      );
      const seen: string[] = [];
      for (let tries = 0; tries < 400 && outcomes.length < 30; tries++) {
        const messages = reader.take(1_000);
        // a durable log is bounded in bytes, on its server
        if (!log.durable) expect(messages.reduce((n, m) => n + m.readings.length, 0)).toBeLessThanOrEqual(100);
        for (const { id } of messages) seen.push(id);
        const last = messages.at(-1);
        if (last) log.committed(4, last.position, []);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await Promise.all(appends);
      seen.push(...(await all(() => reader.take(1_000), 30 - seen.length)).map(({ id }) => id));
      expect(outcomes.every((id) => seen.includes(id))).toBe(true);
      expect(new Set(seen).size).toBe(seen.length);
      await log.close();
    });

    it('answers for a position what a reader was given there, and nothing for another shard or none', async () => {
      const log = await open(1_000);
      const appends = [batch(1), batch(2)].map((b) => log.append(b));
      const [message] = await all(
        (
          (reader) => () =>
            reader.take(10)
        )(log.read(1, 0, () => {})),
        1,
      );
      const mark = await log.at(1, message.position);
      if (log.durable) {
        expect(mark).toEqual({ id: message.id, appendedAt: message.appendedAt });
        expect(await log.at(2, message.position)).toBeNull();
        expect(await log.at(1, message.position + 1_000)).toBeNull();
      } else expect(mark).toBe('untracked');
      for (const shard of [1, 2]) log.committed(shard, message.position + 10, []);
      if (log.durable) await Promise.all(appends);
      else for (const append of appends) append.catch(() => {});
      await log.close();
    });

    it('finds the position from which nothing appended since a time is missed', async () => {
      const log = await open(1_000);
      if (!log.durable) {
        expect(await log.seek(6, 0)).toBe(0);
        await log.close();
        return;
      }
      const sent = [batch(6), batch(2), batch(6), batch(6)];
      for (const b of sent) {
        await log.append(b);
        await new Promise((resolve) => setTimeout(resolve, 3));
      }
      const messages = await all(
        (
          (reader) => () =>
            reader.take(10)
        )(log.read(6, 0, () => {})),
        3,
      );
      for (const [i, { position, appendedAt }] of messages.entries()) {
        const after = await log.seek(6, appendedAt);
        expect(after).toBeLessThan(position);
        if (i > 0) expect(after).toBeGreaterThanOrEqual(messages[i - 1].position);
      }
      expect(await log.seek(6, messages[2].appendedAt + 60_000)).toBeGreaterThanOrEqual(messages[2].position);
      expect(await log.seek(6, 0)).toBeLessThan(messages[0].position);
      await log.close();
    });
  });
}
