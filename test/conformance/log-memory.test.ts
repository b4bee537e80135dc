import { describe, expect, it } from 'vitest';
import { MemoryLog } from '../../actors/log/memory.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { logConformance } from './log.ts';

logConformance('memory', async (maxReadings) => new MemoryLog({ clock: systemClock, maxReadings }));

describe('the memory log', () => {
  const batch = (id: string) => ({
    shard: 0,
    id,
    receivedAt: 1,
    readings: [{ kind: 'mote', id: '1', at: 1, values: { temperature: 1 } }],
  });

  it('resolves an append only after the commit', async () => {
    const log = new MemoryLog({ clock: systemClock, maxReadings: 10 });
    let resolved = false;
    const done = log.append(batch('a')).then(() => {
      resolved = true;
    });
    const [message] = log.read(0, 41, () => {}).take(10);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(resolved).toBe(false);
    expect(message.position).toBe(42);
    log.committed(0, 42, []);
    await done;
    expect(log.held).toBe(0);
  });

  it('counts what an owner committed without saying so as done when the shard is read again', async () => {
    const log = new MemoryLog({ clock: systemClock, maxReadings: 10 });
    const done = log.append(batch('a'));
    log.read(0, 0, () => {}).take(10);
    log.read(0, 1, () => {});
    expect(await done).toMatchObject({ position: 1 });
  });

  it('rejects what is waiting when it closes', async () => {
    const log = new MemoryLog({ clock: systemClock, maxReadings: 1 });
    const waiting = [log.append(batch('a')), log.append(batch('b'))];
    await log.close();
    for (const append of waiting) await expect(append).rejects.toMatchObject({ code: 'unavailable' });
    await expect(log.append(batch('c'))).rejects.toMatchObject({ code: 'unavailable' });
  });
});
