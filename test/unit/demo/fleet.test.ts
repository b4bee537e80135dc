import { describe, expect, it } from 'vitest';
import { ERRORS } from '../../../actors/protocol/errors.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { DemoFleet, type FleetOptions } from '../../../services/demo/fleet.ts';
import { HandClock } from './hand-clock.ts';

const kinds = await loadKinds();

const START = Date.UTC(2026, 0, 1);

function fleetOf(change: Partial<FleetOptions> = {}) {
  const clock = new HandClock(START);
  const sent: { topic: string; message: Record<string, unknown>; at: number }[] = [];
  const fleet = new DemoFleet({
    kinds: kinds.all(),
    seed: 1,
    clock,
    intervalMs: 2000,
    speedFactor: 1,
    send: (topic, message) => sent.push({ topic, message, at: clock.now() }),
    ...change,
  });
  return { clock, sent, fleet };
}

describe('demo fleet', () => {
  it('has at least 8 batteries, 8 machines and 42 motes', () => {
    const { fleet } = fleetOf();
    const count = (kind: string) => fleet.twinIds.filter((id) => id.startsWith(`${kind}:`)).length;
    expect([count('battery') >= 8, count('machine') >= 8, count('mote') >= 42]).toEqual([true, true, true]);
  });

  it('lets every asset speak once an interval, spread over it', () => {
    const { clock, sent, fleet } = fleetOf();
    fleet.start();
    clock.move(1999);
    expect(sent).toHaveLength(fleet.twinIds.length);
    const motes = sent.filter(({ topic }) => topic.startsWith('building/motes/'));
    expect(new Set(motes.map(({ at }) => at)).size).toBeGreaterThan(motes.length / 2);
    clock.move(2000);
    expect(sent).toHaveLength(2 * fleet.twinIds.length);
    fleet.stop();
    clock.move(10_000);
    expect(sent).toHaveLength(2 * fleet.twinIds.length);
  });

  it('sends messages that the door of their kind takes, on a topic that it knows, dated now', () => {
    const { clock, sent, fleet } = fleetOf();
    fleet.start();
    clock.move(1999);
    for (const { topic, message, at } of sent) {
      const [candidate] = kinds.byMqttTopic(topic);
      const raw = candidate.format.decode(message, candidate.topicId);
      expect(fleet.twinIds).toContain(`${candidate.kind.kind}:${raw.id}`);
      expect(Math.abs(new Date(raw.at as string).getTime() - at)).toBeLessThan(1000);
    }
  });

  it('sends the same bytes for the same seed, others for another', () => {
    const run = (seed: number) => {
      const { clock, sent, fleet } = fleetOf({ seed });
      fleet.start();
      clock.move(20_000);
      return JSON.stringify(sent);
    };
    expect(run(7)).toBe(run(7));
    expect(run(7)).not.toBe(run(8));
  });

  it('speaks faster by SPEED_FACTOR, and at the pace of each kind where no interval is set', () => {
    const fast = fleetOf({ speedFactor: 10 });
    fast.fleet.start();
    fast.clock.move(1999);
    expect(fast.sent).toHaveLength(10 * fast.fleet.twinIds.length);

    const own = fleetOf({ intervalMs: null });
    own.fleet.start();
    own.clock.move(9_999);
    for (const kind of kinds.all()) {
      // A kind may be there for recorded data alone.
      if (kind.simulator === undefined) continue;
      const { demoCount, intervalMs } = kind.simulator;
      const messages = own.sent.filter(({ topic }) => kinds.byMqttTopic(topic)[0].kind === kind);
      expect(messages, kind.kind).toHaveLength(demoCount * Math.floor(10_000 / intervalMs));
    }
  });

  it('does not catch up after a pause, and never goes back in time', () => {
    const { clock, sent, fleet } = fleetOf({ kinds: [kinds.get('machine')] });
    fleet.start();
    clock.move(1999);
    clock.sleep(60_000);
    clock.move(1);
    expect(sent).toHaveLength(2 * fleet.twinIds.length);
    clock.setWall(START);
    clock.move(4000);
    const times = sent.filter(({ topic }) => topic === sent[0].topic).map(({ message }) => String(message.timestamp));
    expect(times).toEqual([...times].sort());
    expect(new Set(times).size).toBe(times.length);
  });

  it('starts scenarios, which show in what the asset sends', () => {
    const silent = fleetOf({ kinds: [kinds.get('machine')] });
    silent.fleet.start();
    const [twinId] = silent.fleet.twinIds;
    silent.fleet.inject(twinId, 'dropout', 1);
    silent.clock.move(20_000);
    const id = twinId.split(':')[1];
    expect(silent.sent.some(({ topic }) => topic.includes(id))).toBe(false);
    expect(silent.sent.length).toBeGreaterThan(0);
  });

  it('lists scenarios by kind with the twins they can be started on', () => {
    const { fleet } = fleetOf();
    const wear = fleet.scenarios().find(({ scenario }) => scenario === 'bearing_wear');
    expect(wear?.kind).toBe('machine');
    expect(wear?.description).not.toBe('');
    expect(wear?.twins.every((twinId) => twinId.startsWith('machine:'))).toBe(true);
  });

  it.each([
    ['machine:NOBODY', 'overheating', 0.5, 'not_found'],
    ['machine:MACHINE_001', 'flood', 0.5, 'bad_request'],
    ['machine:MACHINE_001', 'constructor', 0.5, 'bad_request'],
    ['machine:MACHINE_001', 'overheating', 0, 'bad_request'],
    ['machine:MACHINE_001', 'overheating', 1.5, 'bad_request'],
  ])('refuses %s %s at %d as %s', (twinId, scenario, severity, code) => {
    expect(Object.keys(ERRORS)).toContain(code);
    expect(() => fleetOf().fleet.inject(twinId, scenario, severity)).toThrow(expect.objectContaining({ code }));
  });
});
