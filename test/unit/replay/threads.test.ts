import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../actors/protocol/clock.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { ReplayThreads, type ReplayThreadsOptions } from '../../../services/replay/threads.ts';

let threads: ReplayThreads;
afterEach(() => threads.close());

function open(options: Partial<ReplayThreadsOptions> = {}): void {
  threads = new ReplayThreads({
    settings: { databaseUrl: null, applicationName: 'test', kindFolders: [] },
    sql: {} as Sql,
    predictor: { predict: () => Promise.reject(new Error('nobody')) },
    clock: systemClock,
    file: new URL('../../fixtures/replay-thread.ts', import.meta.url),
    ...options,
  });
}

const run = (id: string, deadlineMs = 20_000, signal?: AbortSignal) =>
  threads.run<number>({ type: 'at', twinId: `a:${id}`, at: 0 }, { deadlineMs, signal });

describe('replay threads', () => {
  it('run one task after the other on the thread that is there', async () => {
    open();
    expect(await run('x')).toBe(1);
    expect(await run('x')).toBe(2);
    await expect(run('fail')).rejects.toMatchObject({ code: 'not_found', message: 'no', details: { x: 1 } });
    expect(await run('x')).toBe(4);
    expect(threads.size).toBe(1);
  });

  it.each([
    ['hang', 300, 'deadline_exceeded'],
    ['die', 20_000, 'internal'],
    ['throw', 20_000, 'internal'],
  ] as const)('that %s cost only their task', async (id, deadlineMs, code) => {
    open({ most: 1 });
    const bad = run(id, deadlineMs);
    const waiting = run('x');
    await expect(bad).rejects.toMatchObject({ code });
    // on a thread that is new
    expect(await waiting).toBe(1);
  });

  it('are bounded, and so are those who wait', async () => {
    open({ most: 2, maxWaiting: 2 });
    const [a, b, c, d, e] = ['slow', 'slow', 'slow', 'slow', 'slow'].map((id) => run(id).catch((error) => error.code));
    expect(threads.size).toBe(2);
    expect(await e).toBe('overloaded');
    expect((await Promise.all([a, b, c, d])).sort()).toEqual([1, 1, 2, 2]);
    expect(threads.size).toBe(2);
  });

  it('end what is given up, and what waits when they are closed', async () => {
    open({ most: 1 });
    const ending = new AbortController();
    const given = run('hang', 20_000, ending.signal);
    const waiting = run('x');
    setTimeout(() => ending.abort(), 50);
    await expect(given).rejects.toMatchObject({ code: 'unavailable' });
    expect(await waiting).toBe(1);
    const hung = run('hang').catch((error) => error.code);
    const line = run('x').catch((error) => error.code);
    await threads.close();
    expect(await Promise.all([hung, line])).toEqual(['unavailable', 'unavailable']);
    expect(threads.size).toBe(0);
    await expect(run('x')).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('that have nothing to do for long are let go', async () => {
    open({ idleMs: 30 });
    await run('x');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(threads.size).toBe(0);
    expect(await run('x')).toBe(1);
  });
});
