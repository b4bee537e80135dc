import { describe, expect, it } from 'vitest';
import { Membership } from '../../../actors/placement/membership.ts';
import { wantedOwner } from '../../../actors/placement/rendezvous.ts';
import type { Clock } from '../../../actors/protocol/clock.ts';

describe('rendezvous hashing', () => {
  const shards = Array.from({ length: 1024 }, (_, i) => i);

  it('spreads shards about evenly and does not depend on the order of the names', () => {
    const nodes = ['a', 'b', 'c', 'd'];
    const counts = new Map(nodes.map((n) => [n, 0]));
    for (const shard of shards) {
      const owner = wantedOwner(shard, nodes)!;
      expect(wantedOwner(shard, [...nodes].reverse())).toBe(owner);
      counts.set(owner, counts.get(owner)! + 1);
    }
    for (const count of counts.values()) expect(Math.abs(count - 256)).toBeLessThan(80);
  });

  it('moves only the share of the node that comes or goes', () => {
    for (const shard of shards) {
      const before = wantedOwner(shard, ['a', 'b', 'c'])!;
      const after = wantedOwner(shard, ['a', 'b', 'c', 'd'])!;
      if (after !== 'd') expect(after).toBe(before);
    }
    expect(wantedOwner(1, [])).toBeNull();
  });
});

describe('membership', () => {
  it('takes a beat that stood still for ttl on our own clock for dead, and a moving one for alive', () => {
    let now = 0;
    const clock: Clock = { now: () => 0, monotonic: () => now, after: () => ({ cancel() {} }) };
    const membership = new Membership({ clock, ttlMs: 1000, self: 'me' });
    membership.observe(
      [
        { node: 'still', beat: 7, leaving: false },
        { node: 'moving', beat: 1, leaving: false },
      ],
      now,
    );
    const later = [
      { node: 'still', beat: 7, leaving: false },
      { node: 'moving', beat: 2, leaving: false },
    ];
    now = 600;
    membership.observe(later, now);
    now = 1100;
    // an answer that came late, or to one who stood still himself, says nothing of the time since it was asked for
    membership.observe(later, 999);
    expect(membership.living()).toEqual(['me', 'moving', 'still']);
    membership.observe(later, now);
    expect(membership.living()).toEqual(['me', 'moving']);
    expect(membership.isAlive('still')).toBe(false);
    // an owner without a row may be back already and about to beat: only ttl later is it dead
    expect(membership.isAlive('unheard-of')).toBe(true);
    expect(membership.hasOthers).toBe(true);
    membership.observe([{ node: 'still', beat: 8, leaving: false }], now);
    expect(membership.living()).toEqual(['me', 'still']);
    now = 2100;
    membership.observe([{ node: 'still', beat: 9, leaving: false }], now);
    expect(membership.isAlive('unheard-of')).toBe(false);
    expect(membership.isAlive('moving')).toBe(false);
  });
});
