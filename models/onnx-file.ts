import { TwinmeshError } from '../actors/protocol/errors.ts';

/**
 * What an ONNX file says of itself, read from its bytes (protocol buffers, onnx.proto3) before the runtime gets to see it:
 * operator sets, the operators it uses, and whether it wants data from other files. Nothing of it is run here.
 */
export interface OnnxFile {
  irVersion: number;
  /** Domain → version; the empty name is ai.onnx. */
  opsets: Map<string, number>;
  /** `Gemm`, `ai.onnx.ml/TreeEnsembleRegressor`; those in graphs of attributes too. */
  operators: Set<string>;
  externalData: boolean;
}

/** Throws bad_model where the bytes are no ONNX file. */
export function readOnnx(bytes: Uint8Array): OnnxFile {
  const file: OnnxFile = { irVersion: 0, opsets: new Map(), operators: new Set(), externalData: false };
  let graphs = 0;
  eachField(bytes, (field, value) => {
    if (field === 1 && typeof value === 'number') file.irVersion = value;
    if (field === 7 && typeof value !== 'number') {
      graphs++;
      graph(value, file, 0);
    }
    if (field === 8 && typeof value !== 'number') opset(value, file);
  });
  if (graphs !== 1 || file.opsets.size === 0) throw notOnnx();
  return file;
}

const MAX_DEPTH = 8;
const EXTERNAL = 1;

function graph(bytes: Uint8Array, file: OnnxFile, depth: number): void {
  if (depth > MAX_DEPTH) throw notOnnx();
  eachField(bytes, (field, value) => {
    if (typeof value === 'number') return;
    if (field === 1) node(value, file, depth);
    if (field === 5) tensor(value, file);
  });
}

function node(bytes: Uint8Array, file: OnnxFile, depth: number): void {
  let operator = '';
  let domain = '';
  eachField(bytes, (field, value) => {
    if (typeof value === 'number') return;
    if (field === 4) operator = textOf(value);
    if (field === 7) domain = textOf(value);
    if (field === 5) attribute(value, file, depth);
  });
  file.operators.add(domain === '' || domain === 'ai.onnx' ? operator : `${domain}/${operator}`);
}

function attribute(bytes: Uint8Array, file: OnnxFile, depth: number): void {
  eachField(bytes, (field, value) => {
    if (typeof value === 'number') return;
    if (field === 5) tensor(value, file);
    if (field === 6 || field === 11) graph(value, file, depth + 1);
  });
}

function tensor(bytes: Uint8Array, file: OnnxFile): void {
  eachField(bytes, (field, value) => {
    if ((field === 14 && value === EXTERNAL) || field === 13) file.externalData = true;
  });
}

function opset(bytes: Uint8Array, file: OnnxFile): void {
  let domain = '';
  let version = 0;
  eachField(bytes, (field, value) => {
    if (field === 1 && typeof value !== 'number') domain = textOf(value);
    if (field === 2 && typeof value === 'number') version = value;
  });
  file.opsets.set(domain === 'ai.onnx' ? '' : domain, version);
}

/**
 * Calls with every field of a message: a number where it is a varint, bytes where it has a length; and with where in
 * the message it stands, from its tag to before `end`. Fields of fixed width are passed over: nothing that is read or copied here has one. Throws bad_model.
 */
export function eachField(
  bytes: Uint8Array,
  visit: (field: number, value: number | Uint8Array, start: number, end: number) => void,
): void {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= bytes.length) throw notOnnx();
      const byte = bytes[at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw notOnnx();
  };
  while (at < bytes.length) {
    const start = at;
    const tag = varint();
    const field = Math.floor(tag / 8);
    const wire = tag % 8;
    if (field === 0) throw notOnnx();
    if (wire === 0) {
      const value = varint();
      visit(field, value, start, at);
    } else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint();
      if (length > bytes.length - at) throw notOnnx();
      const value = bytes.subarray(at, at + length);
      at += length;
      visit(field, value, start, at);
    } else throw notOnnx();
  }
  if (at !== bytes.length) throw notOnnx();
}

export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8').slice(0, 200);
}

function notOnnx(): TwinmeshError {
  return new TwinmeshError('bad_model', 'model.onnx is not an ONNX file, or is cut off.');
}
