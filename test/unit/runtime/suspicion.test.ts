import { describe, expect, it } from 'vitest';
import { isPending, suspicionOf, timesNamed } from '../../../actors/runtime/suspicion.ts';

describe('the cursor that names a suspect', () => {
  it('moves forward with every naming, reading and message', () => {
    const values = [suspicionOf(7, 0, 1), suspicionOf(7, 0, 3), suspicionOf(7, 1, 1), suspicionOf(8, 0, 1)];
    expect(values).toEqual([...values].sort((a, b) => a - b));
    expect(new Set(values).size).toBe(4);
  });

  it('says how often that reading was named, and nothing of another one', () => {
    expect(timesNamed(suspicionOf(7, 4, 3), 7, 4)).toBe(3);
    expect(timesNamed(suspicionOf(7, 4, 3), 7, 5)).toBe(0);
    expect(timesNamed(suspicionOf(7, 4, 3), 8, 4)).toBe(0);
    expect(timesNamed(0, 7, 4)).toBe(0);
  });

  it('is pending until its message has been passed', () => {
    expect(isPending(suspicionOf(7, 4, 1), 6)).toBe(true);
    expect(isPending(suspicionOf(7, 4, 1), 7)).toBe(false);
    expect(isPending(0, 0)).toBe(false);
  });

  it('stays an exact number up to nine billion messages', () => {
    expect(Number.isSafeInteger(suspicionOf(9_000_000_000, 99_999, 3))).toBe(true);
  });
});
