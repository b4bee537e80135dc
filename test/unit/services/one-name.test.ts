import moleculer, { type ServiceBroker } from 'moleculer';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { oneName } from '../../../mixins/one-name.ts';

const brokers: ServiceBroker[] = [];

interface Announcing {
  registry: { discoverer: { sendLocalNodeInfo(): Promise<void> } };
}

afterEach(async () => {
  vi.restoreAllMocks();
  await Promise.all(brokers.splice(0).map((broker) => broker.stop()));
});

describe('a name that is taken', () => {
  it('ends whoever comes under it, and not the node that has it', async () => {
    const namespace = `name-${Math.random()}`;
    const node = (settledMs: number) => {
      const nodeID = 'a';
      const broker = new moleculer.ServiceBroker({
        namespace,
        nodeID,
        logger: false,
        transporter: 'Fake',
        middlewares: [oneName({ settledMs })],
        skipProcessEventRegistration: true,
      });
      brokers.push(broker);
      return broker;
    };
    const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
    const first = node(0);
    first.createService({ name: 'kept', actions: { ask: () => 'first' } });
    await first.start();
    const [kept, told] = [vi.spyOn(first.logger, 'fatal'), vi.spyOn(first.logger, 'error')];
    const second = node(60_000);
    const ended = new Promise((resolve) => vi.spyOn(second.logger, 'fatal').mockImplementation(resolve as never));
    await second.start();
    expect(await ended).toMatch(/name a: give each its own NODE_ID/);
    expect(exit).toHaveBeenCalledWith(1);
    await vi.waitFor(() => expect(told.mock.calls[0]?.[0]).toMatch(/came under the name of this node, a/), 5_000);
    expect(kept).not.toHaveBeenCalled();
    expect(await first.call('kept.ask')).toBe('first');
    // both have run for long, and hear each other again: one of them ends
    const third = node(0);
    await third.start();
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    exit.mockClear();
    const ends = [first, third].map((broker) => vi.spyOn(broker.logger, 'fatal').mockClear());
    await second.stop();
    await (third as unknown as Announcing).registry.discoverer.sendLocalNodeInfo();
    await vi.waitFor(() => expect(exit).toHaveBeenCalledTimes(1), 5_000);
    expect(ends.map(({ mock }) => mock.calls.length)).toEqual([1, 0]);
    expect(ends[0].mock.calls[0][0]).toMatch(/of the name a is back/);
  });
});
