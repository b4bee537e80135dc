import { describe, expect, it } from 'vitest';
import device from '../../../actors/kinds/device.ts';
import machine from '../../../actors/kinds/machine.ts';
import type { Entry } from '../../../actors/protocol/entry.ts';
import { H } from '../../../actors/runtime/layout.ts';
import { encodeSnapshot } from '../../../actors/runtime/snapshot.ts';
import { newState } from '../../../actors/runtime/state.ts';
import { fold } from '../../../actors/runtime/turn.ts';

const AT = Date.UTC(2026, 0, 1);
const COUNTS = { duplicates: 0, backfilled: 0 };

function reading(revision: number, kind: string, values: Record<string, number>): Entry {
  const at = AT + revision * 1000;
  return { type: 'reading', revision, receivedAt: at, reading: { kind, id: 'a', at, values } };
}

describe('a fold', () => {
  it('lays out open metrics alike in whatever order a message names them', () => {
    const [live, stored] = [
      { b: 1, a: 2 },
      { a: 2, b: 1 },
    ].map((values) => {
      const state = newState(device, 'device:a');
      fold(state, reading(1, 'device', values), []);
      return encodeSnapshot(state, COUNTS);
    });
    expect(stored).toEqual(live);
  });

  it('keeps the wake of a reading that brings a new open metric', () => {
    const state = newState(device, 'device:a');
    fold(state, reading(1, 'device', { temperature: 20 }), []);
    expect(state.n[H.WAKE]).toBe(AT + 1000 + device.silentAfterMs);
    fold(state, reading(2, 'device', { humidity: 40 }), []);
    expect(state.n[H.WAKE]).toBe(AT + 2000 + device.silentAfterMs);
  });

  it.each(['acknowledge', 'resolve', 'silence'] as const)(
    'takes %s of an alert that another version of the kind raised, without effect',
    (name) => {
      const state = newState(machine, 'machine:a');
      fold(state, reading(1, 'machine', { temperature: 60 }), []);
      const command = { name, key: 'k', by: 'somebody', alert: 'machine:a~overheating~1', untilMs: AT };
      const out: unknown[] = [];
      fold(state, { type: 'command', revision: 2, receivedAt: AT + 2000, command }, out as never);
      expect(out).toEqual([]);
      expect(state.n[H.RAISED]).toBe(0);
      expect(state.n[H.REVISION]).toBe(2);
    },
  );
});
