import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServiceSchema } from 'moleculer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import maintenance from '../../services/maintenance.service.ts';
import notifiers from '../../services/notifiers.service.ts';
import { type LocalReceiver, localReceiver } from '../unit/notify/local-receiver.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from './gateway/node.ts';

/** From a reading to the receiver, through a whole node, and what the API says of it. */
let node: GatewayNode;
let hook: LocalReceiver;
let folder: string;

beforeAll(async () => {
  hook = await localReceiver();
  folder = mkdtempSync(join(tmpdir(), 'tm-notifiers-'));
  const file = join(folder, 'notifiers.json');
  writeFileSync(
    file,
    JSON.stringify({
      receivers: { erp: { type: 'webhook', url: `${hook.url}/very-private` } },
      rules: [
        { name: 'machines', events: ['alert', 'twin.created'], kinds: ['machine'], receivers: ['erp'], cooldown_s: 0 },
      ],
    }),
  );
  node = await startGateway({
    env: { NOTIFIERS_FILE: file },
    services: [...GATEWAY_SERVICES, notifiers, maintenance] as unknown as ServiceSchema[],
  });
});
afterAll(async () => {
  await node?.stop();
  await hook.stop();
  rmSync(folder, { recursive: true });
});

async function until<T>(look: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  for (let i = 0; i < 1_000; i++) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('it did not happen');
}

const get = async (path: string) => (await node.http('GET', path, { key: node.keys.viewer })).json.data;

describe('a node with NOTIFIERS_FILE', () => {
  it('tells the receiver what a reading has led to', async () => {
    await node.tell('machine', 'M1', { temperature: 60 });
    await node.tell('mote', '7', { temperature: 20 });
    const taken = await until(() => hook.taken.find(({ body }) => body.type === 'twin.created'));
    expect(taken.body).toMatchObject({ twin: 'machine:M1', rule: 'machines', event: { machine_id: 'M1' } });
    const { items } = await until(async () => {
      const list = await get('/api/v1/notifications?state=sent&receiver=erp');
      return list.items.length === 1 && list;
    });
    expect(items[0]).toMatchObject({
      receiver: 'erp',
      rule: 'machines',
      state: 'sent',
      attempts: 1,
      twin_id: 'machine:M1',
      title: 'machine:M1: created',
    });
    expect(JSON.stringify(hook.taken)).not.toContain('mote:7');
  });

  it('lists its receivers without their addresses', async () => {
    const { items } = await get('/api/v1/notifiers');
    expect(items).toMatchObject([
      { name: 'erp', type: 'webhook', rules: ['machines'], waiting: 0, dead: 0, last_error: null, file_fault: null },
    ]);
    expect(JSON.stringify(items)).not.toContain('very-private');
  });

  it('sends a test at once, and says why not', async () => {
    const test = () => node.http('POST', '/api/v1/notifiers/erp/test', { key: node.keys.operator });
    expect((await test()).json.data).toMatchObject({ delivered: true, error: null });
    expect(hook.taken.at(-1)?.body).toMatchObject({ type: 'test', title: 'This is a test of twinmesh' });
    hook.next({ status: 403, body: 'wrong tenant' });
    expect((await test()).json.data).toMatchObject({ delivered: false, error: 'HTTP 403: wrong tenant' });
    const unknown = await node.http('POST', '/api/v1/notifiers/nobody/test', { key: node.keys.operator });
    expect([unknown.status, unknown.json.code]).toEqual([404, 'not_found']);
  });

  it('counts what becomes of notifications', async () => {
    const text = await node.parts.metrics.text();
    expect(text).toMatch(/^twinmesh_notifications_total\{receiver="erp",outcome="sent"\} 1$/m);
    expect(text).toMatch(/^twinmesh_notifier_paused\{receiver="erp"\} 0$/m);
  });

  it('pages notifications, and refuses words that are none', async () => {
    for (const id of ['P1', 'P2', 'P3']) await node.tell('machine', id, { temperature: 60 });
    await until(async () => (await get('/api/v1/notifications?state=sent')).items.length === 4);
    const seen: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page = await get(`/api/v1/notifications?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`);
      seen.push(...page.items.map((item: { twin_id: string }) => item.twin_id));
      cursor = page.nextCursor;
    }
    expect(seen.sort()).toEqual(['machine:M1', 'machine:P1', 'machine:P2', 'machine:P3']);
    for (const query of ['state=new', 'cursor=zzz', 'limit=0']) {
      const { status } = await node.http('GET', `/api/v1/notifications?${query}`, { key: node.keys.viewer });
      expect([query, status >= 400 && status < 500]).toEqual([query, true]);
    }
  });

  it('has no maintenance to tell of yet', async () => {
    expect(await get('/api/v1/maintenance')).toEqual({ items: [], nextCursor: null });
  });
});
