import { setTimeout as sleep } from 'node:timers/promises';
import type { Sql } from '../actors/store/sql.ts';

/** Nodes whose beat moves: a living one beats every quarter of the ttl. Takes half a ttl where there may be any. */
export async function livingNodes(sql: Sql, ttlMs: number): Promise<string[]> {
  const beats = () => sql.query<{ node: string; beat: string }>('select node, beat::text as beat from nodes');
  const before = new Map((await beats()).map(({ node, beat }) => [node, beat]));
  if (before.size === 0) return [];
  await sleep(ttlMs / 2);
  return (await beats()).filter(({ node, beat }) => before.get(node) !== beat).map(({ node }) => node);
}
