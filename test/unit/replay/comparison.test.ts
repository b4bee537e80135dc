import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compare, type Happening, happeningOf, newTally } from '../../../services/replay/comparison.ts';

const happening = (at: number, name = 'hot', what: Happening['what'] = 'alert'): Happening => ({
  what,
  name,
  at,
  severity: 'high',
  body: {},
});
const margins = { windowMs: 1_000, toleranceMs: 10 };

function changes(was: Happening[], now: Happening[]): string[] {
  return compare(was, now, margins, newTally()).map((d) => `${d.change} ${d.was?.at ?? '-'} ${d.now?.at ?? '-'}`);
}

describe('two courses of a twin', () => {
  it('agree where nothing is further apart than the tolerance', () => {
    const tally = newTally();
    expect(compare([happening(0), happening(5_000)], [happening(10), happening(5_000)], margins, tally)).toEqual([]);
    expect(tally.alert).toEqual({ was: 2, now: 2, same: 2, gained: 0, lost: 0, earlier: 0, later: 0 });
  });

  it('differ by what is gained, lost, earlier and later', () => {
    expect(changes([happening(100)], [])).toEqual(['lost 100 -']);
    expect(changes([], [happening(100)])).toEqual(['gained - 100']);
    expect(changes([happening(500)], [happening(100)])).toEqual(['earlier 500 100']);
    expect(changes([happening(100)], [happening(500)])).toEqual(['later 100 500']);
    expect(changes([happening(0)], [happening(1_001)])).toEqual(['lost 0 -', 'gained - 1001']);
    expect(changes([happening(0, 'a')], [happening(0, 'b')])).toEqual(['lost 0 -', 'gained - 0']);
    expect(changes([happening(0)], [happening(0, 'hot', 'anomaly')])).toEqual(['lost 0 -', 'gained - 0']);
  });

  it('pairs what is nearest', () => {
    expect(changes([happening(0), happening(900)], [happening(895)])).toEqual(['lost 0 -']);
    expect(changes([happening(900)], [happening(0), happening(895)])).toEqual(['gained - 0']);
    expect(changes([happening(0), happening(900)], [happening(400), happening(1_300)])).toEqual([
      'later 0 400',
      'later 900 1300',
    ]);
  });

  it('counts everything once', () => {
    const list = fc.array(fc.integer({ min: 0, max: 10_000 }), { maxLength: 30 });
    fc.assert(
      fc.property(list, list, (was, now) => {
        const tally = newTally();
        compare(
          was.map((at) => happening(at)),
          now.map((at) => happening(at)),
          margins,
          tally,
        );
        const { alert: t } = tally;
        const both = t.same + t.earlier + t.later;
        expect([t.was, t.now]).toEqual([was.length, now.length]);
        expect([both + t.lost, both + t.gained]).toEqual([was.length, now.length]);
        const other = newTally();
        expect(
          compare(
            [...was].map((at) => happening(at)),
            [...was].map((at) => happening(at)),
            margins,
            other,
          ),
        ).toEqual([]);
      }),
    );
  });

  it('are told by alerts that are raised, anomalies of models and actions', () => {
    const event = (type: string, body: Record<string, unknown>) => happeningOf({ type: type as never, at: 1, body });
    expect(event('alert.raised', { rule: 'hot', severity: 'high' })).toMatchObject({ what: 'alert', name: 'hot' });
    expect(event('alert.cleared', { rule: 'hot' })).toBeNull();
    expect(event('anomaly.detected', { detector: 'zscore', field: 'heat' })).toBeNull();
    expect(event('anomaly.detected', { detector: 'model', prediction: 'wear' })).toMatchObject({ name: 'wear' });
    expect(event('maintenance.predicted', { prediction: 'rul', action: 'stop' })).toMatchObject({ name: 'rul: stop' });
  });
});
