/**
 * Numbers and text as bytes: variable-length integers (seven bits a byte, low ones first), zigzag for signed ones, float64
 * little-endian, UTF-8. Writing grows as needed; reading never goes past the end.
 */
export class Corrupt extends Error {
  constructor(reason: string) {
    super(`The bytes are not a batch of the log: ${reason}.`);
    this.name = 'Corrupt';
  }
}

const TWO_31 = 2 ** 31;
const SAFE = Number.MAX_SAFE_INTEGER;

export class ByteWriter {
  #buffer = Buffer.allocUnsafeSlow(64 * 1024);
  #length = 0;

  /** Forgets what was written. */
  reset(): void {
    this.#length = 0;
  }

  byte(value: number): void {
    this.#room(1);
    this.#buffer[this.#length++] = value;
  }

  /** An integer from 0 to 2^53 - 1. */
  varint(value: number): void {
    this.#room(8);
    const buffer = this.#buffer;
    let length = this.#length;
    let rest = value;
    while (rest >= TWO_31) {
      buffer[length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    let small = rest | 0;
    while (small > 127) {
      buffer[length++] = (small & 127) | 128;
      small >>>= 7;
    }
    buffer[length++] = small;
    this.#length = length;
  }

  /** An integer from -2^52 to 2^52 - 1. */
  signed(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  double(value: number): void {
    this.#room(8);
    this.#length = this.#buffer.writeDoubleLE(value, this.#length);
  }

  bytes(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** What was written; later writing does not change it. */
  copy(): Uint8Array {
    return new Uint8Array(this.#buffer.subarray(0, this.#length));
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#length + bytes));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}

/** Every method throws `Corrupt` where the bytes do not hold what is asked for. */
export class ByteReader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get ended(): boolean {
    return this.#at === this.#buffer.length;
  }

  byte(): number {
    if (this.#at >= this.#buffer.length) throw new Corrupt('they end too early');
    return this.#buffer[this.#at++];
  }

  varint(): number {
    const first = this.byte();
    if (first < 128) return first;
    let value = first & 127;
    for (let scale = 128; ; scale *= 128) {
      const next = this.byte();
      value += (next & 127) * scale;
      if (value > SAFE) throw new Corrupt('a number is too large');
      if (next < 128) return value;
      if (scale >= SAFE) throw new Corrupt('a number is too long');
    }
  }

  signed(): number {
    const zigzag = this.varint();
    return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
  }

  /** How many items follow, each of which takes at least so many bytes. */
  count(leastBytes: number): number {
    const count = this.varint();
    if (count * leastBytes > this.#buffer.length - this.#at) throw new Corrupt('they end too early');
    return count;
  }

  double(): number {
    if (this.#at + 8 > this.#buffer.length) throw new Corrupt('they end too early');
    const value = this.#buffer.readDoubleLE(this.#at);
    this.#at += 8;
    return value;
  }

  text(bytes: number): string {
    if (bytes > this.#buffer.length - this.#at) throw new Corrupt('they end too early');
    const text = this.#buffer.toString('utf8', this.#at, this.#at + bytes);
    this.#at += bytes;
    return text;
  }
}
