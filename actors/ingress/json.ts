import { isUtf8 } from 'node:buffer';
import { TwinmeshError } from '../protocol/errors.ts';

/**
 * JSON from strangers: strict, bounded in bytes and depth, no key twice, one message's fault never its neighbour's.
 *
 * Invariants:
 *  J1  Nothing is parsed before its length is known to be within the limit.
 *  J2  What is returned is nested at most `maxDepth` deep, so that whoever walks it cannot run out of stack.
 *  J3  An object that names a key twice is refused: which of the two was meant is not for us to guess.
 *  J4  A faulty element of an array, or a faulty line, is refused alone; only an array that does not parse at all is
 *      refused as a whole, because where its elements end is then unknown.
 */
export interface JsonLimits {
  /** Bytes of one payload, and of one NDJSON line. */
  maxBytes: number;
  /** Levels of nesting of one message; the array around messages does not count. */
  maxDepth: number;
}

/** One message of a payload, or why it is not one. `text()` is the message as it was sent, for the dead letters. */
export type Parsed =
  | { value: unknown; error?: undefined; text(): string }
  | { value?: undefined; error: TwinmeshError; text(): string };

/** The text of a payload. Throws `too_large`, `not_json` where it is not UTF-8. */
function textOf(payload: Uint8Array | string, maxBytes: number): string {
  if (payload.length > maxBytes) throw tooLarge(payload.length, maxBytes);
  if (typeof payload !== 'string') {
    if (!isUtf8(payload)) throw new TwinmeshError('not_json', 'The payload is not UTF-8.');
    const buffer = Buffer.isBuffer(payload)
      ? payload
      : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    payload = buffer.toString('utf8');
  }
  return payload.charCodeAt(0) === 0xfeff ? payload.slice(1) : payload;
}

/** One JSON value. Throws `too_large`, `not_json`, `not_finite`, `too_deep`, `duplicate_key`. */
export function parseJson(payload: Uint8Array | string, limits: JsonLimits): unknown {
  const text = textOf(payload, limits.maxBytes);
  const pairs = scan(text, limits.maxDepth);
  if (pairs < 0) throw tooDeep(limits.maxDepth);
  const value = parse(text);
  if (countPairs(value) !== pairs) throw duplicateKey();
  return value;
}

/** The messages of a JSON payload: one, or the elements of an array. Never throws. */
export function parseMessages(payload: Uint8Array | string, limits: JsonLimits): Parsed[] {
  const whole = () => preview(payload);
  try {
    const text = textOf(payload, limits.maxBytes);
    const several = isArrayText(text);
    // The array around the messages is a level of its own.
    const pairs = scan(text, several ? limits.maxDepth + 1 : limits.maxDepth);
    if (pairs < 0) return several ? oneByOne(text, limits) : [{ error: tooDeep(limits.maxDepth), text: whole }];
    const value = parse(text);
    if (countPairs(value) !== pairs) return several ? oneByOne(text, limits) : [{ error: duplicateKey(), text: whole }];
    if (!Array.isArray(value)) return [{ value, text: whole }];
    let slices: string[] | undefined;
    return value.map((element, index) => ({
      value: element,
      text: () => {
        slices ??= elements(text) ?? [];
        return slices[index] ?? '';
      },
    }));
  } catch (error) {
    return [{ error: asRefusal(error), text: whole }];
  }
}

/** The messages of an NDJSON payload, a line each; empty lines are nothing. Never throws. `maxBytes` holds for each line. */
export function parseLines(payload: Uint8Array | string, limits: JsonLimits): Parsed[] {
  // The payload has been bounded by whoever received it; a line that is not UTF-8 is refused alone.
  const buffer = typeof payload === 'string' ? Buffer.from(payload) : payload;
  const parsed: Parsed[] = [];
  for (let start = 0; start < buffer.length; ) {
    let end = buffer.indexOf(10, start);
    if (end < 0) end = buffer.length;
    const line = buffer.subarray(start, end);
    start = end + 1;
    if (line.length === 0 || isBlank(line)) continue;
    const text = () => preview(line);
    try {
      parsed.push({ value: parseJson(line, limits), text });
    } catch (error) {
      parsed.push({ error: asRefusal(error), text });
    }
  }
  return parsed;
}

/**
 * Number of `key: value` pairs of a JSON text, or -1 where it nests deeper than `maxDepth`. One pass, strings skipped;
 * about a fifth of what `JSON.parse` costs. A text that is not JSON gets any answer.
 */
function scan(text: string, maxDepth: number): number {
  let depth = 0;
  let pairs = 0;
  const length = text.length;
  for (let i = 0; i < length; i++) {
    const c = text.charCodeAt(i);
    if (c === 34) {
      for (i++; i < length; i++) {
        const d = text.charCodeAt(i);
        if (d === 34) break;
        if (d === 92) i++;
      }
    } else if (c === 58) pairs++;
    else if ((c | 32) === 123) {
      if (++depth > maxDepth) return -1;
    } else if ((c | 32) === 125) depth--;
  }
  return pairs;
}

/** Pairs that survived parsing: fewer than were written means that a key was written twice. Depth is bounded by `scan`. */
function countPairs(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  let pairs = 0;
  if (Array.isArray(value)) {
    for (const element of value) if (typeof element === 'object') pairs += countPairs(element);
    return pairs;
  }
  const object = value as Record<string, unknown>;
  for (const key in object) {
    pairs++;
    const member = object[key];
    if (typeof member === 'object') pairs += countPairs(member);
  }
  return pairs;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const what = /(?:^|[[,:\s])-?(NaN|Infinity)(?=$|[\],}\s])/.exec(text.slice(0, 65_536));
    if (what) throw new TwinmeshError('not_finite', `${what[1]} is not a JSON number.`);
    throw new TwinmeshError(
      'not_json',
      text.trim() === '' ? 'The payload is empty.' : 'The payload is not valid JSON.',
    );
  }
}

/** Each element of a JSON array by itself, so that the faulty ones are refused and the others are not. */
function oneByOne(text: string, limits: JsonLimits): Parsed[] {
  const found = elements(text);
  // It does not even close, and is too deep to be given to the parser.
  if (found === null) return [{ error: tooDeep(limits.maxDepth), text: () => preview(text) }];
  return found.map((element) => {
    const own = () => element;
    try {
      return { value: parseJson(element, limits), text: own };
    } catch (error) {
      return { error: asRefusal(error), text: own };
    }
  });
}

/** The texts of the elements of a JSON array; null where its brackets do not balance. */
function elements(text: string): string[] | null {
  const found: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 34) {
      for (i++; i < text.length && text.charCodeAt(i) !== 34; i++) if (text.charCodeAt(i) === 92) i++;
    } else if ((c | 32) === 123) {
      if (++depth === 1) start = i + 1;
    } else if (((c | 32) === 125 && --depth === 0) || (c === 44 && depth === 1)) {
      found.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return depth === 0 ? found : null;
}

function isArrayText(text: string): boolean {
  const first = text.charCodeAt(0);
  return first === 91 || (first !== 123 && /^\s*\[/.test(text));
}

function isBlank(line: Uint8Array): boolean {
  for (const byte of line) if (byte !== 32 && byte !== 13 && byte !== 9) return false;
  return true;
}

/** What a dead letter needs of a payload at most; its own limit is lower. */
function preview(payload: Uint8Array | string): string {
  if (typeof payload === 'string') return payload.slice(0, 65_536);
  return Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.byteLength, 65_536)).toString('utf8');
}

function asRefusal(error: unknown): TwinmeshError {
  return error instanceof TwinmeshError ? error : new TwinmeshError('not_json', 'The payload cannot be read.');
}

function tooLarge(bytes: number, maxBytes: number): TwinmeshError {
  return new TwinmeshError('too_large', `${bytes} bytes are more than the ${maxBytes} that are allowed.`);
}

function tooDeep(maxDepth: number): TwinmeshError {
  return new TwinmeshError('too_deep', `Nested deeper than ${maxDepth} levels.`);
}

function duplicateKey(): TwinmeshError {
  return new TwinmeshError('duplicate_key', 'An object names the same key twice.');
}
