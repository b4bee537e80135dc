import { describe, expect, it } from 'vitest';
import type { Entry } from '../../../actors/protocol/entry.ts';
import { type CallTwin, LEASE_MS, RemoteTwins } from '../../../services/twins/remote-twin.ts';
import { FakeClock, settle } from './fake-clock.ts';

/** An owner that grants leases, and the news that the twin may have moved. */
function remote() {
  const clock = new FakeClock();
  const owner = { asked: 0, revision: 0, there: true };
  let wake: () => void = () => undefined;
  const twins = new RemoteTwins({
    node: 'g',
    clock,
    call: (async (action: string, params: object) => {
      expect([action, params]).toEqual(['twins.watch', { twinId: 'machine:M1', node: 'g', leaseMs: LEASE_MS }]);
      owner.asked++;
      if (!owner.there) throw new Error('nobody');
      return { revision: owner.revision };
    }) as CallTwin,
    moved: () =>
      new Promise((resolve) => {
        wake = resolve;
      }),
  });
  return { twins, owner, moved: () => wake() };
}

describe('a twin of another node', () => {
  it('is followed under one lease, and every grant says how far it has come', async () => {
    const { twins, owner, moved } = remote();
    const seen: [string, number][] = [];
    const follow = (name: string) =>
      twins.watch(
        'machine:M1',
        (entries) => seen.push([`${name} heard`, entries[0].revision]),
        (revision) => seen.push([`${name} reached`, revision]),
      );
    owner.revision = 4;
    const leave = [follow('a'), follow('b')];
    await settle();
    expect(owner.asked).toBe(1);
    expect(seen).toEqual([
      ['a reached', 4],
      ['b reached', 4],
    ]);
    twins.hear('machine:M1', [{ revision: 5 } as Entry]);
    expect(seen.slice(2)).toEqual([
      ['a heard', 5],
      ['b heard', 5],
    ]);
    // the owner goes; the next one has committed more meanwhile
    owner.there = false;
    moved();
    await settle();
    Object.assign(owner, { there: true, revision: 9 });
    leave[0]();
    moved();
    await settle();
    expect(seen.slice(4)).toEqual([['b reached', 9]]);
    leave[1]();
    moved();
    await settle();
    expect(owner.asked).toBe(3);
  });
});
