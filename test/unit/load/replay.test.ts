import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DOOR_LIMITS, Door } from '../../../actors/ingress/door.ts';
import { parseJson } from '../../../actors/ingress/json.ts';
import { Routes } from '../../../actors/ingress/route.ts';
import { defineTwin, type RawReading } from '../../../actors/protocol/kind.ts';
import { registryOf } from '../../../actors/runtime/kind-registry.ts';
import { notPlayed, type PlayOptions, play } from '../../../services/load/player.ts';
import { Timeline } from '../../../services/load/timeline.ts';
import { wireFieldsOf } from '../../../services/load/wire-fields.ts';
import { speechOf } from '../../../services/load/wire-message.ts';
import { FakeClock, settle } from '../ingress/fixture.ts';
import { kinds } from './bytes.ts';

const AT = Date.UTC(2026, 0, 1);
const door = new Door({ ...DOOR_LIMITS, maxSkewMs: 0 });
const routes = new Routes(kinds);

/** What a server makes of a message. */
function heard(topic: string, payload: string) {
  const { kind, raw } = routes.decode(routes.of('mqtt', topic), parseJson(payload, { maxBytes: 10_000, maxDepth: 16 }));
  return door.admit(kind, raw, Date.UTC(2100, 0, 1));
}

describe('messages on the wire', () => {
  it('are in the format of the kind, on its topic', () => {
    const battery = speechOf(kinds.get('battery'));
    expect(battery.title).toBe('ev-telemetry on ev/battery/telemetry/{id}');
    const message = battery.say({ id: 'EV-1', at: AT, values: { soc: 80.5, current: -4 } });
    expect(message?.topic).toBe('ev/battery/telemetry/EV-1');
    expect(JSON.parse(message?.payload ?? '')).toEqual({
      battery_id: 'EV-1',
      timestamp: '2026-01-01T00:00:00.000Z',
      SoC: 80.5,
      Battery_Current: -4,
    });
    const machine = speechOf(kinds.get('machine')).say({ id: 'M', at: AT, values: { power: 5 }, seq: 7 });
    expect(JSON.parse(machine?.payload ?? '')).toMatchObject({ machine_id: 'M', readings: { power: 5 }, seq: 7 });
    const mote = speechOf(kinds.get('mote')).say({ id: '12', at: AT, values: { light: 5 } });
    expect(JSON.parse(mote?.payload ?? '').mote_id).toBe(12);
  });

  it('are generic where the format of the kind cannot carry them', () => {
    const mote = speechOf(kinds.get('mote'));
    for (const raw of [
      { id: '1', at: AT, values: { light: Number.NaN } },
      { id: '1', at: AT, values: { lumen: 4 } },
      { id: '1', at: AT, values: { light: 4 }, attributes: { room: 'a' } },
      { id: '1', at: AT, values: { light: 4 }, sensor: 's1' },
    ])
      expect(mote.say(raw)?.topic).toBe('twins/mote/1/telemetry');
    const device = speechOf(kinds.get('device')).say({ id: 'd', at: AT, values: { co2: 650, noise: 40 }, unit: 'x' });
    expect(device?.topic).toBe('twins/device/d/telemetry');
    expect(heard('twins/device/d/telemetry', device?.payload ?? '')).toMatchObject({ values: { co2: 650, noise: 40 } });
  });

  it('are none where there is no time or no id that a topic can carry', () => {
    const mote = speechOf(kinds.get('mote'));
    for (const id of ['a/b', '+', '#', '', undefined, {}, 'x'.repeat(200)])
      expect(mote.say({ id, at: AT, values: { light: 1 } })).toBeNull();
    for (const at of [undefined, 'soon', Number.NaN])
      expect(mote.say({ id: '1', at, values: { light: 1 } })).toBeNull();
  });

  it('say what the file says: a server hears the same reading', () => {
    const value = fc.oneof(fc.double({ min: 0, max: 20, noNaN: true }), fc.constant(0));
    for (const kind of kinds.all().filter((k) => !k.openMetrics)) {
      const speech = speechOf(kind);
      const values = fc.dictionary(fc.constantFrom(...kind.metricNames), value, { minKeys: 1 });
      const id = fc.oneof(fc.stringMatching(/^[A-Za-z0-9._-]{1,20}$/), fc.nat().map(String), fc.constant('007'));
      fc.assert(
        fc.property(values, id, fc.integer({ min: 2e11, max: 3e12 }), fc.option(fc.nat()), (v, i, at, seq) => {
          const raw: RawReading = { id: i, at, values: { ...v }, ...(seq === null ? {} : { seq }) };
          const message = speech.say(raw);
          const told = heard(message?.topic ?? '', message?.payload ?? '');
          expect(told).toEqual(door.admit(kind, raw, Date.UTC(2100, 0, 1)));
        }),
      );
    }
  });

  it('follow from the example of any kind', () => {
    const turbine = defineTwin({
      ...kinds.get('machine'),
      kind: 'turbine',
      metrics: { rpm: { unit: 'rpm', min: 0, max: 5000 }, yaw: { unit: '°', min: -180, max: 180 } },
      detectors: {},
      models: undefined,
      features: undefined,
      rules: [],
      formats: [
        {
          name: 'turbine',
          mqtt: ['wind/{id}'],
          decode: (m, topicId) => {
            const body = (m.body ?? {}) as { rotor?: { speed?: unknown }; yaw?: unknown };
            return { id: topicId ?? m.name, at: m.when, values: { rpm: body.rotor?.speed, yaw: body.yaw } };
          },
          example: { name: 'W1', when: '2026-01-01T00:00:00Z', body: { rotor: { speed: 12 }, yaw: 3 } },
        },
      ],
    });
    expect(wireFieldsOf(turbine)).toMatchObject({
      id: ['name'],
      time: ['when'],
      metrics: { rpm: ['body', 'rotor', 'speed'] },
    });
    expect(speechOf(turbine).say({ id: 'W9', at: AT, values: { rpm: 5 } })?.topic).toBe('wind/W9');
    const both = speechOf(turbine).say({ id: 'W9', at: AT, values: { rpm: 5, yaw: 1 } });
    expect(both).toEqual({
      topic: 'wind/W9',
      payload: '{"name":"W9","when":"2026-01-01T00:00:00.000Z","body":{"rotor":{"speed":5},"yaw":1}}',
    });
    expect(registryOf([turbine]).byMqttTopic('wind/W9')).toHaveLength(1);
  });
});

async function* batches(...all: RawReading[][]): AsyncGenerator<RawReading[]> {
  yield* all;
}
const readings = (...times: number[]): RawReading[] =>
  times.map((t, i) => ({ id: String(i), at: AT + t, values: { light: t } }));

describe('a timeline', () => {
  const order = async (timeline: Timeline, source: AsyncIterable<RawReading[]>) => {
    const seen: number[] = [];
    for await (const { ms } of timeline.inOrder(source)) seen.push(ms - AT);
    return seen;
  };

  it('puts readings in order of time, equal ones in order of the file', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(50), { maxLength: 200 }), async (times) => {
        const timeline = new Timeline(1000);
        const seen: { id: unknown; t: number }[] = [];
        for await (const { raw, ms } of timeline.inOrder(batches(readings(...times))))
          seen.push({ id: raw.id, t: ms - AT });
        const expected = times.map((t, i) => ({ id: String(i), t })).sort((a, b) => a.t - b.t);
        expect(seen).toEqual(expected);
        expect(timeline.late).toBe(0);
      }),
    );
  });

  it('looks ahead as far as it may, and counts what is further out of order', async () => {
    const timeline = new Timeline(2);
    expect(await order(timeline, batches(readings(5, 6, 7), readings(8, 9, 1)))).toEqual([5, 6, 7, 1, 8, 9]);
    expect(timeline.late).toBe(1);
  });

  it('plays what was good before a fault', async () => {
    async function* broken() {
      yield readings(3, 1, 2);
      throw new Error('truncated');
    }
    const seen: number[] = [];
    const all = (async () => {
      for await (const { ms } of new Timeline(10).inOrder(broken())) seen.push(ms - AT);
    })();
    await expect(all).rejects.toThrow('truncated');
    expect(seen).toEqual([1, 2, 3]);
  });
});

describe('a player', () => {
  const speech = speechOf(kinds.get('mote'));
  const setup = (speed: number) => {
    const clock = new FakeClock();
    const sent: { topic: string; atMs: number }[] = [];
    const carrier = {
      send: async (topic: string) => {
        sent.push({ topic, atMs: clock.monotonic() });
      },
    };
    const controller = new AbortController();
    const options: PlayOptions = { speech, carrier, clock, speed, signal: controller.signal };
    return { clock, sent, options, controller, played: notPlayed() };
  };
  const timed = (...times: number[]) => new Timeline(100).inOrder(batches(readings(...times)));

  it('sends each reading when its time has come, so many times as fast', async () => {
    const { clock, sent, options, played } = setup(10);
    const playing = play(timed(0, 5_000, 60_000), options, played);
    await settle();
    expect(sent).toHaveLength(1);
    for (let i = 0; i < 70; i++) await clock.advance(100);
    await playing;
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 500, 6000]);
    expect(played).toMatchObject({ sent: 3, firstMs: AT, earliestMs: AT, lastMs: AT + 60_000, whole: true });
  });

  it('does not wait at speed 0', async () => {
    const { sent, options, played } = setup(0);
    await play(timed(0, 5_000, 60_000), options, played);
    expect(sent).toHaveLength(3);
  });

  it('counts what no message can carry and goes on', async () => {
    const { sent, options, played } = setup(0);
    const odd: RawReading[] = [
      { id: 'a/b', at: AT, values: { light: 1 } },
      { id: '1', at: 'soon', values: { light: 1 } },
      { id: '1', at: AT, values: { light: 1 } },
    ];
    await play(new Timeline(10).inOrder(batches(odd)), options, played);
    expect(sent).toHaveLength(1);
    expect(played.unsaid).toEqual({ bad_id: 1, bad_time: 1 });
  });

  it('stops when it is told to, in the middle of waiting', async () => {
    const { clock, sent, options, controller, played } = setup(1);
    const playing = play(timed(0, 3_600_000), options, played);
    await clock.advance(1000);
    controller.abort();
    await clock.advance(1000);
    await playing;
    expect(sent).toHaveLength(1);
    expect(played.whole).toBe(false);
  });
});
