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

/** Share of the ttl within which a living node has beaten: every quarter, and a little. */
const BEATEN = 0.35;

/** Whether a node of this name is alive. Takes that share of the ttl where there has been one. */
export async function beats(sql: Sql, node: string, ttlMs: number): Promise<boolean> {
  const beat = async () =>
    (await sql.query<{ beat: string }>('select beat::text as beat from nodes where node = $1', [node]))[0]?.beat;
  const before = await beat();
  if (before === undefined) return false;
  await sleep(ttlMs * BEATEN);
  const after = await beat();
  return after !== undefined && after !== before;
}
