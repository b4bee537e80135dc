import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { eventTime } from '../../../actors/ingress/event-time.ts';

const NOW = Date.UTC(2100, 0, 1);
const parse = (at: unknown) => eventTime(at, NOW, 0);

describe('event time', () => {
  it.each([
    ['2026-01-01T00:00:00Z', Date.UTC(2026, 0, 1)],
    ['2026-01-01T00:00:00.123Z', Date.UTC(2026, 0, 1) + 123],
    ['2026-01-01T00:00:00.123456789Z', Date.UTC(2026, 0, 1) + 123],
    ['2026-01-01T00:00:00.5Z', Date.UTC(2026, 0, 1) + 500],
    ['2026-01-01T00:00:00', Date.UTC(2026, 0, 1)],
    ['2026-01-01T00:00:00.123456', Date.UTC(2026, 0, 1) + 123],
    ['2026-01-01 12:30', Date.UTC(2026, 0, 1, 12, 30)],
    ['2026-01-01', Date.UTC(2026, 0, 1)],
    ['2026-01-01T02:00:00+02:00', Date.UTC(2026, 0, 1)],
    ['2025-12-31T18:30:00-0530', Date.UTC(2026, 0, 1)],
    ['2024-02-29T00:00:00Z', Date.UTC(2024, 1, 29)],
    ['1970-01-01T00:00:00Z', 0],
    [1767225600, Date.UTC(2026, 0, 1)],
    [1767225600.25, Date.UTC(2026, 0, 1) + 250],
    [1767225600000, Date.UTC(2026, 0, 1)],
    [1767225600000.4, Date.UTC(2026, 0, 1)],
    [0, 0],
    [-0, 0],
  ])('%s', (at, ms) => {
    expect(Object.is(parse(at), ms)).toBe(true);
  });

  it.each([
    ...[
      '',
      ' ',
      'now',
      '2026',
      '2026-1-1',
      '2026-13-01',
      '2026-00-01',
      '2026-01-00',
      '2026-02-29',
      '2100-02-29',
      '2026-04-31',
    ],
    ...[
      '2026-01-01T24:00:00Z',
      '2026-01-01T00:60:00Z',
      '2026-01-01T00:00:60Z',
      '2026-01-01T0a:00:00Z',
      '2026-01-01T00:00:00.12xZ',
    ],
    ...[
      '2026-01-01T00:00:00+24:00',
      '2026-01-01T00:00:00+00:60',
      '1767225600',
      '2200-01-01T00:00:00Z',
      '1969-12-31T23:59:59.999Z',
    ],
    ...['１９９９-01-01T00:00:00Z', `2026-01-01T00:00:00.${'0'.repeat(1000)}Z`],
    ...[
      -1,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      7_258_118_400_000,
      1e300,
      null,
      undefined,
      true,
      {},
      [],
      [1767225600],
    ],
  ])('refuses %s', (at) => {
    expect(() => parse(at)).toThrowError(expect.objectContaining({ code: 'bad_time' }));
  });

  it('refuses what lies too far ahead, by the skew that is allowed', () => {
    const now = Date.UTC(2026, 0, 1);
    expect(eventTime(now + 5000, now, 5000)).toBe(now + 5000);
    expect(() => eventTime(now + 5001, now, 5000)).toThrowError(expect.objectContaining({ code: 'future_time' }));
  });

  it('agrees with Date for every time it can write', () => {
    fc.assert(
      fc.property(fc.date({ min: new Date(0), max: new Date(NOW), noInvalidDate: true }), (date) => {
        expect(parse(date.toISOString())).toBe(date.getTime());
        expect(parse(date.toISOString().replace('.000Z', 'Z'))).toBe(date.getTime());
        expect(parse(date.toISOString().replace('T', ' ').replace('Z', ''))).toBe(date.getTime());
      }),
    );
  });
});
