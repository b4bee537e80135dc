import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { eventTime } from '../../../actors/ingress/event-time.ts';
import { intelReading, looksLikeIntelText, numberOf } from '../../../services/load/intel-text.ts';

const read = (line: string) => {
  // Not at the start of the buffer, as in a segment.
  const bytes = Buffer.from(`\n${line}\n`);
  return intelReading(bytes, 1, bytes.length - 1);
};
const ms = (text: string) => Date.parse(text);

describe('Intel lab text', () => {
  it('reads 8 parts: date time epoch mote temperature humidity light voltage', () => {
    expect(read('2004-03-31 03:38:15.757551 2 1 122.153 -3.91901 11.04 2.03397')).toEqual({
      id: '1',
      at: ms('2004-03-31T03:38:15.757Z'),
      values: { temperature: 122.153, humidity: -3.91901, light: 11.04, voltage: 2.03397 },
      seq: 2,
    });
    expect(read('2004-02-28 00:59:16.02785 3 1 19.9884 37.0933 45.08 2.69964\r')).toMatchObject({
      at: ms('2004-02-28T00:59:16.027Z'),
      seq: 3,
      values: { voltage: 2.69964 },
    });
  });

  const nine = '2004-02-28 00:59:16.02785 7 19.98 37.09 45.08 2.69';
  it.each([
    ['two parts', '2004-03-01 10:20:30.5', '2004-03-01T10:20:30.500Z'],
    ['one part', '2004-03-01T10:20:30.5Z', '2004-03-01T10:20:30.500Z'],
    ['one part, with an offset', '2004-03-01T10:20:30+02:00', '2004-03-01T08:20:30.000Z'],
    ['a date alone', '2004-03-01', '2004-03-01T00:00:00.000Z'],
    ['epoch seconds', '1078136430', '2004-03-01T10:20:30.000Z'],
    ['epoch milliseconds', '1078136430250', '2004-03-01T10:20:30.250Z'],
  ])('takes the time from an updated timestamp: %s', (_, updated, at) => {
    expect(read(`${nine} ${updated}`)).toEqual({
      id: '7',
      at: ms(at),
      values: { temperature: 19.98, humidity: 37.09, light: 45.08, voltage: 2.69 },
      seq: undefined,
    });
  });

  it.each([
    ['2004-02-28 00:59:16 7 2004-03-01T10:20:30Z', 'no_sensor_data'],
    ['2004-02-28 00:59:16 7 1078136430', 'no_sensor_data'],
    ['2004-02-28 00:59:16 7 2004-03-01 10:20:30', 'no_sensor_data'],
    ['2004-02-28 00:59:16 7 21.5', 'part_count'],
    ['2004-02-28 00:59:16', 'part_count'],
    ['2004-02-28 00:59:16 3 1 19.98 37.09 45.08', 'part_count'],
    ['2004-02-28 00:59:16 3 1 19.98 37.09 45.08 2.69 1 2 3', 'part_count'],
    ['2004-02-28 00:59:16 3 1 19.98 37.09 45.08 2.69 9', 'part_count'],
    ['2004-02-30 00:59:16 3 1 19.98 37.09 45.08 2.69', 'bad_time'],
    ['2004-02-28 24:00:00 3 1 19.98 37.09 45.08 2.69', 'bad_time'],
    ['yesterday 00:59:16 3 1 19.98 37.09 45.08 2.69', 'bad_time'],
    [`${nine} 2004-13-01 10:20:30`, 'bad_time'],
    ['2004-02-28 00:59:16 3 one 19.98 37.09 45.08 2.69', 'bad_mote_id'],
    ['2004-02-28 00:59:16 3 -1 19.98 37.09 45.08 2.69', 'bad_mote_id'],
    ['2004-02-28 00:59:16 three 1 19.98 37.09 45.08 2.69', 'not_a_number'],
    ['2004-02-28 00:59:16 3 1 warm 37.09 45.08 2.69', 'not_a_number'],
    ['2004-02-28 00:59:16 3 1 19.98 37.09 45.08 0x1F', 'not_a_number'],
    ['   \t ', undefined],
    ['', undefined],
  ])('skips %j: %s', (line, why) => {
    expect(read(line)).toBe(why);
  });

  it('leaves numbers that are not finite to the door', () => {
    expect(read('2004-02-28 00:59:16 3 1 NaN -inf Infinity 2.69')).toMatchObject({
      values: { temperature: Number.NaN, humidity: Number.NEGATIVE_INFINITY, light: Number.POSITIVE_INFINITY },
    });
  });

  it('writes a time of before 1973 so that nobody takes it for seconds', () => {
    expect(read('1972-01-01 00:00:01.5 3 1 1 2 3 2.5')).toMatchObject({ at: '1972-01-01T00:00:01.500Z' });
  });

  it('makes the same of every line as a plain reading of it does', () => {
    const decimal = fc.oneof(
      fc.double({ noNaN: true, min: -1e6, max: 1e6 }).map(String),
      fc
        .tuple(fc.integer({ min: -99999, max: 99999 }), fc.integer({ min: 0, max: 99999 }))
        .map(([a, b]) => `${a}.${b}`),
      fc.integer().map((n) => n.toExponential()),
    );
    const time = fc.date({ min: new Date('1973-06-01'), max: new Date('2199-01-01'), noInvalidDate: true });
    const fraction = fc.oneof(
      fc.constant(''),
      fc.integer({ min: 0, max: 999_999 }).map((n) => `.${n}`),
    );
    const blank = fc.constantFrom(' ', '  ', '\t');
    fc.assert(
      fc.property(
        time,
        fraction,
        fc.nat(70_000),
        fc.nat(100_000),
        fc.tuple(decimal, decimal, decimal, decimal),
        blank,
        (date, f, epoch, mote, values, gap) => {
          const [day, clock] = [date.toISOString().slice(0, 10), date.toISOString().slice(11, 19) + f];
          const line = [day, clock, epoch, mote, ...values].join(gap);
          const [temperature, humidity, light, voltage] = values.map(Number);
          // A last part that is a time makes it another layout.
          fc.pre(!(voltage >= 1e8));
          const at = eventTime(`${day}T${clock}`, Number.POSITIVE_INFINITY, 0);
          expect(read(line)).toEqual({
            id: String(mote),
            at,
            values: { temperature, humidity, light, voltage },
            seq: epoch,
          });
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('takes any bytes without throwing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        const made = intelReading(bytes, 0, bytes.length);
        expect(['object', 'string', 'undefined']).toContain(typeof made);
      }),
      { numRuns: 2000 },
    );
    const parts = fc.constantFrom(
      '2004-02-28',
      '00:59:16',
      '3',
      '1.5',
      '-',
      '.',
      '1e400',
      'NaN',
      '2004-02-28T00:00:00Z',
      '9999999999999999999',
    );
    fc.assert(
      fc.property(fc.array(parts, { maxLength: 12 }), (line) => {
        read(line.join(' '));
      }),
      { numRuns: 2000 },
    );
  });

  it('is recognised by its first line', () => {
    expect(looksLikeIntelText('2004-03-31 03:38:15.757551 2 1 122.153 -3.91901 11.04 2.03397\n')).toBe(true);
    expect(looksLikeIntelText('2004-03-31 03:38:15,2,1,122.153\n')).toBe(false);
    expect(looksLikeIntelText('date time epoch mote\n')).toBe(false);
  });

  it('knows numbers by their text', () => {
    expect(['1', '-1.5', '+.5', '1.', '1e3', '-2E-2'].map(numberOf)).toEqual([1, -1.5, 0.5, 1, 1000, -0.02]);
    expect(['', ' ', '1,5', '0x10', '1_000', '12abc', '--1', '.', 'e5'].map(numberOf)).toEqual(Array(9).fill(null));
    expect(numberOf('nan')).toBeNaN();
    expect(numberOf('-Infinity')).toBe(Number.NEGATIVE_INFINITY);
  });
});
