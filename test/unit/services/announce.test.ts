import moleculer from 'moleculer';
import { afterAll, expect, it } from 'vitest';
import { announce } from '../../../mixins/announce.ts';

/** Nodes of one process: what a node offers is known to the others when it says so, not when Moleculer would. */
const brokers = ['there', 'new'].map(
  (nodeID) =>
    new moleculer.ServiceBroker({
      namespace: 'announce',
      nodeID,
      transporter: 'Fake',
      logger: false,
      skipProcessEventRegistration: true,
      // Moleculer says nothing of its own accord while this test runs.
      transit: { serviceChangedDebounceTime: 3_600_000 },
    } as moleculer.BrokerOptions),
);
const [there, newcomer] = brokers;
afterAll(() => Promise.all(brokers.map((broker) => broker.stop())));

it('a node that has announced itself is called, and is told events', async () => {
  const heard: unknown[] = [];
  newcomer.createService({
    name: 'twins',
    actions: { get: () => 'mine' },
    events: { 'shards.moved': (ctx: { params: unknown }) => void heard.push(ctx.params) },
  });
  await there.start();
  await newcomer.start();
  await expect(there.call('twins.get')).rejects.toThrow(/not found|not available/i);
  await there.broadcast('shards.moved', { n: 1 });
  await announce(newcomer);
  await expect.poll(() => there.call('twins.get').catch(() => null)).toBe('mine');
  await there.broadcast('shards.moved', { n: 2 });
  await expect.poll(() => heard).toEqual([{ n: 2 }]);
});
