import { hash32 } from '../protocol/twin-id.ts';

/**
 * Who should own a shard: highest random weight over the living nodes (Thaler & Ravishankar 1998). When a node comes or
 * goes only its own share moves. Pure.
 */
export function wantedOwner(shard: number, living: readonly string[]): string | null {
  let best: string | null = null;
  let bestWeight = -1;
  for (const node of living) {
    const weight = hash32(`${node}/${shard}`);
    if (weight > bestWeight || (weight === bestWeight && best !== null && node < best)) {
      best = node;
      bestWeight = weight;
    }
  }
  return best;
}
