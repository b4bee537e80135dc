import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { PoolCounts } from '../../actors/store/pg.ts';

/**
 * What this node does to its database: connections, how long statements wait for one, and how long they take.
 *
 *  1. `operation` is a closed list: the methods of the store, and `list` for whatever services ask beside it.
 */
export interface PoolMetrics {
  acquired(waitedMs: number): void;
  statement(operation: string, durationMs: number, failed: boolean): void;
}

const OPERATIONS: ReadonlyMap<string, string> = new Map([
  ['commit', 'commit'],
  ['claim', 'claim'],
  ['release', 'release'],
  ['beat', 'beat'],
  ['nodes', 'beat'],
  ['shards', 'shards'],
  ['ping', 'ping'],
  ['lookup', 'lookup'],
  ['loadTwins', 'load'],
  ['loadTail', 'recover'],
  ['journal', 'journal'],
  ['events', 'events'],
  ['query', 'list'],
]);

const MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 30_000];

export function poolMetrics(registry: Registry): PoolMetrics {
  const registers = [registry];
  const acquire = new Histogram({
    name: 'twinmesh_database_acquire_duration_ms',
    help: 'How long a statement waited for its connection.',
    buckets: [0.1, 0.5, 1, 5, 20, 100, 500, 2000, 5000],
    registers,
  });
  const statements = new Histogram({
    name: 'twinmesh_database_statement_duration_ms',
    help: 'Database operations from asking to their answer, waiting for a connection included.',
    labelNames: ['operation'],
    buckets: MS,
    registers,
  });
  const failures = new Counter({
    name: 'twinmesh_database_statement_failures_total',
    help: 'Database operations that failed.',
    labelNames: ['operation'],
    registers,
  });
  return {
    acquired: (waitedMs) => acquire.observe(waitedMs),
    statement(method, durationMs, failed) {
      const operation = OPERATIONS.get(method) ?? 'other';
      statements.observe({ operation }, durationMs);
      if (failed) failures.inc({ operation });
    },
  };
}

/** Gauges of the connections, where there are any. */
export function watchPools(
  registry: Registry,
  pools: () => { readonly ordinary: PoolCounts; readonly priority: PoolCounts },
): void {
  const registers = [registry];
  const connections: Gauge<'pool' | 'state'> = new Gauge({
    name: 'twinmesh_database_pool_connections',
    help: 'Connections of this node to the database by state.',
    labelNames: ['pool', 'state'],
    registers,
    collect() {
      for (const [pool, { active, idle }] of Object.entries(pools())) {
        connections.set({ pool, state: 'active' }, active);
        connections.set({ pool, state: 'idle' }, idle);
      }
    },
  });
  const gauge = (name: string, help: string, of: (counts: PoolCounts) => number): void => {
    const made: Gauge<'pool'> = new Gauge({
      name,
      help,
      labelNames: ['pool'],
      registers,
      collect() {
        for (const [pool, counts] of Object.entries(pools())) made.set({ pool }, of(counts));
      },
    });
  };
  gauge('twinmesh_database_pool_waiting', 'Statements that wait for a connection.', ({ waiting }) => waiting);
  gauge('twinmesh_database_pool_max', 'Connections at most (DATABASE_POOL).', ({ max }) => max);
}
