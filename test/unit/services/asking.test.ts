import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { Asking } from '../../../services/inference/asking.ts';
import { PredictorSeat } from '../../../services/inference/seat.ts';
import { fromWire, toWire, type WireAnswer, type WireRequest } from '../../../services/inference/wire.ts';

/** Patience of those who ask: breaker, deadline, bulkhead. */
beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const QUESTION = { model: 'm', inputs: Float32Array.of(1, Number.NaN), rows: 1, at: [1_700_000_000_123] };
const ANSWER: WireAnswer = { predictions: [{ model: 'm@1.0.0', at: 1, value: 2 }] };
const asking = (call: (request: WireRequest) => Promise<WireAnswer>) =>
  new Asking({ clock: systemClock, deadlineMs: 100, call });
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'answered',
    (error) => (error as TwinmeshError).code,
  );
const named = (name: string) => Object.assign(new Error(name), { name });

describe('asking', () => {
  it('opens after five questions in a row without an answer, tries one after a minute, and closes when that is answered', async () => {
    let calls = 0;
    let isUp = false;
    const predictor = asking(async () => {
      calls++;
      if (!isUp) throw named('RequestTimeoutError');
      return ANSWER;
    });
    for (let i = 0; i < 5; i++) expect(await codeOf(predictor.predict(QUESTION))).toBe('deadline_exceeded');
    expect(predictor.status()).toMatchObject({ breaker: 'open', down: { reason: expect.stringMatching(/in time/) } });
    expect(await codeOf(predictor.predict(QUESTION))).toBe('inference_down');
    expect(calls).toBe(5);
    vi.advanceTimersByTime(60_001);
    expect(await codeOf(predictor.predict(QUESTION))).toBe('deadline_exceeded');
    expect([calls, predictor.status().breaker]).toEqual([6, 'open']);
    isUp = true;
    expect(await codeOf(predictor.predict(QUESTION))).toBe('inference_down');
    vi.advanceTimersByTime(60_001);
    expect((await predictor.predict(QUESTION)).predictions).toEqual(ANSWER.predictions);
    expect(predictor.status()).toMatchObject({
      breaker: 'closed',
      down: null,
      asked: 9,
      rows: 9,
      failures: { deadline_exceeded: 6, inference_down: 2 },
    });
  });

  it('is not opened by four failures and an answer, by a model that is missing, nor by a node that is', async () => {
    const errors = [
      ...Array.from({ length: 4 }, () => named('RequestTimeoutError')),
      null,
      ...Array.from({ length: 10 }, () => new TwinmeshError('inference_down', 'none is loaded', { model: 'm' })),
      ...Array.from({ length: 10 }, () => named('ServiceNotFoundError')),
      ...Array.from({ length: 10 }, () => new TwinmeshError('overloaded', 'too many')),
    ];
    const told: string[] = [];
    const predictor = asking(async () => {
      const error = errors.shift();
      if (error) throw error;
      return ANSWER;
    });
    while (errors.length > 0) told.push(await codeOf(predictor.predict(QUESTION)));
    expect(predictor.status().breaker).toBe('closed');
    expect(told.slice(4, 6)).toEqual(['answered', 'inference_down']);
    expect(told.at(-1)).toBe('overloaded');
    expect(await codeOf(predictor.predict(QUESTION))).toBe('answered');
  });

  it('gives up what hangs at its deadline', async () => {
    const predictor = asking(() => new Promise(() => {}));
    const asked = codeOf(predictor.predict(QUESTION));
    await vi.advanceTimersByTimeAsync(101);
    expect(await asked).toBe('deadline_exceeded');
  });

  it('takes no answer for another', async () => {
    for (const answer of [null, {}, { predictions: [] }, { predictions: 'yes' }])
      expect(await codeOf(asking(async () => answer as never).predict(QUESTION))).toBe('inference_down');
  });

  it('bounds what is on its way and what waits', async () => {
    let open = 0;
    let most = 0;
    const predictor = asking(async () => {
      most = Math.max(most, ++open);
      await new Promise((resolve) => setTimeout(resolve, 10));
      open--;
      return ANSWER;
    });
    const asked = Promise.all(Array.from({ length: 400 }, () => codeOf(predictor.predict(QUESTION))));
    await vi.advanceTimersByTimeAsync(1_000);
    const told = await asked;
    expect(most).toBe(16);
    expect(told.filter((code) => code === 'answered')).toHaveLength(16 + 256);
    expect(told.filter((code) => code === 'overloaded')).toHaveLength(400 - 16 - 256);
  });
});

describe('a seat', () => {
  it('is empty until somebody takes it', async () => {
    const seat = new PredictorSeat();
    expect(await codeOf(seat.predict(QUESTION))).toBe('inference_down');
    expect(seat.status().breaker).toBe('absent');
    const first = asking(async () => ANSWER);
    const second = asking(async () => ANSWER);
    seat.take(first);
    seat.take(second);
    seat.leave(first);
    expect(await codeOf(seat.predict(QUESTION))).toBe('answered');
    expect([first.status().asked, second.status().asked]).toEqual([0, 1]);
    // The node stops: neither an answer nor a fault.
    seat.leave(second);
    const told = Promise.race([codeOf(seat.predict(QUESTION)), Promise.resolve('nothing')]);
    expect(await told).toBe('nothing');
  });
});

describe('questions of people', () => {
  it('however many and however they end, neither hold up nor end those of twins', async () => {
    let under = 0;
    let mostUnder = 0;
    const hung = async () => {
      mostUnder = Math.max(mostUnder, ++under);
      return new Promise<WireAnswer>(() => {});
    };
    const seat = new PredictorSeat();
    const options = { clock: systemClock, deadlineMs: 100 };
    seat.take(
      new Asking({ ...options, call: async () => ANSWER }),
      new Asking({ ...options, call: () => hung().finally(() => under--), most: 2 }),
    );
    const asked = Array.from({ length: 12 }, () => codeOf(seat.aside.predict(QUESTION)));
    expect(await codeOf(seat.predict(QUESTION))).toBe('answered');
    expect(mostUnder).toBe(2);
    await vi.advanceTimersByTimeAsync(1_000);
    const codes = await Promise.all(asked);
    expect(codes.slice(0, 5)).toEqual(Array(5).fill('deadline_exceeded'));
    expect(codes.at(-1)).toBe('inference_down');
    expect(await codeOf(seat.predict(QUESTION))).toBe('answered');
    expect(seat.status()).toMatchObject({ breaker: 'closed', down: null, asked: 14 });
    expect(seat.status().failures.deadline_exceeded).toBeGreaterThanOrEqual(5);
  });
});

describe('a question on the wire', () => {
  it('arrives as it was sent, wherever its bytes come to lie', () => {
    const wire = toWire(QUESTION, 100);
    const shifted = new Uint8Array(wire.inputs.length + 1);
    shifted.set(wire.inputs, 1);
    for (const inputs of [wire.inputs, shifted.subarray(1)]) {
      const { request, explain } = fromWire({ ...wire, inputs });
      expect(request).toEqual(QUESTION);
      expect(explain).toBe(true);
    }
  });

  it.each([
    null,
    {},
    { ...toWire(QUESTION, 1), rows: 0 },
    { ...toWire(QUESTION, 1), rows: 1.5 },
    { ...toWire(QUESTION, 1), rows: 2 },
    { ...toWire(QUESTION, 1), inputs: 'AAAA' },
    { ...toWire(QUESTION, 1), inputs: new Uint8Array(7) },
    { ...toWire(QUESTION, 1), deadlineMs: undefined },
  ])('is refused where it is none: %j', (value) => {
    expect(() => fromWire(value)).toThrow(/A question to a model/);
  });
});
