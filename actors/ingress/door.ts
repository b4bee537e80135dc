import { type ErrorCode, TwinmeshError } from '../protocol/errors.ts';
import type { Kind, RawReading } from '../protocol/kind.ts';
import type { Reading } from '../protocol/reading.ts';
import { ID_PATTERN, METRIC_PATTERN } from '../protocol/twin-id.ts';
import { eventTime } from './event-time.ts';

/**
 * The door: the one place where a reading that a stranger sent becomes a reading that everything behind trusts.
 *
 * Invariants (those of Reading, and):
 *  D1  Nothing passes that a store would refuse: no NUL, no lone surrogate, no number that is not finite, no far year.
 *      One such row would abort the checkpoint of everybody else.
 *  D2  Objects that leave are built here, with names from the kind or the allow-list: nothing of the sender's survives,
 *      neither prototypes nor extra fields.
 *  D3  A fault refuses the reading, never more; what the kind does not know is left out and counted.
 */
export interface DoorLimits {
  /** How far ahead of the server a reading may be dated, ms. */
  maxSkewMs: number;
  /** Attributes of one reading; more are left out and counted. */
  maxAttributes: number;
  /** Characters of one attribute text; longer ones are left out and counted. */
  maxTextChars: number;
  /** Metrics of one reading of a kind with open metrics. */
  maxOpenMetrics: number;
}

export const DOOR_LIMITS: Omit<DoorLimits, 'maxSkewMs'> = { maxAttributes: 32, maxTextChars: 256, maxOpenMetrics: 64 };

const UNIT_CHARS = 32;
const KEY_CHARS = 128;

export class Door {
  /** Fields that meant nothing to the kind, since start. */
  ignored = 0;
  readonly #limits: DoorLimits;

  constructor(limits: DoorLimits) {
    this.#limits = limits;
  }

  /**
   * The reading, checked. `at` missing: it gets `arrivedMs` (default `nowMs`) and is marked `untimed`. Throws missing_field, bad_id, wrong_type,
   * not_finite, out_of_range, unknown_metric, bad_time, future_time, bad_text.
   */
  admit(kind: Kind, raw: RawReading, nowMs: number, arrivedMs = nowMs): Reading {
    const id = assetId(raw.id);
    let values: Record<string, number>;
    if (kind.openMetrics) values = this.#open(raw.values);
    else values = this.#closed(kind, raw.values);
    if (raw.ignored !== undefined) this.ignored += raw.ignored;

    const untimed = raw.at === undefined || raw.at === null;
    const at = untimed ? arrivedMs : eventTime(raw.at, nowMs, this.#limits.maxSkewMs);
    const reading: Reading = { kind: kind.kind, id, at, values };
    if (untimed) reading.untimed = true;
    if (raw.key !== undefined && raw.key !== null) reading.key = ownId(raw.key);
    if (raw.seq !== undefined && raw.seq !== null) reading.seq = runningNumber(raw.seq);
    if (raw.sensor !== undefined && raw.sensor !== null) reading.sensor = sensorId(raw.sensor);
    if (kind.openMetrics && raw.unit !== undefined && raw.unit !== null) reading.unit = unitText(raw.unit);
    if (raw.attributes !== undefined && raw.attributes !== null) this.#attributes(raw.attributes, reading);
    return reading;
  }

  /** Walks the kind's metrics, not the sender's fields: readings of a kind then share one shape and one order. */
  #closed(kind: Kind, sent: Record<string, unknown>): Record<string, number> {
    if (typeof sent !== 'object' || sent === null || Array.isArray(sent)) throw notValues();
    const names = kind.metricNames;
    const metrics = kind.metrics;
    const values: Record<string, number> = {};
    let known = 0;
    let absent = 0;
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      const value = sent[name];
      if (value === undefined) continue;
      if (value === null) {
        absent++;
        continue;
      }
      const { min, max } = metrics[name];
      // One comparison for the good case: NaN, text and whatever else is not a number in range all fail it.
      if (typeof value !== 'number' || !(value >= min && value <= max))
        throw badValue(name, value, min, max, metrics[name].unit);
      // `+ 0` turns -0 into 0.
      values[name] = value + 0;
      known++;
    }
    let fields = 0;
    for (const _ in sent) fields++;
    if (fields > known) this.ignored += fields - known - absent;
    if (known === 0) {
      const message = `None of the metrics of ${kind.kind} (${names.join(', ')}) has a value.`;
      throw new TwinmeshError('unknown_metric', message);
    }
    return values;
  }

  #open(sent: Record<string, unknown>): Record<string, number> {
    if (typeof sent !== 'object' || sent === null || Array.isArray(sent)) throw notValues();
    const values: Record<string, number> = {};
    let known = 0;
    for (const name in sent) {
      const value = sent[name];
      if (value === undefined || value === null) continue;
      if (!METRIC_PATTERN.test(name)) {
        const message = 'A metric is called by a letter and up to 62 of A-Z a-z 0-9 _ . -';
        throw new TwinmeshError('unknown_metric', message);
      }
      if (typeof value !== 'number' || !Number.isFinite(value))
        throw badValue(name, value, -Number.MAX_VALUE, Number.MAX_VALUE, '');
      if (++known > this.#limits.maxOpenMetrics) {
        throw new TwinmeshError('too_large', `More than ${this.#limits.maxOpenMetrics} metrics in one reading.`);
      }
      values[name] = value + 0;
    }
    if (known === 0) throw new TwinmeshError('unknown_metric', 'The reading has no metric with a value.');
    return values;
  }

  #attributes(sent: Record<string, unknown>, reading: Reading): void {
    if (typeof sent !== 'object' || Array.isArray(sent)) {
      throw new TwinmeshError('wrong_type', 'Attributes are an object of text, numbers and booleans.');
    }
    const { maxAttributes, maxTextChars } = this.#limits;
    let attributes: Record<string, string | number | boolean> | undefined;
    let kept = 0;
    for (const name in sent) {
      const value = sent[name];
      const type = typeof value;
      const fits =
        kept < maxAttributes &&
        METRIC_PATTERN.test(name) &&
        ((type === 'string' && (value as string).length <= maxTextChars) ||
          (type === 'number' && Number.isFinite(value)) ||
          type === 'boolean');
      if (!fits) {
        this.ignored++;
        continue;
      }
      if (type === 'string') checkText(value as string, `attribute ${name}`);
      attributes ??= {};
      attributes[name] = type === 'number' ? (value as number) + 0 : (value as string | boolean);
      kept++;
    }
    if (attributes !== undefined) reading.attributes = attributes;
  }
}

/** The id of an asset; motes send theirs as a number. Throws missing_field, bad_id. */
function assetId(id: unknown): string {
  if (typeof id === 'string') {
    if (ID_PATTERN.test(id)) return id;
  } else if (typeof id === 'number') {
    if (Number.isSafeInteger(id) && id >= 0) return String(id);
  } else if (id === undefined || id === null) {
    throw new TwinmeshError('missing_field', 'The message does not say which asset it is of.');
  }
  throw new TwinmeshError('bad_id', 'An id is 1 to 128 characters of A-Z a-z 0-9 . _ - or a whole number.');
}

function sensorId(sensor: unknown): string {
  if (typeof sensor === 'number' && Number.isSafeInteger(sensor) && sensor >= 0) return String(sensor);
  if (typeof sensor === 'string' && ID_PATTERN.test(sensor)) return sensor;
  throw new TwinmeshError('bad_id', 'A sensor id is 1 to 128 characters of A-Z a-z 0-9 . _ -');
}

function ownId(key: unknown): string {
  if (typeof key === 'number' && Number.isFinite(key)) return String(key + 0);
  if (typeof key !== 'string') throw new TwinmeshError('wrong_type', 'The id of a reading is text or a number.');
  if (key.length === 0 || key.length > KEY_CHARS) {
    throw new TwinmeshError('bad_id', `The id of a reading has 1 to ${KEY_CHARS} characters.`);
  }
  checkText(key, 'id of the reading');
  return key;
}

function runningNumber(seq: unknown): number {
  if (typeof seq === 'number' && Number.isSafeInteger(seq) && seq >= 0) return seq + 0;
  throw new TwinmeshError('wrong_type', 'seq is a whole number from 0 to 2^53 - 1.');
}

function unitText(unit: unknown): string {
  if (typeof unit !== 'string') throw new TwinmeshError('wrong_type', 'A unit is text.');
  if (unit.length > UNIT_CHARS) throw new TwinmeshError('too_large', `A unit has at most ${UNIT_CHARS} characters.`);
  checkText(unit, 'unit');
  return unit;
}

/** Text that every store takes and that no terminal acts on. Throws bad_text. */
function checkText(text: string, what: string): void {
  if (/[\0-\x08\x0b-\x1f\x7f]/.test(text) || !text.isWellFormed()) {
    throw new TwinmeshError('bad_text', `The ${what} holds a control character or half of a surrogate pair.`);
  }
}

function badValue(name: string, value: unknown, min: number, max: number, unit: string): TwinmeshError {
  const fault = (code: ErrorCode, message: string) => new TwinmeshError(code, message, { metric: name });
  if (typeof value !== 'number') {
    return fault('wrong_type', `${name} is ${Array.isArray(value) ? 'an array' : `a ${typeof value}`}, not a number.`);
  }
  if (!Number.isFinite(value)) return fault('not_finite', `${name} is not a finite number.`);
  return fault('out_of_range', `${name} is ${value}; possible are ${min} to ${max} ${unit}.`);
}

function notValues(): TwinmeshError {
  return new TwinmeshError('wrong_type', 'values is an object of metric names and numbers.');
}
