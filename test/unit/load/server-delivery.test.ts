import { describe, expect, it } from 'vitest';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import type { RawReading } from '../../../actors/protocol/kind.ts';
import type { ControlClient } from '../../../services/control-client.ts';
import type { Block } from '../../../services/load/block.ts';
import { ServerDelivery } from '../../../services/load/server-delivery.ts';
import { kinds } from './bytes.ts';

const AT = Date.UTC(2026, 0, 1);
const block = (readings: RawReading[], messages: Buffer | null = null): Block => ({
  readings,
  messages,
  lines: readings.length,
  skipped: {},
  end: { offset: 0, lines: 0, rows: 0 },
});
const reading = (id: string, n: number): RawReading => ({ id, at: AT + n, values: { temperature: n } });

/** A server that answers late, in its own time. */
class Server implements Pick<ControlClient, 'send'> {
  readonly bodies: string[] = [];
  readonly lines: { twinId: string; at: number }[] = [];
  failures: TwinmeshError[] = [];
  #calls = 0;

  async send<Data>(method: string, path: string, contentType: string, body: string | Uint8Array): Promise<Data> {
    expect([method, path, contentType]).toEqual(['POST', '/api/v1/telemetry', 'application/x-ndjson']);
    const call = this.#calls++;
    await new Promise((resolve) => setTimeout(resolve, (call * 7) % 5));
    const failure = this.failures.shift();
    if (failure) throw failure;
    const text = body.toString();
    this.bodies.push(text);
    const lines = text.split('\n').filter((line) => line !== '');
    for (const line of lines) this.lines.push(JSON.parse(line));
    return {
      accepted: lines.length - 1,
      duplicates: 0,
      rejected: [{ index: 0, code: 'bad_id', message: 'no' }],
    } as Data;
  }
}

describe('delivery to a server', () => {
  it('tells each twin its readings in order, over several blocks at once', async () => {
    const server = new Server();
    const delivery = new ServerDelivery(server, kinds.get('mote'), 8_388_608);
    const ids = Array.from({ length: 12 }, (_, i) => `m${i}`);
    const sent = Array.from({ length: 6 }, (_, b) =>
      delivery.deliver(block(ids.flatMap((id) => [reading(id, b * 2), reading(id, b * 2 + 1)]))),
    );
    const delivered = await Promise.all(sent);
    for (const id of ids) {
      const own = server.lines.filter(({ twinId }) => twinId === `mote:${id}`).map(({ at }) => at - AT);
      expect(own).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }
    const rejected = delivered.flatMap((each) => each.rejected).length;
    expect(rejected).toBe(server.bodies.length);
    expect(delivered.reduce((sum, each) => sum + each.accepted, 0)).toBe(144 - rejected);
  });

  it('keeps bodies within what the server takes', async () => {
    const server = new Server();
    const delivery = new ServerDelivery(server, kinds.get('mote'), 2000);
    await delivery.deliver(block(Array.from({ length: 100 }, (_, i) => reading('one', i))));
    expect(server.bodies.length).toBeGreaterThan(1);
    for (const body of server.bodies) expect(Buffer.byteLength(body)).toBeLessThanOrEqual(2000);
    expect(server.lines.map(({ at }) => at - AT)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it('hands messages on as they stand', async () => {
    const server = new Server();
    const delivery = new ServerDelivery(server, kinds.get('mote'), 2000);
    await delivery.deliver(block([], Buffer.from('{"a":1}\n')));
    await delivery.deliver(block([], Buffer.alloc(0)));
    expect(server.bodies).toEqual(['{"a":1}\n']);
  });

  it('asks again while the server is busy, and says what it waits for', async () => {
    const server = new Server();
    server.failures = [new TwinmeshError('overloaded', 'Too much.'), new TwinmeshError('store_down', 'Down.')];
    const delivery = new ServerDelivery(server, kinds.get('mote'), 2000);
    const delivered = delivery.deliver(block([reading('m', 1), reading('m', 2)]));
    await expect.poll(() => delivery.waiting).toBe('Too much.');
    expect((await delivered).accepted).toBe(1);
    expect(delivery.waiting).toBeNull();
  });

  it('stops at what will not pass, and lets nothing of the twin overtake', async () => {
    const server = new Server();
    server.failures = [new TwinmeshError('forbidden', 'No.')];
    const delivery = new ServerDelivery(server, kinds.get('mote'), 2000);
    const first = delivery.deliver(block([reading('m', 1)]));
    const second = delivery.deliver(block([reading('m', 2)]));
    await expect(first).rejects.toThrow('No.');
    await expect(second).rejects.toThrow('No.');
    expect(server.lines).toEqual([]);
  });
});
