import type { RawReading } from '../../actors/protocol/kind.ts';
import { BLOCK_READINGS, type Block, type Position } from './block.ts';
import type { DataFile } from './data-file.ts';
import { segments } from './segments.ts';

/** A line becomes a reading, a reason why it does not, or nothing (a blank line). `row` counts data rows from 0. */
export type LineReader = (bytes: Buffer, start: number, end: number, row: number) => RawReading | string | undefined;

const MAX_LINE_BYTES = 1_048_576;

/** The lines of a file behind `from` as blocks of readings. */
export async function* lineBlocks(
  file: DataFile,
  from: Position,
  read: LineReader,
  maxLineBytes = MAX_LINE_BYTES,
): AsyncGenerator<Block> {
  const at = { ...from };
  let block = emptyBlock();
  try {
    for await (const { bytes, offset, tooLong } of segments(file.chunks(from.offset), from.offset, maxLineBytes)) {
      if (tooLong > 0) {
        count(block, 'too_long', tooLong);
        at.lines += tooLong;
        at.rows += tooLong;
        block.lines += tooLong;
      }
      for (let start = 0; start < bytes.length; ) {
        let end = bytes.indexOf(10, start);
        if (end < 0) end = bytes.length;
        at.lines++;
        block.lines++;
        const reading = read(bytes, start, end, at.rows);
        if (reading !== undefined) {
          at.rows++;
          if (typeof reading === 'string') count(block, reading, 1);
          else block.readings.push(reading);
        }
        start = end + 1;
        if (block.readings.length >= BLOCK_READINGS || block.lines >= 16 * BLOCK_READINGS) {
          yield ended(block, at, offset + start);
          block = emptyBlock();
        }
      }
      at.offset = offset + bytes.length;
    }
  } catch (error) {
    // The good part goes first; whoever asks for more meets the fault.
    if (block.lines > 0) yield ended(block, at, at.offset);
    throw error;
  }
  if (block.lines > 0) yield ended(block, at, at.offset);
}

/** The lines of a file behind `from` as they stand, blank ones left out, in blocks of at most `maxBytes`. */
export async function* messageBlocks(file: DataFile, from: Position, maxBytes: number): AsyncGenerator<Block> {
  const at = { ...from };
  let block = emptyBlock();
  let parts: Buffer[] = [];
  let size = 0;
  const full = () => {
    const done = { ...ended(block, at, at.offset), messages: Buffer.concat(parts) };
    block = emptyBlock();
    parts = [];
    size = 0;
    return done;
  };
  try {
    for await (const { bytes, offset, tooLong } of segments(file.chunks(from.offset), from.offset, MAX_LINE_BYTES)) {
      if (tooLong > 0) {
        count(block, 'too_long', tooLong);
        at.lines += tooLong;
        block.lines += tooLong;
      }
      at.offset = offset;
      for (let start = 0; start < bytes.length; ) {
        let end = bytes.indexOf(10, start);
        end = end < 0 ? bytes.length : end + 1;
        if (size + end - start > maxBytes && size > 0) yield full();
        const line = bytes.subarray(start, end);
        if (!isBlank(line)) {
          parts.push(line);
          size += line.length;
          at.rows++;
        }
        at.lines++;
        block.lines++;
        start = end;
        at.offset = offset + end;
        if (block.lines >= BLOCK_READINGS) yield full();
      }
      // The next segment may lie in another buffer of the stream, and the last line of a file may lack its end.
      if (parts.length > 0 && parts[parts.length - 1].at(-1) !== 10) parts.push(Buffer.from('\n'));
    }
  } catch (error) {
    if (block.lines > 0) yield full();
    throw error;
  }
  if (block.lines > 0) yield full();
}

export function emptyBlock(): Block {
  return { readings: [], messages: null, lines: 0, skipped: {}, end: { offset: 0, lines: 0, rows: 0 } };
}

function ended(block: Block, at: Position, offset: number): Block {
  block.end = { ...at, offset };
  return block;
}

export function count(block: Block, reason: string, lines: number): void {
  block.skipped[reason] = (block.skipped[reason] ?? 0) + lines;
}

function isBlank(line: Buffer): boolean {
  for (const byte of line) if (byte > 32) return false;
  return true;
}
