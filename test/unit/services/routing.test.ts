import moleculer, { type ServiceBroker } from 'moleculer';
import { afterAll, describe, expect, it } from 'vitest';
import { Directory } from '../../../actors/placement/directory.ts';
import { systemClock } from '../../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { ErrorCarrier, OwnerStrategy, routeBy, routing, twinOf } from '../../../mixins/routing.ts';

const brokers: ServiceBroker[] = [];

afterAll(async () => {
  await Promise.all(brokers.map((broker) => broker.stop()));
});

async function mesh(names: string[], handler: (node: string, ctx: { params: never; meta: object }) => unknown) {
  const directory = new Directory({
    shards: 1,
    look: async () => [],
    clock: systemClock,
    everyMs: 60_000,
    onError: () => undefined,
  });
  const namespace = `routing-${Math.random()}`;
  const members = names.map((name) => {
    const broker = new moleculer.ServiceBroker({
      namespace,
      nodeID: name,
      logger: false,
      transporter: 'Fake',
      // how often it looks whether a service is there, ms
      dependencyInterval: 10,
      serializer: 'JSON',
      errorRegenerator: new ErrorCarrier(),
      registry: { strategy: OwnerStrategy, preferLocal: false },
      middlewares: [routing()],
    });
    brokers.push(broker);
    routeBy(broker, directory);
    if (name !== 'caller')
      broker.createService({
        name: 'twins',
        actions: {
          get: (ctx) => handler(name, ctx as never),
          desired: (ctx) => handler(name, ctx as never),
        },
      });
    return broker;
  });
  await Promise.all(members.map((broker) => broker.start()));
  const caller = members[names.indexOf('caller')];
  await caller.waitForServices('twins');
  while ((caller.registry.getNodeList({ onlyAvailable: true }) as unknown[]).length < names.length)
    await new Promise((resolve) => setTimeout(resolve, 10));
  return { caller, directory, members };
}

const TWIN = { twinId: 'machine:M1' };

// Side by side: a mesh that comes together does nothing but wait.
describe.concurrent('routing', () => {
  it('finds the twin that a call is about', () => {
    expect(twinOf('twins.get', TWIN)).toBe('machine:M1');
    // as it was: anybody reads that
    expect(twinOf('twins.get', { ...TWIN, at: '2026-01-01' })).toBeNull();
    expect(twinOf('twins.acknowledge', { id: 'machine:M1~overheating~42' })).toBe('machine:M1');
    expect(twinOf('twins.get', { twinId: "x'; drop" })).toBeNull();
    expect(twinOf('search.list', TWIN)).toBeNull();
    expect(twinOf('twins.stale', {})).toBeNull();
  });

  it('sends a call to the owner, wherever it is', async () => {
    const { caller, directory } = await mesh(['caller', 'a', 'b', 'c'], (node) => node);
    let epoch = 0;
    for (const owner of ['b', 'a', 'c', 'b']) {
      directory.observe([{ shard: 0, owner, epoch: ++epoch }]);
      expect(await caller.call('twins.get', TWIN)).toBe(owner);
    }
  });

  it('follows a twin that moves while it is called, with the same mark on every try', async () => {
    const marks: unknown[] = [];
    const { caller, directory } = await mesh(['caller', 'a', 'b'], (node, ctx) => {
      marks.push((ctx.meta as { callId: string }).callId);
      if (node === 'a') {
        directory.observe([{ shard: 0, owner: 'b', epoch: 2 }]);
        throw new TwinmeshError('not_owner', 'moved');
      }
      return node;
    });
    directory.observe([{ shard: 0, owner: 'a', epoch: 1 }]);
    expect(await caller.call('twins.desired', TWIN)).toBe('b');
    expect(marks).toHaveLength(2);
    expect(marks[0]).toBe(marks[1]);
    expect(marks[0]).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('waits for an owner, and gives a command up at its deadline', async () => {
    const { caller, directory } = await mesh(['caller', 'a'], (node) => node);
    const waiting = caller.call('twins.desired', TWIN);
    setTimeout(() => directory.observe([{ shard: 0, owner: 'a', epoch: 1 }]), 60);
    expect(await waiting).toBe('a');
    directory.observe([{ shard: 0, owner: null, epoch: 1 }]);
    await expect(caller.call('twins.desired', TWIN, { timeout: 300 })).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('gives back what the twin refused, as it was', async () => {
    const { caller, directory } = await mesh(['caller', 'a'], () => {
      throw new TwinmeshError('precondition_failed', 'machine:M1 is at "rev:7".', { revision: 7 });
    });
    directory.observe([{ shard: 0, owner: 'a', epoch: 1 }]);
    const error = await caller.call('twins.desired', TWIN).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(TwinmeshError);
    expect(error).toMatchObject({ code: 'precondition_failed', details: { revision: 7 } });
  });

  it('lets a read fall back on what was committed last when nobody owns the twin', async () => {
    const { caller } = await mesh(['caller', 'a'], (_node, ctx) => ctx.meta);
    const meta = await caller.call('twins.get', TWIN, { timeout: 400 });
    expect(meta).toMatchObject({ lastResort: true });
  });

  it('leaves the marks of one call out of the next one of the same caller', async () => {
    const { caller, directory } = await mesh(['caller', 'a'], (_node, ctx) => ({ ...(ctx.meta as object) }));
    caller.createService({
      name: 'front',
      actions: {
        async ask(ctx) {
          const first = await ctx.call<object, object>('twins.get', TWIN, { timeout: 200 });
          directory.observe([{ shard: 0, owner: 'a', epoch: 1 }]);
          return [first, await ctx.call('twins.desired', TWIN)];
        },
      },
    });
    await caller.waitForServices('front');
    const [first, second] = await caller.call<{ lastResort: boolean; callId: string }[], object>('front.ask', {});
    expect(first.lastResort).toBe(true);
    expect(second.lastResort).toBe(false);
    expect(second.callId).not.toBe(first.callId);
  });

  it('sends what a node took along when it went to another, unless that could do it twice', async () => {
    const { caller, members } = await mesh(['caller', 'a', 'b'], () => null);
    const asked: string[] = [];
    for (const broker of members.filter(({ nodeID }) => nodeID !== 'caller')) {
      const handler = () => {
        asked.push(broker.nodeID);
        if (asked.length > 1) return broker.nodeID;
        // what a caller gets for calls that were under way when their node left the mesh
        throw new moleculer.Errors.RequestRejectedError({ action: 'keys.create', nodeID: broker.nodeID });
      };
      broker.createService({
        name: 'keys',
        actions: {
          list: { rest: 'GET /api/v1/keys', handler },
          create: { rest: 'POST /api/v1/keys', handler },
        },
      } as never);
    }
    const offered = () =>
      (caller.registry.getActionEndpoints('keys.create') as unknown as { endpoints: unknown[] } | null)?.endpoints;
    while (offered()?.length !== 2) await new Promise((resolve) => setTimeout(resolve, 10));
    const answer = await caller.call('keys.list');
    expect(asked).toHaveLength(2);
    expect(answer).toBe(asked[1]);
    asked.length = 0;
    await expect(caller.call('keys.create')).rejects.toMatchObject({ name: 'RequestRejectedError' });
    expect(asked).toHaveLength(1);
  });

  it('carries the headers of the answer to whoever called', async () => {
    const { caller, directory } = await mesh(['caller', 'a'], (_node, ctx) => {
      Object.assign(ctx.meta, { $responseHeaders: { ETag: '"rev:1"' } });
      return 1;
    });
    directory.observe([{ shard: 0, owner: 'a', epoch: 1 }]);
    caller.createService({
      name: 'front',
      actions: {
        async ask(ctx) {
          await ctx.call('twins.get', TWIN);
          return ctx.meta;
        },
      },
    });
    await caller.waitForServices('front');
    expect(await caller.call('front.ask')).toMatchObject({ $responseHeaders: { ETag: '"rev:1"' } });
  });
});
