import type { RawReading } from '../../actors/protocol/kind.ts';

/** Where reading can go on: everything before it has been read. */
export interface Position {
  /** Bytes, counted unpacked. A matrix has no offset, only rows. */
  offset: number;
  /** Lines before it, with those that were blank or skipped. */
  lines: number;
  /** Rows of data before it: what maps count. */
  rows: number;
}

export const BEGINNING: Position = Object.freeze({ offset: 0, lines: 0, rows: 0 });

/**
 * Part of a file, read: what is handed on and confirmed as one. Either readings, or (`messages`) lines of NDJSON as they
 * stand in the file, which are decoded where all messages are.
 */
export interface Block {
  readings: RawReading[];
  messages: Buffer | null;
  /** Lines it was made of. */
  lines: number;
  /** Lines that gave no reading, by reason. */
  skipped: Record<string, number>;
  end: Position;
}

/** A file, or the files of a matrix, as blocks. What has been read before a fault is handed out before it throws. */
export interface Blocks {
  /** For people. */
  readonly title: string;
  /** Which files, with which content: what a checkpoint is valid for. */
  readonly identity: readonly unknown[];
  readonly sizeBytes: number;
  bytesRead(): number;
  from(position: Position): AsyncGenerator<Block>;
}

/** Readings of one block: large enough to fill a cut, small enough that the checkpoint is never far behind. */
export const BLOCK_READINGS = 4000;
