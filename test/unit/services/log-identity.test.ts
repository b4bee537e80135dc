import { describe, expect, it } from 'vitest';
import { JetStreamLog } from '../../../actors/log/jetstream.ts';
import { MemoryLog } from '../../../actors/log/memory.ts';
import type { Log } from '../../../actors/log/port.ts';
import { systemClock } from '../../../actors/protocol/clock.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { loadSettings } from '../../../config/settings.ts';
import { claimLog } from '../../../services/log-identity.ts';

const settings = { ...loadSettings({ NODE_ID: 'b' }), ttlMs: 40 };
const memory = (): Log => new MemoryLog({ clock: systemClock, maxReadings: 10 });
const jetstream = (made: string): Log =>
  Object.create(JetStreamLog.prototype, { made: { value: made } }) as unknown as Log;

/** The rows that matter: what is stored of the log, and the beats of nodes, which move with every look where they live. */
function database(stored: string | undefined, nodes: Record<string, boolean> = {}) {
  const is = { stored };
  let beat = 0;
  const sql = {
    async query(text: string, params: unknown[] = []) {
      if (text.startsWith('select value')) return is.stored === undefined ? [] : [{ is: is.stored }];
      if (text.includes('from nodes')) {
        beat++;
        return Object.entries(nodes).map(([node, alive]) => ({ node, beat: alive ? String(beat) : '7' }));
      }
      is.stored = params[0] as string;
      return [];
    },
  } as unknown as Sql;
  return { sql, is };
}

describe('the log of a database', () => {
  it('is the first that comes, and then the same for all', async () => {
    const { sql, is } = database(undefined, { a: true });
    await claimLog(sql, jetstream('1'), settings);
    expect(is.stored).toBe('jetstream 1');
    await claimLog(sql, jetstream('1'), settings);
    expect(is.stored).toBe('jetstream 1');
  });

  it('is not another one while a node serves it', async () => {
    const { sql, is } = database('jetstream 1', { a: true, b: true });
    await expect(claimLog(sql, jetstream('2'), settings)).rejects.toThrow(/^a serve this database with another log/);
    expect(is.stored).toBe('jetstream 1');
    await expect(claimLog(database('memory', { a: true }).sql, jetstream('1'), settings)).rejects.toMatchObject({
      code: 'conflict',
    });
  });

  it('may be a new one when nobody is there, as after a restore', async () => {
    const { sql, is } = database('jetstream 1', { a: false, b: true });
    await claimLog(sql, jetstream('2'), settings);
    expect(is.stored).toBe('jetstream 2');
  });

  it('is never memory again where messages may wait on NATS', async () => {
    const { sql, is } = database('jetstream 1');
    await expect(claimLog(sql, memory(), settings)).rejects.toThrow(/Set NATS_URL/);
    expect(is.stored).toBe('jetstream 1');
    const fresh = database('memory');
    await claimLog(fresh.sql, memory(), settings);
    expect(fresh.is.stored).toBe('memory');
  });
});
