import { connect, type NatsConnection, StringCodec } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DeadLetter } from '../../actors/ingress/dead-letters.ts';
import { DOOR_LIMITS } from '../../actors/ingress/door.ts';
import { Ingress } from '../../actors/ingress/ingress.ts';
import type { Log } from '../../actors/log/port.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import type { Outcome, Reading } from '../../actors/protocol/reading.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { type NatsAnswer, NatsDoor, type NatsDoorOptions } from '../../services/ingest/nats-door.ts';
import { findNats } from '../servers/nats.ts';

const server = await findNats();
const kinds = await loadKinds();
const text = StringCodec();
const AT = Date.UTC(2026, 0, 1);
const doors: NatsDoor[] = [];

function ingest() {
  const stored: Reading[] = [];
  const letters: DeadLetter[] = [];
  const known = new Set<string>();
  let gate: Promise<void> = Promise.resolve();
  let open: () => void = () => undefined;
  const log = {
    durable: true,
    async append(batch: { readings: Reading[] }) {
      await gate;
      const outcomes = batch.readings.map(({ id, at }): Outcome => {
        const seen = known.has(`${id} ${at}`);
        known.add(`${id} ${at}`);
        return seen ? 'duplicate' : 'accepted';
      });
      stored.push(...batch.readings);
      return { position: stored.length, outcomes };
    },
  } as unknown as Log;
  const ingress = new Ingress({
    log,
    kinds,
    clock: systemClock,
    shards: 4,
    door: { ...DOOR_LIMITS, maxSkewMs: 60_000 },
    json: { maxBytes: 65_536, maxDepth: 16 },
    deadLetters: { add: (letter) => void letters.push(letter) },
    batchPrefix: 'test',
  });
  const hold = () => {
    gate = new Promise((resolve) => {
      open = resolve;
    });
  };
  return { ingress, stored, letters, hold, release: () => open() };
}

describe.skipIf(server === null)('telemetry over core NATS', () => {
  let device: NatsConnection;
  let node: NatsConnection;
  beforeAll(async () => {
    [device, node] = await Promise.all([connect({ servers: server!.url }), connect({ servers: server!.url })]);
  });
  afterEach(async () => {
    for (const door of doors.splice(0)) await door.close();
  });
  afterAll(async () => {
    await Promise.all([device?.close(), node?.close()]);
    await server?.stop();
  });

  async function open(ingress: Ingress, over: Partial<NatsDoorOptions> = {}) {
    const door = new NatsDoor({ connection: node, ingress, clock: systemClock, wait: 'commit', ...over });
    doors.push(door);
    door.open();
    await node.flush();
    return door;
  }
  const ask = async (subject: string, message: unknown): Promise<NatsAnswer> => {
    const payload = typeof message === 'string' ? message : JSON.stringify(message);
    return JSON.parse(text.decode((await device.request(subject, text.encode(payload), { timeout: 5_000 })).data));
  };

  it('answers what became of each reading, and keeps what it refuses', async () => {
    const { ingress, stored, letters } = ingest();
    await open(ingress);
    const reading = { at: AT, values: { temperature: 20 } };
    expect(await ask('twins.in.machine.M1', reading)).toEqual({ accepted: 1, duplicates: 0, rejected: [] });
    expect(await ask('twins.in.machine.M1', reading)).toEqual({ accepted: 0, duplicates: 1, rejected: [] });
    const own = { battery_id: 'EV.7', timestamp: AT, SoC: 50 };
    expect(await ask('twins.in.battery.EV.7', own)).toMatchObject({ accepted: 1 });
    const mixed = [
      { at: AT + 1, values: { temperature: 21 } },
      { at: AT + 2, values: { temperature: 1e9 } },
    ];
    const answer = await ask('twins.in.machine.M1', mixed);
    expect(answer).toMatchObject({ accepted: 1, rejected: [{ index: 1, code: 'out_of_range' }] });
    expect(await ask('twins.in.machine.M1', 'no JSON')).toMatchObject({ rejected: [{ index: 0, code: 'not_json' }] });
    expect(await ask('twins.in.machine.M2', { twinId: 'machine:M3', at: AT, values: { power: 1 } })).toMatchObject({
      rejected: [{ code: 'not_yourself' }],
    });
    expect(await ask('twins.in.rocket.R1', reading)).toMatchObject({ rejected: [{ code: 'unknown_kind' }] });
    expect(letters.map(({ source, code }) => `${source} ${code}`)).toEqual([
      'nats:twins.in.machine.M1 out_of_range',
      'nats:twins.in.machine.M1 not_json',
      'nats:twins.in.machine.M2 not_yourself',
      'nats:twins.in.rocket.R1 unknown_kind',
    ]);
    device.publish('twins.in.machine.M4', text.encode(JSON.stringify(reading)));
    await expect.poll(() => stored.some(({ id }) => id === 'M4'), { timeout: 5_000, interval: 5 }).toBe(true);
  });

  it('is divided between the nodes of the queue', async () => {
    const [one, other] = [ingest(), ingest()];
    await open(one.ingress);
    await open(other.ingress);
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => ask('twins.in.machine.M1', { at: AT + i, values: { power: 1 } })),
    );
    expect(answers.every(({ accepted }) => accepted === 1)).toBe(true);
    expect(one.stored.length + other.stored.length).toBe(200);
    expect(Math.min(one.stored.length, other.stored.length)).toBeGreaterThan(0);
  });

  it('refuses what is too much, answers after durability, and finishes what it has when it closes', async () => {
    const { ingress, stored, hold, release } = ingest();
    hold();
    const door = await open(ingress, { maxInFlight: 3 });
    let answered = 0;
    const first = [0, 1, 2].map(async (i) => {
      const answer = await ask('twins.in.machine.M1', { at: AT + i, values: { power: 1 } });
      answered++;
      return answer;
    });
    await expect.poll(() => door.status().inFlight, { timeout: 5_000, interval: 5 }).toBe(3);
    expect(await ask('twins.in.machine.M1', { at: AT + 3, values: { power: 1 } })).toMatchObject({
      accepted: 0,
      error: { code: 'overloaded' },
    });
    expect(door.status()).toEqual({ inFlight: 3, refused: 1 });
    expect(answered).toBe(0);
    const closed = door.close();
    release();
    expect((await Promise.all(first)).map(({ accepted }) => accepted)).toEqual([1, 1, 1]);
    await closed;
    expect(stored).toHaveLength(3);
    await expect(ask('twins.in.machine.M1', { at: AT, values: { power: 1 } })).rejects.toThrow();
  });
});
