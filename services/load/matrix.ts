import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { RawReading } from '../../actors/protocol/kind.ts';
import { BLOCK_READINGS, type Block, type Blocks, type Position } from './block.ts';
import { cellsOf, lineText } from './csv-line.ts';
import { type DataFile, fileIdentity } from './data-file.ts';
import { wireTime } from './intel-text.ts';
import { count, emptyBlock } from './line-blocks.ts';
import type { DataMap, ValueRule } from './map.ts';
import { asNumber, conversionOf, startOf } from './row-reading.ts';
import { segments } from './segments.ts';

/**
 * Matrices: a row is an asset, a column a time, a file a metric. Files given together are read side by side, so that one
 * reading carries all of their metrics; a cell that is blank is a metric that this reading lacks. Given one after the other they
 * make readings with a part of the metrics each.
 */
const MAX_ROW_BYTES = 16 * 1_048_576;

/** Throws bad_request where a file fits no metric, or two fit one. */
export function matrixBlocks(map: DataMap, files: readonly DataFile[], startMs: number | null): Blocks {
  const planes = files.map((file) => planeOf(map, file));
  const names = planes.map(({ metric }) => metric);
  if (new Set(names).size < names.length) {
    throw new TwinmeshError('bad_request', `Two of the files carry the same metric: ${names.join(', ')}.`);
  }
  const separator = map.separator ?? ',';
  const missing = new Set(['', ...(map.missing ?? [])]);
  const start = startOf(map, startMs);
  const idOf = idOfRow(map);
  const terms = 'offset' in map.time ? map.time.offset : [];
  const constants = Object.entries(map.attributes ?? {}).map(([name, rule]) => [
    name,
    'constant' in rule ? rule.constant : undefined,
  ]);
  const attributes = constants.length > 0 ? Object.fromEntries(constants) : undefined;

  const secondsAt = (row: number, column: number): number => {
    let seconds = 0;
    for (const term of terms) if ('count' in term) seconds += (term.count === 'row' ? row : column) * term.seconds;
    return seconds;
  };

  /** The readings of one row, or why there are none. */
  const readRow = (lines: readonly string[], row: number): RawReading[] | string => {
    const cells = lines.map((line) => cellsOf(line, separator));
    if (cells.includes(null)) return 'unclosed_quote';
    const width = cells[0]?.length ?? 0;
    if (cells.some((c) => c?.length !== width)) return 'column_count';
    const readings: RawReading[] = [];
    const id = idOf(row);
    for (let column = 0; column < width; column++) {
      const values: Record<string, unknown> = {};
      let some = false;
      for (let p = 0; p < planes.length; p++) {
        const text = (cells[p] as string[])[column].trim();
        if (missing.has(text)) continue;
        const value = asNumber(text);
        values[planes[p].metric] = typeof value === 'number' ? planes[p].convert(value) : value;
        some = true;
      }
      if (!some) continue;
      const at = wireTime(Math.round(start + secondsAt(row, column) * 1000));
      const reading: RawReading = { id, at, values };
      if (map.unit !== undefined) reading.unit = map.unit;
      if (attributes) reading.attributes = attributes;
      readings.push(reading);
    }
    return readings;
  };

  async function* from(position: Position): AsyncGenerator<Block> {
    const rows = files.map((file) => rowsOf(file));
    let block = emptyBlock();
    let row = 0;
    const done = () => {
      block.end = { offset: 0, lines: row, rows: row };
      const full = block;
      block = emptyBlock();
      return full;
    };
    try {
      for (; ; row++) {
        const next = await Promise.all(rows.map((each) => each.next()));
        const ended = next.filter((each) => each.done).length;
        if (ended === next.length) break;
        if (ended > 0) {
          const lengths = 'the files have different numbers of rows';
          throw new TwinmeshError('bad_request', `Row ${row + 1}: ${lengths}; what lies beyond the shortest is left.`);
        }
        if (row < position.rows) continue;
        block.lines++;
        const lines = next.map((each) => each.value as string | null);
        const read = lines.includes(null) ? 'too_long' : readRow(lines as string[], row);
        if (typeof read === 'string') count(block, read, 1);
        else for (const reading of read) block.readings.push(reading);
        if (block.readings.length >= BLOCK_READINGS) {
          row++;
          yield done();
          row--;
        }
      }
    } catch (error) {
      if (block.lines > 0) yield done();
      throw error;
    } finally {
      for (const each of rows) await each.return(undefined);
    }
    if (block.lines > 0) yield done();
  }

  return {
    title: files.map(({ name }) => name).join(' + '),
    identity: files.map(fileIdentity),
    sizeBytes: files.reduce((sum, file) => sum + file.sizeBytes, 0),
    bytesRead: () => files.reduce((sum, file) => sum + file.bytesRead(), 0),
    from,
  };
}

/** Lines that are not blank; null for one that is too long. */
async function* rowsOf(file: DataFile): AsyncGenerator<string | null> {
  for await (const { bytes, tooLong } of segments(file.chunks(0), 0, MAX_ROW_BYTES)) {
    for (let i = 0; i < tooLong; i++) yield null;
    for (let start = 0; start < bytes.length; ) {
      let end = bytes.indexOf(10, start);
      if (end < 0) end = bytes.length;
      const line = lineText(bytes, start, end);
      if (line.trim() !== '') yield line;
      start = end + 1;
    }
  }
}

function planeOf(map: DataMap, file: DataFile): { metric: string; convert(value: number): number } {
  const fits = Object.entries(map.metrics).filter(
    ([, rule]) => typeof rule === 'object' && 'file' in rule && file.name.includes(rule.file),
  );
  if (fits.length === 1) return { metric: fits[0][0], convert: conversionOf(fits[0][1] as ValueRule) };
  const which = fits.length === 0 ? 'no metric' : 'several metrics';
  throw new TwinmeshError('bad_request', `The name of ${file.name} fits ${which} of map ${map.name}.`);
}

function idOfRow(map: DataMap): (row: number) => string {
  const rule = map.id;
  if ('constant' in rule) return () => rule.constant;
  const prefix = 'prefix' in rule ? (rule.prefix ?? '') : '';
  const from = 'from' in rule ? (rule.from ?? 1) : 1;
  return (row) => `${prefix}${row + from}`;
}
