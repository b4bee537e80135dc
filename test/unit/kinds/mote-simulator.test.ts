import { describe, expect, it } from 'vitest';
import mote from '../../../actors/kinds/mote.ts';

const DAY0 = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
interface Message {
  mote_id: number;
  temperature: number;
  humidity: number;
  light: number;
  voltage: number;
}

function create(index = 0, seed = 3) {
  return mote.simulator!.create({ seed, index });
}

function run(asset: ReturnType<typeof create>, from: number, spanMs: number, stepMs = 60_000): (Message | null)[] {
  const out: (Message | null)[] = [];
  for (let at = from; at < from + spanMs; at += stepMs) out.push(asset.next(at) as Message | null);
  return out;
}

const there = (messages: (Message | null)[]) => messages.filter((m) => m !== null);
const mean = (values: number[]) => values.reduce((sum, v) => sum + v, 0) / values.length;

function correlation(a: number[], b: number[]): number {
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) ** 2;
    bb += (b[i] - mb) ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

describe('motes of a building', () => {
  it('are 42 in the demo, numbered from 101', () => {
    expect(mote.simulator!.demoCount).toBeGreaterThanOrEqual(42);
    expect([create(0).id, create(41).id]).toEqual(['101', '142']);
    expect((create(41).next(DAY0) as unknown as Message).mote_id).toBe(142);
  });

  it.each([0, 8, 25])('have a day: mote %i is warmer and drier in the afternoon', (index) => {
    const messages = there(run(create(index), DAY0, 3 * DAY));
    const hourOf = (i: number) => (i % 1_440) / 60;
    const afternoon = messages.filter((_, i) => hourOf(i) >= 13 && hourOf(i) < 17);
    const night = messages.filter((_, i) => hourOf(i) < 5);
    const warmer = mean(afternoon.map((m) => m.temperature)) - mean(night.map((m) => m.temperature));
    expect(warmer).toBeGreaterThan(2);
    expect(warmer).toBeLessThan(10);
    const r = correlation(
      messages.map((m) => m.temperature),
      messages.map((m) => m.humidity),
    );
    expect(r).toBeLessThan(-0.7);
  });

  it('stay inside the normal range and break no rule', () => {
    for (let index = 0; index < 13; index++) {
      for (const m of there(run(create(index, 42), DAY0, DAY))) {
        const values = mote.formats[0].decode({ ...m }, undefined).values as Record<string, number>;
        for (const rule of mote.rules) {
          const value = values[rule.metric];
          expect(value > (rule.above ?? Infinity) || value < (rule.below ?? -Infinity), rule.name).toBe(false);
        }
      }
    }
  });

  it('see more daylight the nearer the window, and lamps but no sun in the evening', () => {
    const noon: number[] = [];
    const evening: number[] = [];
    const distance: number[] = [];
    const lightAt = (index: number, hour: number) =>
      (create(index).next(DAY0 + hour * HOUR) as unknown as Message).light;
    for (let index = 0; index < 42; index++) {
      noon.push(lightAt(index, 12));
      evening.push(lightAt(index, 19.5));
      distance.push(create(index).truth().y);
      expect(lightAt(index, 2)).toBeLessThan(5);
    }
    expect(correlation(noon, distance)).toBeLessThan(-0.8);
    expect(Math.abs(correlation(evening, distance))).toBeLessThan(0.5);
    expect(mean(evening)).toBeGreaterThan(100);
    expect(mean(noon)).toBeGreaterThan(mean(evening));
  });

  it('die in nonsense: voltage falls, temperature climbs to 122 °C, humidity below zero, then silence, then new cells', () => {
    const asset = create(0);
    run(asset, DAY0, HOUR, 5_000);
    asset.inject('dying_battery', 0.2);
    const messages = run(asset, DAY0 + HOUR, 2 * HOUR, 5_000);
    const alive = messages.indexOf(null);
    const dying = there(messages.slice(0, alive));
    expect(Math.max(...dying.map((m) => m.temperature))).toBeCloseTo(122.153, 2);
    expect(Math.min(...dying.map((m) => m.humidity))).toBeCloseTo(-3.919, 2);
    for (const m of dying) {
      if (m.voltage > 2.36) expect(m.temperature).toBeLessThan(30);
      if (m.voltage < 2.02) expect(m.temperature).toBeGreaterThan(110);
      expect(m.voltage).toBeGreaterThan(1.9);
    }
    const back = messages.findIndex((m, i) => i > alive && m !== null);
    expect((back - alive) * 5_000).toBe(30 * 60_000);
    expect(messages.slice(alive, back).every((m) => m === null)).toBe(true);
    expect(messages[back]!.voltage).toBeGreaterThan(2.8);
    expect(messages[back]!.temperature).toBeLessThan(30);
  });

  it('in the demo include weak ones that die within hours, by themselves', () => {
    const messages = run(create(13), DAY0, 6 * HOUR);
    expect(messages.some((m) => m === null)).toBe(true);
    expect(there(messages).some((m) => m.temperature > 100 && m.voltage < 2.1)).toBe(true);
    expect(run(create(12), DAY0, 6 * HOUR).every((m) => m !== null && m.voltage > 2.5)).toBe(true);
  });

  it('stay stable at steps of any length', () => {
    for (const stepMs of [0, 1, HOUR, 10 * DAY, 3_000 * DAY]) {
      const asset = create(6);
      for (let i = 0; i < 200; i++) {
        const m = asset.next(DAY0 + i * stepMs) as Message | null;
        if (!m) continue;
        for (const value of [m.temperature, m.humidity, m.light, m.voltage]) expect(Number.isFinite(value)).toBe(true);
        expect(m.voltage).toBeLessThan(3.1);
      }
    }
  });
});

describe('mote scenarios', () => {
  function during(name: string, severity: number): (Message | null)[] {
    const asset = create(4);
    run(asset, DAY0, HOUR, 5_000);
    asset.inject(name, severity);
    return run(asset, DAY0 + HOUR, 9 * 60_000, 5_000);
  }
  const highest = (messages: (Message | null)[], name: 'temperature' | 'humidity') =>
    Math.max(...there(messages).map((m) => m[name]));

  it('heat and damp grow with severity', () => {
    expect(highest(during('heat_source', 1), 'temperature')).toBeGreaterThan(40);
    expect(highest(during('heat_source', 1), 'humidity')).toBeGreaterThan(80);
    expect(highest(during('heat_source', 0.2), 'temperature')).toBeLessThan(30);
  });

  it('drift is the temperature alone', () => {
    expect(highest(during('drift', 1), 'temperature')).toBeGreaterThan(30);
    expect(highest(during('drift', 1), 'humidity')).toBeLessThan(60);
  });

  it('stuck sensors stand still, the rest goes on', () => {
    const messages = there(during('sensor_stuck', 1));
    expect(new Set(messages.map((m) => m.temperature)).size).toBe(1);
    expect(new Set(messages.map((m) => m.voltage)).size).toBeGreaterThan(20);
  });

  it('dropout loses readings, all of them at 1, and ends', () => {
    expect(during('dropout', 1).every((m) => m === null)).toBe(true);
    expect(there(during('dropout', 0.5)).length).toBeGreaterThan(20);
    const asset = create(4);
    asset.next(DAY0);
    asset.inject('dropout', 1);
    expect(asset.next(DAY0 + 5_000)).toBeNull();
    expect(asset.next(DAY0 + HOUR)).not.toBeNull();
  });

  it('refuse what they do not know', () => {
    expect(() => create().inject('bearing_wear', 1)).toThrow(expect.objectContaining({ code: 'bad_request' }));
    expect(() => create().inject('drift', 1.5)).toThrow(expect.objectContaining({ code: 'bad_request' }));
  });
});
