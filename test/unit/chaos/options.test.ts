import { describe, expect, it } from 'vitest';
import { type ChaosOptions, readOptions } from '../../chaos/options.ts';

const read = (...args: string[]) => readOptions(args) as ChaosOptions;

describe('options of the fault harness', () => {
  it('have a profile for the check of every change, with the same faults each time', () => {
    const { onceEach, seed, welcome, goal } = read('--quick');
    expect({ onceEach, seed, goal }).toEqual({ onceEach: true, seed: 1, goal: null });
    expect([...welcome]).toEqual(['redis', 'kafka']);
    expect(read('--quick', '--seed', '9').seed).toBe(9);
  });

  it('have one with a goal, of which the command line says more', () => {
    expect(read('--profile', 'million').goal).toEqual({ readings: 1_000_000, faults: 100 });
    expect(read('--profile', 'million', '--readings', '5000').goal).toEqual({ readings: 5_000, faults: 100 });
    expect(read('--least', '3').goal).toEqual({ readings: 0, faults: 3 });
    expect(read().goal).toBeNull();
  });

  it('name what is wrong', () => {
    expect(() => read('--rate', 'fast')).toThrow('--rate is a number from 1 to');
    expect(() => read('--profile', 'slow')).toThrow('--profile is one of');
    expect(() => read('--servers', 'oracle')).toThrow('--servers takes nats');
  });
});
