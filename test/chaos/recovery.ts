import { setTimeout as sleep } from 'node:timers/promises';
import type { Audit } from './audit.ts';

/** What a commit that was on its way when a fault began needs to land: it says nothing of life after it. */
const IN_FLIGHT_MS = 150;
const LOOK_EVERY_MS = 150;

/**
 * Until every shard has committed anew since a moment (ms of the wall clock), by what the database wrote down; null when
 * some have not within the limit. A database that is away is asked again.
 */
export async function allMoved(
  audit: Audit,
  shards: number,
  sinceMs: number,
  withinMs: number,
  until: () => boolean = () => false,
): Promise<number | null> {
  const limit = performance.now() + withinMs;
  const from = sinceMs + IN_FLIGHT_MS;
  while (performance.now() < limit && !until()) {
    try {
      const moved = await audit.progress(from);
      if (moved.size >= shards) return Math.max(...moved.values()) - sinceMs;
    } catch {
      // It is one of the faults.
    }
    await sleep(LOOK_EVERY_MS);
  }
  return null;
}

/** Shards that have not committed since then. */
export async function standing(audit: Audit, shards: number, sinceMs: number): Promise<number[]> {
  const moved = await audit.progress(sinceMs + IN_FLIGHT_MS).catch(() => new Map());
  return Array.from({ length: shards }, (_, shard) => shard).filter((shard) => !moved.has(shard));
}

/** How many shards have committed between two moments. */
export async function movedBetween(audit: Audit, fromMs: number, toMs: number): Promise<number> {
  const moved = await audit.progress(fromMs + IN_FLIGHT_MS);
  return [...moved.values()].filter((at) => at <= toMs).length;
}
