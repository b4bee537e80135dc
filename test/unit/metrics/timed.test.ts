import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { watchLog } from '../../../services/metrics/log.ts';
import { poolMetrics, watchPools } from '../../../services/metrics/pool.ts';
import { timed } from '../../../services/metrics/timed.ts';

describe('a timed object', () => {
  class Part {
    #secret = 7;
    readonly name = 'part';
    get answer(): number {
      return this.#secret;
    }
    async add(more: number): Promise<number> {
      return this.#secret + more;
    }
    async fail(): Promise<never> {
      throw new Error('no');
    }
    plain(): number {
      return this.#secret;
    }
  }

  it('does what it did, and reports the calls that answer a promise', async () => {
    const seen: [string, boolean][] = [];
    const part = timed(new Part(), (method, durationMs, failed) => {
      expect(durationMs).toBeGreaterThanOrEqual(0);
      seen.push([method, failed]);
    });
    expect([part.name, part.answer, part.plain()]).toEqual(['part', 7, 7]);
    expect(await part.add(1)).toBe(8);
    await expect(part.fail()).rejects.toThrow('no');
    expect(part.add).toBe(part.add);
    expect(seen).toEqual([
      ['add', false],
      ['fail', true],
    ]);
  });
});

describe('database metrics', () => {
  it('have a closed list of operations', async () => {
    const registry = new Registry();
    const database = poolMetrics(registry);
    database.statement('commit', 4, false);
    database.statement('constructor', 4, true);
    database.acquired(0.2);
    const text = await registry.metrics();
    expect(text).toContain('twinmesh_database_statement_duration_ms_count{operation="commit"} 1');
    expect(text).toContain('twinmesh_database_statement_failures_total{operation="other"} 1');
    expect(text).toContain('twinmesh_database_acquire_duration_ms_bucket{le="0.5"} 1');
  });

  it('follow the pools', async () => {
    const registry = new Registry();
    const priority = { active: 1, idle: 1, waiting: 0, max: 2 };
    watchPools(registry, () => ({ ordinary: { active: 8, idle: 0, waiting: 3, max: 8 }, priority }));
    const text = await registry.metrics();
    expect(text).toContain('twinmesh_database_pool_connections{pool="ordinary",state="active"} 8');
    expect(text).toContain('twinmesh_database_pool_waiting{pool="ordinary"} 3');
    expect(text).toContain('twinmesh_database_pool_max{pool="priority"} 2');
  });
});

describe('metrics of the shared log', () => {
  it('make readings of messages by what was taken', async () => {
    const registry = new Registry();
    const counters = { published: 3, duplicates: 0, stalls: 0, gaps: 0, undecodable: 0, reconnects: 0, lostNotes: 0 };
    const rest = { readers: 1, bufferedBytes: 10, inFlightBytes: 0, waiting: 2 };
    const status = { ...counters, ...rest, connected: true, fetched: 10, readings: 500, behind: 4 };
    watchLog(registry, () => status);
    expect(await registry.metrics()).toContain('twinmesh_log_lag_readings 200\n');
    expect(await registry.metrics()).toContain('twinmesh_log_published_total 3\n');
    Object.assign(status, { fetched: 0, readings: 0, connected: false });
    expect(await registry.metrics()).toContain('twinmesh_log_lag_readings 4\n');
    expect(await registry.metrics()).toContain('twinmesh_nats_connected 0\n');
  });
});
