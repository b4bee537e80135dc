import { describe, expect, it } from 'vitest';
import { Directory, type Ownership } from '../../../actors/placement/directory.ts';
import { systemClock } from '../../../actors/protocol/clock.ts';

function directoryOf(look: () => Promise<Ownership[]> = async () => []) {
  const errors: unknown[] = [];
  const directory = new Directory({
    shards: 4,
    look,
    clock: systemClock,
    everyMs: 60_000,
    onError: (error) => errors.push(error),
  });
  return { directory, errors };
}

describe('directory', () => {
  it('knows owners by shard and counts them', () => {
    const { directory } = directoryOf();
    directory.observe([
      { shard: 0, owner: 'a', epoch: 1 },
      { shard: 1, owner: 'b', epoch: 1 },
      { shard: 2, owner: 'b', epoch: 3 },
      { shard: 3, owner: null, epoch: 2 },
    ]);
    expect([0, 1, 2, 3].map((shard) => directory.ownerOf(shard))).toEqual(['a', 'b', 'b', null]);
    expect([...directory.counts()]).toEqual([
      ['a', 1],
      ['b', 2],
    ]);
  });

  it('is not set back by news that were overtaken', () => {
    const { directory } = directoryOf();
    directory.observe([{ shard: 0, owner: 'b', epoch: 5 }]);
    directory.observe([{ shard: 0, owner: 'a', epoch: 4 }]);
    expect(directory.ownerOf(0)).toBe('b');
    directory.observe([{ shard: 0, owner: null, epoch: 5 }]);
    expect(directory.ownerOf(0)).toBeNull();
    // A look that was under way when it was given up still shows the owner of the same epoch.
    directory.observe([{ shard: 0, owner: 'b', epoch: 5 }]);
    expect(directory.ownerOf(0)).toBeNull();
    directory.observe([{ shard: 0, owner: 'a', epoch: 6 }]);
    expect(directory.ownerOf(0)).toBe('a');
  });

  it('follows a database that was restored from a backup, but no look that news have overtaken', async () => {
    let answer: () => Promise<Ownership[]> = async () => [{ shard: 0, owner: 'a', epoch: 3 }];
    const { directory } = directoryOf(() => answer());
    directory.observe([{ shard: 0, owner: 'b', epoch: 9 }]);
    await directory.doubt();
    expect(directory.ownerOf(0)).toBe('a');
    // the answer was on its way when the shard moved
    answer = async () => {
      directory.observe([{ shard: 0, owner: 'c', epoch: 4 }]);
      return [{ shard: 0, owner: 'a', epoch: 3 }];
    };
    await directory.doubt();
    expect(directory.ownerOf(0)).toBe('c');
  });

  it('wakes whoever waits for a shard when it moves, and only then', async () => {
    const { directory } = directoryOf();
    const woken: string[] = [];
    const moved = directory.change(0, 60_000).then(() => woken.push('0'));
    const other = directory.change(1, 50).then(() => woken.push('1'));
    directory.observe([{ shard: 0, owner: 'a', epoch: 1 }]);
    await moved;
    expect(woken).toEqual(['0']);
    await other;
    expect(woken).toEqual(['0', '1']);
  });

  it('shares one look among all who doubt', async () => {
    let looks = 0;
    const { directory } = directoryOf(async () => {
      looks++;
      return [{ shard: 0, owner: 'a', epoch: looks }];
    });
    await Promise.all(Array.from({ length: 100 }, () => directory.doubt()));
    expect(looks).toBe(1);
    await directory.doubt();
    expect(looks).toBe(2);
  });

  it('keeps what it knows when the database does not answer', async () => {
    const { directory, errors } = directoryOf(() => Promise.reject(new Error('down')));
    directory.observe([{ shard: 0, owner: 'a', epoch: 1 }]);
    await directory.doubt();
    expect(directory.ownerOf(0)).toBe('a');
    expect(errors).toHaveLength(1);
  });
});
