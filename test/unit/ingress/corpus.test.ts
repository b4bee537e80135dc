import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ERRORS } from '../../../actors/protocol/errors.ts';
import { ID_PATTERN, METRIC_PATTERN } from '../../../actors/protocol/twin-id.ts';
import { BAD_MESSAGES, goodMessage, ODD_BUT_GOOD, tenMegabytes } from '../../fixtures/bad-input/corpus.ts';
import { bench, COMMITTED, HTTP, kinds, topic } from './fixture.ts';

describe('bad input at the door', () => {
  it.each(BAD_MESSAGES)('refuses $name, counts it and keeps it', async ({ payload, codes }) => {
    const { ingress, log, letters } = bench();
    const answer = await ingress.submit(HTTP, payload, COMMITTED);
    const refused = answer.rejected.map(({ code }) => code);
    expect(answer.accepted + answer.duplicates).toBe(0);
    expect(refused.length).toBeGreaterThan(0);
    for (const code of refused) expect(codes).toContain(code);
    expect(letters.map(({ code }) => code)).toEqual(refused);
    expect(ingress.tally.refusalsOf(refused[0])).toBe(refused.filter((code) => code === refused[0]).length);
    expect(log.readings()).toEqual([]);
  });

  it.each(BAD_MESSAGES.filter(({ payload }) => !payload.includes('\n') && payload.toString().trim() !== ''))(
    'stores the good lines around $name',
    async ({ payload, codes }) => {
      const { ingress, log, letters } = bench();
      const ndjson = Buffer.concat([
        Buffer.from(`${goodMessage('A')}\n`),
        payload,
        Buffer.from(`\r\n${goodMessage('B')}\n`),
      ]);
      const answer = await ingress.submit(HTTP, ndjson, { ...COMMITTED, ndjson: true });
      expect(log.ids().sort()).toEqual(['A', 'B']);
      expect(answer.accepted).toBe(2);
      expect(answer.rejected).toHaveLength(1);
      expect(answer.rejected[0].index).toBe(1);
      expect(codes).toContain(answer.rejected[0].code);
      expect(letters).toHaveLength(1);
    },
  );

  it.each(BAD_MESSAGES.filter(({ inArray }) => inArray))(
    'stores the good elements around $name',
    async ({ payload, codes }) => {
      const { ingress, log, letters } = bench();
      const array = `[${goodMessage('A')}, ${payload.toString()} ,${goodMessage('B')}]`;
      const answer = await ingress.submit(HTTP, Buffer.from(array), COMMITTED);
      expect(log.ids().sort()).toEqual(['A', 'B']);
      expect(answer.rejected.map(({ index }) => index)).toEqual([1]);
      expect(codes).toContain(answer.rejected[0].code);
      expect(letters[0].payload.slice(0, 200)).toBe(payload.toString().slice(0, 200));
    },
  );

  it.each(ODD_BUT_GOOD)('takes $name', async ({ message, id }) => {
    const { ingress, log } = bench();
    expect(await ingress.submit(HTTP, Buffer.from(message), COMMITTED)).toEqual({
      accepted: 1,
      duplicates: 0,
      rejected: [],
    });
    const [reading] = log.readings();
    expect(reading.id).toBe(id);
    expect(Object.keys(reading.values)).toEqual(['temperature']);
    expect(Object.is(reading.values.temperature, -0)).toBe(false);
    expect(Object.getPrototypeOf(reading.attributes ?? {})).toBe(Object.prototype);
    expect(Object.keys(reading.attributes ?? {})).not.toContain('__proto__');
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it('refuses ten megabytes before it parses them, and keeps their beginning', async () => {
    const { ingress, letters } = bench();
    const answer = await ingress.submit(HTTP, tenMegabytes(), COMMITTED);
    expect(answer.rejected).toMatchObject([{ index: 0, code: 'too_large' }]);
    expect(letters[0].payload.length).toBeLessThan(100_000);
    const lines = Buffer.concat([
      Buffer.from(`${goodMessage('A')}\n`),
      tenMegabytes(),
      Buffer.from(`\n${goodMessage('B')}`),
    ]);
    const answered = await ingress.submit(HTTP, lines, { ...COMMITTED, ndjson: true });
    expect(answered).toMatchObject({ accepted: 2, rejected: [{ index: 1, code: 'too_large' }] });
  });

  it.each([
    ['twins/machine/a b/telemetry', 'bad_id'],
    [`twins/machine/${'x'.repeat(129)}/telemetry`, 'bad_id'],
    ['twins/machine//telemetry', 'bad_id'],
    ['twins/machine/a\0b/telemetry', 'bad_id'],
    ['twins/dragon/x/telemetry', 'unknown_kind'],
    ['twins/__proto__/x/telemetry', 'unknown_kind'],
    ['twins/constructor/x/telemetry', 'unknown_kind'],
    ['twins/machine/x/telemetry/more', 'unknown_topic'],
    ['twins/machine/x/desired', 'unknown_topic'],
    ['factory/machines/a>b/readings', 'bad_id'],
    ['nobody/listens', 'unknown_topic'],
    ['', 'unknown_topic'],
  ])('refuses topic %j as %s', (address, code) => {
    const { ingress, letters } = bench();
    ingress.read(topic(address), goodMessage('A'));
    expect(letters.map((letter) => letter.code)).toEqual([code]);
  });
});

describe('generated input at the door', () => {
  const scalar = fc.oneof(
    fc.double(),
    fc.integer(),
    fc.string({ unit: 'binary', maxLength: 12 }),
    fc.boolean(),
    fc.constantFrom(null, '__proto__', '2026-01-01T00:00:00Z', 1767225600, 'machine:A', 'A', -0),
  );
  const names = fc.constantFrom(
    ...[
      'twinId',
      'at',
      'values',
      'id',
      'seq',
      'sensor',
      'unit',
      'attributes',
      'temperature',
      'battery_id',
      'SoC',
      'machine_id',
    ],
    ...[
      'readings',
      'mote_id',
      'device_id',
      'sensor_type',
      'value',
      'timestamp',
      'metadata',
      '__proto__',
      'constructor',
      'toString',
    ],
  );
  const { message } = fc.letrec((tie) => ({
    message: fc.oneof(
      { maxDepth: 3 },
      scalar,
      fc.array(tie('message'), { maxLength: 3 }),
      fc.dictionary(names, tie('message'), { maxKeys: 7 }),
    ),
  }));
  const addresses = [
    'twins/machine/A/telemetry',
    'twins/device/A/telemetry',
    'ev/battery/telemetry',
    'factory/machines/A/readings',
    'building/motes/1/readings',
    'iot/data',
  ];
  const sources = [HTTP, { ...HTTP, address: '/api/data' }, ...addresses.map((address) => topic(address))];

  it('answers every message, and lets through only what a store takes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(message, { maxLength: 4 }), fc.constantFrom(...sources), async (messages, source) => {
        const { ingress, log, letters, clock } = bench();
        const answer = await ingress.submit(
          source,
          JSON.stringify([...messages, JSON.parse(goodMessage('GOOD'))]),
          COMMITTED,
        );
        expect(answer.accepted + answer.duplicates + answer.rejected.length).toBe(messages.length + 1);
        expect(letters.map(({ code }) => code).sort()).toEqual(answer.rejected.map(({ code }) => code).sort());
        if (source.address === HTTP.address) expect(log.ids()).toContain('GOOD');
        for (const { code } of answer.rejected) expect(Object.keys(ERRORS)).toContain(code);
        expect(answer.rejected.map(({ code }) => code)).not.toContain('internal');
        for (const reading of log.readings()) {
          expect(kinds.has(reading.kind)).toBe(true);
          expect(reading.id).toMatch(ID_PATTERN);
          expect(Number.isSafeInteger(reading.at) && reading.at >= 0 && reading.at <= clock.now() + 300_000).toBe(true);
          expect(Object.keys(reading.values).length).toBeGreaterThan(0);
          for (const [name, value] of Object.entries(reading.values)) {
            expect(name).toMatch(METRIC_PATTERN);
            expect(Number.isFinite(value) && !Object.is(value, -0)).toBe(true);
          }
          const stored = JSON.stringify(reading);
          expect(stored.isWellFormed() && !stored.includes('\\u0000') && !/\\ud[89a-f]/i.test(stored)).toBe(true);
        }
      }),
      { numRuns: 1500 },
    );
  });

  it('takes any bytes on any topic without falling over', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 200 }),
        fc.string({ unit: 'binary', maxLength: 30 }),
        async (bytes, address) => {
          const { ingress } = bench();
          for (const source of [HTTP, topic(address), topic('iot/data')]) {
            for (const ndjson of [false, true]) {
              const answer = await ingress.submit(source, bytes, { ...COMMITTED, ndjson });
              expect(answer.accepted + answer.rejected.length).toBeGreaterThan(0);
              expect(answer.rejected.map(({ code }) => code)).not.toContain('internal');
            }
          }
        },
      ),
      { numRuns: 1500 },
    );
  });

  it('never tells a damaged message for another good one', async () => {
    const good = Buffer.from(goodMessage('A'));
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.nat(255), async (position, byte) => {
        const damaged = Buffer.from(good);
        damaged[position] = byte;
        const { ingress, log } = bench();
        const answer = await ingress.submit(HTTP, damaged, COMMITTED);
        expect(answer.accepted + answer.rejected.length).toBe(1);
        for (const reading of log.readings()) {
          const sent = JSON.parse(damaged.toString()) as { twinId: string; values: Record<string, number> };
          expect(sent.twinId).toBe(`machine:${reading.id}`);
          expect(sent.values.temperature).toBe(reading.values.temperature);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
