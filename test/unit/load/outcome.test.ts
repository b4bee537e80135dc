import { describe, expect, it } from 'vitest';
import type { Entry } from '../../../actors/protocol/entry.ts';
import { Labels, takeLabel, withLabels } from '../../../services/load/labels.ts';
import { loadMap } from '../../../services/load/map.ts';
import { Outcome } from '../../../services/load/outcome.ts';
import { outcomeText } from '../../../services/load/outcome-text.ts';
import { kinds } from './bytes.ts';

/** What twins made of a file: their journals, held against what people wrote beside the readings. */
const T0 = Date.UTC(2026, 0, 1);
const mote = kinds.get('mote');

const reading = (revision: number, at: number, temperature: number): Entry => ({
  type: 'reading',
  revision,
  receivedAt: at,
  reading: { kind: 'mote', id: '9', at, values: { temperature, humidity: 45 } },
});
const said = (revision: number, name: string, prediction: Record<string, unknown>): Entry => ({
  type: 'prediction',
  revision,
  receivedAt: T0,
  name,
  basedOn: revision - 1,
  prediction: { model: 'mote-anomaly@1.0.0', ...prediction },
});

async function* pages(entries: readonly Entry[]) {
  for (let i = 0; i < entries.length; i += 7) yield entries.slice(i, i + 7);
}

const STEP_MS = 5_000;
const READINGS = 200;

/** Two hundred readings; `hot` are 20 degrees above the rest, and `scores` is what the model said of some. */
function journal({ hot, scores }: { hot: readonly number[]; scores: Record<number, number> }): Entry[] {
  const entries: Entry[] = [];
  for (let i = 0; i < READINGS; i++) {
    const at = T0 + i * STEP_MS;
    entries.push(reading(entries.length + 1, at, 20 + Math.sin(i) / 10 + (hot.includes(i) ? 20 : 0)));
    if (scores[i] !== undefined)
      entries.push(said(entries.length + 1, 'anomaly', { at, score: scores[i], threshold: 1 }));
  }
  return entries;
}

function labelsAt(...places: number[]): Labels {
  const labels = new Labels();
  for (const i of places) labels.note({ id: '9', at: T0 + i * STEP_MS, values: {}, attributes: { '#label': '1' } });
  return labels;
}

const textOf = (outcome: Outcome, labels = new Labels(), sent = 0): string => outcomeText(outcome, mote, labels, sent);
const ALL = { from: T0, to: T0 + READINGS * STEP_MS };

describe('labels', () => {
  const map = loadMap('single-hop');

  it('are taken off before a twin hears them, and other attributes stay', () => {
    const raw = { id: '1', at: T0, values: { temperature: 20 } };
    for (const label of ['Normal', '', '0', '0.0', ' none ', '-', undefined])
      expect(takeLabel({ ...raw, attributes: { '#label': label } })).toEqual({ raw, label, isLabelled: false });
    for (const label of ['1', '1.0', 'true', 'fault', 2])
      expect(takeLabel({ ...raw, attributes: { '#label': label } })).toEqual({ raw, label, isLabelled: true });
    expect(takeLabel({ ...raw, attributes: { '#label': 'fault', room: 'a' } })).toEqual({
      raw: { ...raw, attributes: { room: 'a' } },
      label: 'fault',
      isLabelled: true,
    });
    expect(takeLabel(raw)).toEqual({ raw, isLabelled: false });
    // what is no object stays for the door to refuse
    const odd = { ...raw, attributes: 'room' as never };
    expect(takeLabel(odd).raw).toBe(odd);
  });

  it('of a column that a person named must be there, of one that the map named need not', () => {
    expect(withLabels(map, 'label').attributes).toEqual({ '#label': { column: 'label', optional: false } });
    expect(withLabels(map, 'label', true).attributes).toEqual({ '#label': { column: 'label', optional: true } });
  });
});

describe('the outcome of a replay', () => {
  it('holds detectors and models against the labels, each where it judged', async () => {
    const outcome = new Outcome(mote, labelsAt(150, 151, 170));
    // the detectors see 150, 151 and the way back at 152; the model found 151 and 170, missed 150, was wrong about 190, and was not asked about the rest
    const entries = journal({ hot: [150, 151], scores: { 10: 0.2, 150: 0.9, 151: 3, 170: 2, 190: 4 } });
    await outcome.follow('9', pages(entries), ALL, 0);
    expect(outcome).toMatchObject({ twins: 1, readings: READINGS, labelled: 3, incomplete: [] });
    expect(outcome.detectors).toEqual({ truePositives: 2, falsePositives: 1, falseNegatives: 1 });
    expect(outcome.told.get('anomaly')).toMatchObject({
      models: ['mote-anomaly@1.0.0'],
      answers: 5,
      scored: 5,
      flagged: 3,
      labelled: 3,
      found: { truePositives: 2, falsePositives: 1, falseNegatives: 1 },
    });
    expect(outcome.either).toEqual({ truePositives: 3, falsePositives: 2, falseNegatives: 0 });
    expect(outcome.events['anomaly.detected (model)']).toBe(1);
    expect(outcome.events['anomaly.detected (zscore)']).toBeGreaterThan(0);
    const text = textOf(outcome);
    expect(text).toContain('what 1 twin made of 200 readings');
    expect(text).toMatch(/detectors +precision 0.667 {2}recall 0.667 {2}F1 0.667 {2}of 200 readings/);
    expect(text).toMatch(
      /anomaly +precision 0.667 {2}recall 0.667 .* of 5 that it was asked about, 3 of them labelled/,
    );
    expect(text).toMatch(/either +precision 0.600 {2}recall 1.000/);
  });

  it('holds forecasts against the readings that came, beside what had not changed', async () => {
    const entries: Entry[] = [reading(1, T0, 20)];
    const forecast = { model: 'mote-forecast@1.0.0', at: T0, horizonMs: 600_000, forecast: { temperature: 23 } };
    entries.push(said(2, 'forecast', forecast));
    for (let minute = 1; minute <= 12; minute++)
      entries.push(reading(minute + 2, T0 + minute * 60_000, 20 + minute / 2));
    const outcome = new Outcome(mote, new Labels());
    await outcome.follow('9', pages(entries), ALL, 0);
    // 25 degrees after ten minutes: two off, where "as it is" is five off
    expect(outcome.told.get('forecast')?.forecast).toEqual({ temperature: { count: 1, error: 2, stays: 5 } });
    const text = textOf(outcome);
    expect(text).toContain('temperature off by 2.00 °C on average (if it stayed as it was: 5.00)');
    expect(text).not.toContain('labelled');
  });

  it('knows an answer that came late by the state that it was based on', async () => {
    const forecast = { model: 'mote-forecast@1.0.0', at: T0, horizonMs: 600_000, forecast: { temperature: 23 } };
    const entries: Entry[] = [reading(1, T0, 20)];
    for (let minute = 1; minute <= 20; minute++)
      entries.push(reading(minute + 1, T0 + minute * 60_000, 20 + minute / 2));
    // twenty readings have come since, the one it was about among them
    const late = said(22, 'forecast', forecast) as Extract<Entry, { type: 'prediction' }>;
    entries.push({ ...late, basedOn: 1 });
    const outcome = new Outcome(mote, new Labels());
    await outcome.follow('9', pages(entries), ALL, 0);
    expect(outcome.told.get('forecast')).toMatchObject({
      forecast: { temperature: { count: 1, error: 2, stays: 5 } },
      open: 0,
    });
  });

  it('tells readings of one instant apart', async () => {
    const two = (revision: number, sensor: string, temperature: number): Entry => {
      const entry = reading(revision, T0 + 150 * STEP_MS, temperature) as Extract<Entry, { type: 'reading' }>;
      return { ...entry, reading: { ...entry.reading, sensor } };
    };
    const entries = journal({ hot: [], scores: {} }).slice(0, 150);
    entries.push(two(151, 'a', 40), two(152, 'b', 20));
    const found = said(153, 'anomaly', { at: T0 + 150 * STEP_MS, score: 2, threshold: 1 });
    entries.push({ ...(found as Extract<Entry, { type: 'prediction' }>), basedOn: 152 });
    const outcome = new Outcome(mote, labelsAt(150));
    await outcome.follow('9', pages(entries), ALL, 0);
    // both bear the label of their instant; the detectors see the first, the model was asked behind the second
    expect(outcome).toMatchObject({ readings: 152, labelled: 2, either: { truePositives: 2, falseNegatives: 0 } });
    expect(outcome.told.get('anomaly')).toMatchObject({ scored: 1, found: { truePositives: 1 } });
  });

  it('says which forecasts no reading came for', async () => {
    const forecast = { at: T0, horizonMs: 600_000, forecast: { temperature: 23 } };
    const entries = [reading(1, T0, 20), said(2, 'forecast', forecast), reading(3, T0 + 700_000, 25)];
    const outcome = new Outcome(mote, new Labels());
    await outcome.follow('9', pages(entries), ALL, 0);
    expect(outcome.told.get('forecast')).toMatchObject({ forecast: {}, open: 1 });
    expect(textOf(outcome)).toContain('1 of times that no reading lies near');
  });

  it('counts the times that were played, and folds what lies before', async () => {
    const outcome = new Outcome(mote, labelsAt(75, 150));
    const entries = journal({ hot: [75, 150], scores: { 75: 2, 150: 2 } });
    await outcome.follow('9', pages(entries), { from: T0 + 125 * STEP_MS, to: ALL.to }, 0);
    expect(outcome).toMatchObject({ readings: 75, labelled: 1 });
    expect(outcome.detectors.truePositives).toBe(1);
    expect(outcome.told.get('anomaly')).toMatchObject({ answers: 1, flagged: 1 });
  });

  it('says what was sent and changed no twin, what was there before, and how often a model was due', async () => {
    const outcome = new Outcome(mote, new Labels());
    const entries = journal({ hot: [], scores: { 10: 0.2 } });
    await outcome.follow('9', pages(entries), ALL, T0 + 20 * STEP_MS);
    expect(outcome.known).toBe(20);
    // one every second is wanted, one every five comes
    expect(outcome.told.get('anomaly')).toMatchObject({ answers: 1, due: READINGS });
    const text = textOf(outcome, new Labels(), 300);
    expect(text).toContain('20 of them had been received before');
    expect(text).toContain('100 of 300 that were sent changed no twin');
    expect(text).toMatch(/anomaly +1 answer of mote-anomaly@1.0.0, due 200 times/);
    expect(text).toContain('a slower --speed asks at more');
    expect(textOf(outcome, new Labels(), READINGS)).not.toContain('changed no twin');
  });

  it('says what it took for labels, and that there were none', async () => {
    const outcome = new Outcome(mote, labelsAt(3));
    await outcome.follow('9', pages(journal({ hot: [], scores: {} })), ALL, 0);
    const labels = new Labels('state');
    for (const label of ['maybe', 'ok', 'maybe', ''])
      labels.note({ id: '1', at: T0, values: {}, attributes: { '#label': label } });
    expect(labels.seen).toBe(4);
    const text = textOf(outcome, labels);
    expect(text).toContain('against 1 labelled reading (maybe)\n');
    // nothing was flagged: there is nothing that could be right or wrong
    expect(text).toMatch(/detectors +precision – +recall 0.000 +F1 0.000/);
    const none = new Outcome(mote, new Labels());
    expect(textOf(none, new Labels('state'))).toContain('the file has no column state');
    labels.texts.clear();
    expect(textOf(none, labels)).toContain('the file marks no anomaly in state');
    expect(textOf(none)).not.toContain('labels');
  });

  it('says of which twins the journal has lost its beginning', async () => {
    const outcome = new Outcome(mote, new Labels());
    await outcome.follow('9', pages(journal({ hot: [], scores: {} }).slice(3)), ALL, 0);
    expect(outcome).toMatchObject({ readings: 0, incomplete: ['mote:9'] });
    expect(textOf(outcome)).toContain('mote:9 have lost their beginning');
  });

  it('says that no model answered', async () => {
    expect(textOf(new Outcome(mote, new Labels()))).toContain('none was due');
  });
});
