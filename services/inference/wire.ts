import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Prediction, PredictRequest } from '../../actors/protocol/prediction.ts';

/** A question between nodes: numbers as bytes, which the serializer of the mesh leaves as they are. */
export interface WireRequest {
  model: string;
  rows: number;
  /** Float32, in the byte order of the machine (little-endian wherever this runs). */
  inputs: Uint8Array;
  /** Float64. */
  at: Uint8Array;
  /** How long whoever asks still waits. */
  deadlineMs: number;
  explain?: boolean;
  /** Tried out by people: no sign of what twins are like. */
  aside?: boolean;
}

export interface WireAnswer {
  predictions: readonly (Prediction | null)[];
}

export function toWire(
  { model, rows, inputs, at }: PredictRequest,
  deadlineMs: number,
  explain?: boolean,
  aside?: boolean,
): WireRequest {
  return { model, rows, inputs: bytesOf(inputs), at: bytesOf(Float64Array.from(at)), deadlineMs, explain, aside };
}

const MAX_ROWS = 100_000;

/** Throws bad_request where it is none. */
export function fromWire(value: unknown): {
  request: PredictRequest;
  deadlineMs: number;
  explain: boolean;
  aside: boolean;
} {
  const { model, rows, inputs, at, deadlineMs, explain, aside } = (value ?? {}) as Partial<WireRequest>;
  const isGood =
    typeof model === 'string' &&
    typeof deadlineMs === 'number' &&
    typeof rows === 'number' &&
    Number.isInteger(rows) &&
    rows > 0 &&
    rows <= MAX_ROWS &&
    inputs instanceof Uint8Array &&
    at instanceof Uint8Array &&
    at.length === rows * 8 &&
    inputs.length % (rows * 4) === 0;
  if (!isGood) throw new TwinmeshError('bad_request', 'A question to a model has rows of inputs and a time each.');
  return {
    request: { model, rows, inputs: floats(inputs), at: [...new Float64Array(copied(at))] },
    deadlineMs,
    explain: explain ?? true,
    aside: aside ?? false,
  };
}

function bytesOf(numbers: Float32Array | Float64Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

/** In place where the bytes lie as floats have to. */
function floats(bytes: Uint8Array): Float32Array {
  if (bytes.byteOffset % 4 === 0)
    return new Float32Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / 4);
  return new Float32Array(copied(bytes));
}

function copied(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}
