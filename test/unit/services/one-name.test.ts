import moleculer, { type ServiceBroker } from 'moleculer';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { oneName } from '../../../mixins/one-name.ts';

const brokers: ServiceBroker[] = [];

interface Announcing {
  registry: { discoverer: { sendLocalNodeInfo(): Promise<void> } };
}

function namesakes() {
  const namespace = `name-${Math.random()}`;
  return (settledMs: number) => {
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
}

afterEach(async () => {
  // They say goodbye under one name, too: not with the real exit.
  await Promise.all(brokers.splice(0).map((broker) => broker.stop()));
  vi.restoreAllMocks();
});

describe('a name that is taken', () => {
  it('ends whoever comes under it, and not the node that has it', async () => {
    const node = namesakes();
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
  });

  it('is kept by one of two that have both run for long and hear each other again', async () => {
    const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
    const node = namesakes();
    const [first, second] = [node(0), node(0)];
    await first.start();
    await second.start();
    // what they had to say at their starts, which an exit would have cut off
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    exit.mockClear();
    const ends = [first, second].map((broker) => vi.spyOn(broker.logger, 'fatal').mockClear());
    await (second as unknown as Announcing).registry.discoverer.sendLocalNodeInfo();
    await vi.waitFor(() => expect(exit).toHaveBeenCalled(), 5_000);
    expect(exit).toHaveBeenCalledTimes(1);
    expect(ends[1]).not.toHaveBeenCalled();
    expect(ends[0].mock.calls[0][0]).toMatch(/of the name a is back/);
  });
});
