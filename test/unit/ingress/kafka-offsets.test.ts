import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PartitionOffsets } from '../../../mixins/kafka-offsets.ts';

describe('offsets of a partition', () => {
  it('end before the first record that is not done', () => {
    const offsets = new PartitionOffsets();
    expect(offsets.committable).toBeNull();
    const [a, b, c] = [offsets.begin(9n, 10), offsets.begin(19n, 10), offsets.begin(40n, 5)];
    expect(offsets.inFlight).toBe(25);
    offsets.finish(b);
    expect(offsets.committable).toBeNull();
    offsets.finish(a);
    offsets.finish(a);
    expect([offsets.committable, offsets.inFlight]).toEqual([20n, 5]);
    offsets.committed(20n);
    expect(offsets.committable).toBeNull();
    offsets.finish(c);
    expect([offsets.committable, offsets.inFlight]).toEqual([41n, 0]);
  });

  it('never pass a record that is not done, and only grow, whatever the order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 30 }),
        fc.infiniteStream(fc.nat()),
        (sizes, picks) => {
          const offsets = new PartitionOffsets();
          let next = 0;
          const open = sizes.map((records) => {
            const first = next;
            next += records;
            return { first, chunk: offsets.begin(BigInt(next - 1), records) };
          });
          let before = 0n;
          while (open.length > 0) {
            const [done] = open.splice(picks.next().value % open.length, 1);
            offsets.finish(done.chunk);
            const now = offsets.committable ?? before;
            expect(now).toBeGreaterThanOrEqual(before);
            for (const { first } of open) expect(now).toBeLessThanOrEqual(BigInt(first));
            before = now;
          }
          expect(before).toBe(BigInt(next));
          expect(offsets.inFlight).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });
});
