import { readFileSync, writeFileSync } from 'node:fs';

/** Rows of numbers that grow: 32-bit features beside 64-bit truth. */
export class Rows {
  readonly names: readonly string[];
  readonly truthNames: readonly string[];
  /** Ids of the twins, in order of the truth column `twin`. */
  readonly twins: string[] = [];
  count = 0;
  #features: Float32Array;
  #truth: Float64Array;

  constructor(names: readonly string[], truthNames: readonly string[], room = 1024) {
    this.names = names;
    this.truthNames = truthNames;
    this.#features = new Float32Array(room * names.length);
    this.#truth = new Float64Array(room * truthNames.length);
  }

  /** Rows × width, row by row. */
  get features(): Float32Array {
    return this.#features.subarray(0, this.count * this.names.length);
  }

  get truth(): Float64Array {
    return this.#truth.subarray(0, this.count * this.truthNames.length);
  }

  /** Makes a row of NaN truths; answers its number. */
  add(write: (features: Float32Array, offset: number) => void): number {
    const row = this.count++;
    if (
      this.count * this.names.length > this.#features.length ||
      this.count * this.truthNames.length > this.#truth.length
    )
      this.#grow();
    write(this.#features, row * this.names.length);
    this.#truth.fill(Number.NaN, row * this.truthNames.length, (row + 1) * this.truthNames.length);
    return row;
  }

  tell(row: number, column: number, value: number): void {
    this.#truth[row * this.truthNames.length + column] = value;
  }

  /** One truth column. Throws a RangeError for an unknown one. */
  column(name: string): Float64Array {
    const at = this.truthNames.indexOf(name);
    if (at < 0) throw new RangeError(`No truth "${name}"; there is ${this.truthNames.join(', ')}.`);
    return Float64Array.from({ length: this.count }, (_, row) => this.#truth[row * this.truthNames.length + at]);
  }

  /** One feature of all rows. Throws a RangeError for an unknown one. */
  feature(name: string): Float64Array {
    const at = this.names.indexOf(name);
    if (at < 0) throw new RangeError(`No feature "${name}"; there is ${this.names.join(', ')}.`);
    return Float64Array.from({ length: this.count }, (_, row) => this.#features[row * this.names.length + at]);
  }

  /** The rows for which `keep` holds, as new ones. */
  where(keep: (row: number) => boolean): Rows {
    const out = new Rows(this.names, this.truthNames, Math.max(1, this.count));
    out.twins.push(...this.twins);
    const width = this.names.length;
    const wide = this.truthNames.length;
    for (let row = 0; row < this.count; row++) {
      if (!keep(row)) continue;
      const at = out.add((into, offset) => into.set(this.#features.subarray(row * width, (row + 1) * width), offset));
      for (let i = 0; i < wide; i++) out.tell(at, i, this.#truth[row * wide + i]);
    }
    return out;
  }

  #grow(): void {
    const room = Math.max(2 * this.count, 1024);
    const features = new Float32Array(room * this.names.length);
    features.set(this.#features);
    const truth = new Float64Array(room * this.truthNames.length);
    truth.set(this.#truth);
    this.#features = features;
    this.#truth = truth;
  }
}

/** Writes a matrix as NumPy's `.npy` version 1.0, little-endian, in C order. */
export function writeNpy(path: string, values: Float32Array | Float64Array, width: number): void {
  const type = values instanceof Float32Array ? '<f4' : '<f8';
  const rows = width === 0 ? 0 : values.length / width;
  const dictionary = `{'descr': '${type}', 'fortran_order': False, 'shape': (${rows}, ${width}), }`;
  const header = `${dictionary.padEnd(Math.ceil((10 + dictionary.length + 1) / 64) * 64 - 11)}\n`;
  const head = Buffer.alloc(10);
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(header.length, 8);
  const body = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  writeFileSync(path, Buffer.concat([head, Buffer.from(header, 'latin1'), body]));
}

/** Reads what `writeNpy` wrote. Throws where it is something else. */
export function readNpy(path: string): { values: Float32Array | Float64Array; width: number } {
  const bytes = readFileSync(path);
  const length = bytes.readUInt16LE(8);
  const found = /^\{'descr': '<f([48])', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \}/.exec(
    bytes.toString('latin1', 10, 10 + length),
  );
  if (found === null) throw new Error(`${path} is no matrix of the exporter.`);
  const body = bytes.buffer.slice(bytes.byteOffset + 10 + length, bytes.byteOffset + bytes.length);
  return { values: found[1] === '4' ? new Float32Array(body) : new Float64Array(body), width: Number(found[3]) };
}
