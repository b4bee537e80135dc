/** Bytes that begin at a line and end with one, so that lines can be walked without a copy or a wait for each. */
export interface Segment {
  bytes: Buffer;
  /** Of the first byte, counted unpacked from the start of the file. */
  offset: number;
  /** Lines that were too long and have been left out before this segment. */
  tooLong: number;
}

/**
 * Cuts a stream into segments of whole lines. A line of more than `maxLineBytes` is left out and counted, so that a file
 * without line ends does not fill the memory. The last line may lack its line end; where the stream throws, what is
 * left of the line under way is not handed out, because nobody knows where it would have ended.
 */
export async function* segments(
  chunks: AsyncIterable<Buffer>,
  fromOffset: number,
  maxLineBytes: number,
): AsyncGenerator<Segment> {
  let carry: Buffer[] = [];
  let carried = 0;
  let offset = fromOffset;
  let dropping = false;
  let tooLong = 0;
  for await (const chunk of chunks) {
    let from = 0;
    if (dropping) {
      const end = chunk.indexOf(10);
      offset += end < 0 ? chunk.length : end + 1;
      if (end < 0) continue;
      dropping = false;
      from = end + 1;
    }
    const last = chunk.lastIndexOf(10);
    if (last >= from) {
      const bytes =
        carried > 0 ? Buffer.concat([...carry, chunk.subarray(from, last + 1)]) : chunk.subarray(from, last + 1);
      yield { bytes, offset, tooLong };
      offset += bytes.length;
      tooLong = 0;
      carry = [];
      carried = 0;
      from = last + 1;
    }
    if (from < chunk.length) {
      carry.push(chunk.subarray(from));
      carried += chunk.length - from;
    }
    if (carried > maxLineBytes) {
      offset += carried;
      carry = [];
      carried = 0;
      dropping = true;
      tooLong++;
    }
  }
  if (carried > 0 || tooLong > 0) yield { bytes: Buffer.concat(carry), offset, tooLong };
}
