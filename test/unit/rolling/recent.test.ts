import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Recent } from '../../../actors/rolling/recent.ts';

describe('the memory of identities', () => {
  it('recognises exactly what was added above the floor, whatever the order', () => {
    const op = fc.record({
      at: fc.integer({ min: 0, max: 60 }),
      identity: fc.integer({ min: 1, max: 3 }),
      values: fc.integer({ min: 1, max: 2 }),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 200 }), fc.integer({ min: 5, max: 30 }), (ops, window) => {
        const recent = new Recent();
        const model = new Map<string, number>();
        let floor = -1;
        let newest = 0;
        for (const { at, identity, values } of ops) {
          if (at <= floor) continue;
          const known = model.get(`${at}/${identity}`);
          const expected = known === undefined ? 'new' : known === values ? 'duplicate' : 'conflict';
          expect(recent.recognise(at, identity, values, false)).toBe(expected);
          if (expected !== 'new') continue;
          recent.add(at, identity, values);
          model.set(`${at}/${identity}`, values);
          newest = Math.max(newest, at);
          floor = Math.max(floor, newest - window);
          recent.forget(floor);
          for (const key of model.keys()) if (Number(key.split('/')[0]) <= floor) model.delete(key);
          expect(recent.size).toBe(model.size);
          const restored = new Recent(recent.toArray());
          expect(restored.toArray()).toEqual(recent.toArray());
        }
      }),
    );
  });

  it('recognises an id of its own at any time', () => {
    const recent = new Recent();
    recent.add(10, 99, 1);
    recent.add(20, 98, 1);
    expect(recent.recognise(10, 99, 1, true)).toBe('duplicate');
    expect(recent.recognise(15, 99, 1, true)).toBe('conflict');
    expect(recent.recognise(15, 97, 1, true)).toBe('new');
  });
});
