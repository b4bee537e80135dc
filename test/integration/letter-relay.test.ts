import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DeadLetters } from '../../actors/ingress/dead-letters.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { KafkaMessageOut } from '../../mixins/kafka-publisher.ts';
import { LetterRelay } from '../../services/dead-letters/relay.ts';
import { openDatabase } from '../unit/queries/database.ts';

const QUIET = { debug() {}, info() {}, warn() {} };
const until = (what: () => boolean) => expect.poll(what, { timeout: 10_000, interval: 5 }).toBe(true);

describe('dead letters on their way to Kafka', () => {
  let sql: Sql;
  let letters: DeadLetters;
  const relays: LetterRelay[] = [];
  beforeAll(async () => {
    sql = await openDatabase();
  });
  beforeEach(async () => {
    await sql.query('delete from sink_cursors');
    letters = new DeadLetters({ sql, clock: systemClock });
  });
  afterEach(async () => {
    for (const relay of relays.splice(0)) await relay.close();
  });
  afterAll(() => sql.close());

  function relay(publish: (messages: readonly KafkaMessageOut[]) => Promise<void>, leaseMs = 15_000) {
    const made = new LetterRelay({ sql, clock: systemClock, logger: QUIET, publish, pollMs: 20, leaseMs });
    relays.push(made);
    made.open();
    return made;
  }
  const refuse = async (name: string, twinId: string | null = null) => {
    letters.add({
      receivedAt: Date.UTC(2026, 0, 1),
      source: 'mqtt:iot/data',
      code: 'not_json',
      message: 'no',
      twinId,
      payload: name,
    });
    await letters.flush();
  };
  const begun = () =>
    expect
      .poll(async () => (await sql.query('select 1 from sink_cursors')).length, { timeout: 10_000, interval: 5 })
      .toBe(2);
  const payloads = (messages: readonly KafkaMessageOut[]) => messages.map(({ value }) => JSON.parse(value).payload);

  it('leave in the order in which they were stored, from the time that the relay first ran', async () => {
    await refuse('before');
    const out: KafkaMessageOut[] = [];
    relay(async (messages) => void out.push(...messages));
    await begun();
    await refuse('a');
    await refuse('b', 'machine:M1');
    await until(() => out.length === 2);
    expect(payloads(out)).toEqual(['a', 'b']);
    expect(out.map(({ topic, key }) => [topic, key])).toEqual([
      ['dead-letters', 'mqtt:iot/data'],
      ['dead-letters', 'machine:M1'],
    ]);
    expect(JSON.parse(out[1].value)).toMatchObject({
      event_id: expect.stringMatching(/^dead-letter-\d+$/),
      timestamp: '2026-01-01T00:00:00.000Z',
      source: 'mqtt:iot/data',
      code: 'not_json',
      message: 'no',
      twin_id: 'machine:M1',
      truncated: false,
    });
  });

  it('are sent again while Kafka does not take them, and none is left out', async () => {
    const out: KafkaMessageOut[] = [];
    let away = true;
    let tries = 0;
    relay(async (messages) => {
      if (messages.length === 0) return;
      tries++;
      if (away) throw new Error('Kafka is away');
      out.push(...messages);
    });
    await begun();
    await refuse('c');
    await until(() => tries > 0);
    await refuse('d');
    away = false;
    await until(() => out.length === 2);
    expect(payloads(out)).toEqual(['c', 'd']);
  });

  it('are published by one node at a time, and by another when that one is gone', async () => {
    const [one, other]: KafkaMessageOut[][] = [[], []];
    let dead = false;
    const first = relay(async (messages) => {
      // A node that was killed: it neither publishes nor gives anything up.
      if (dead) await new Promise(() => undefined);
      one.push(...messages);
    }, 600);
    await begun();
    await refuse('e');
    await until(() => one.length === 1);
    relay(async (messages) => void other.push(...messages), 600);
    await refuse('f');
    await until(() => one.length === 2);
    expect(other).toEqual([]);
    dead = true;
    relays.splice(relays.indexOf(first), 1);
    await refuse('g');
    await until(() => payloads(other).includes('g'));
    // At least once: what was young comes again, with the same ids.
    expect(payloads(other).sort()).toEqual(['e', 'f', 'g']);
    expect(other.slice(0, 2).map(({ value }) => JSON.parse(value).event_id)).toEqual(
      one.map(({ value }) => JSON.parse(value).event_id),
    );
  });

  it('are taken over at once from a node that stops in order', async () => {
    const [one, other]: KafkaMessageOut[][] = [[], []];
    const first = relay(async (messages) => void one.push(...messages));
    await begun();
    await refuse('h');
    await until(() => one.length === 1);
    relay(async (messages) => void other.push(...messages));
    relays.splice(relays.indexOf(first), 1);
    await first.close();
    await refuse('i');
    await until(() => payloads(other).includes('i'));
  });
});
