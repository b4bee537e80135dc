import type { LineReader } from './line-blocks.ts';
import type { RowReader } from './row-reading.ts';

/** Cells between separators, as RFC 4180 quotes them; a quoted cell may not span lines. */
export type Separator = ',' | ';' | '\t' | '|' | 'space';

/** The cells of a line, or null where a quote is not closed. */
export function cellsOf(line: string, separator: Separator): string[] | null {
  if (separator === 'space') {
    const trimmed = line.trim();
    return trimmed === '' ? [] : trimmed.split(/\s+/);
  }
  if (!line.includes('"')) return line.split(separator);
  const cells: string[] = [];
  let i = 0;
  for (;;) {
    if (line[i] === '"') {
      let cell = '';
      for (;;) {
        const quote = line.indexOf('"', i + 1);
        if (quote < 0) return null;
        cell += line.slice(i + 1, quote);
        i = quote + 1;
        if (line[i] !== '"') break;
        cell += '"';
      }
      const end = line.indexOf(separator, i);
      cells.push(cell + line.slice(i, end < 0 ? line.length : end));
      if (end < 0) return cells;
      i = end + 1;
    } else {
      const end = line.indexOf(separator, i);
      cells.push(line.slice(i, end < 0 ? line.length : end));
      if (end < 0) return cells;
      i = end + 1;
    }
  }
}

/** Text of a line without its end, and without the byte order mark of the first. */
export function lineText(bytes: Buffer, start: number, end: number): string {
  if (end > start && bytes[end - 1] === 13) end--;
  if (bytes[start] === 0xef && bytes[start + 1] === 0xbb && bytes[start + 2] === 0xbf) start += 3;
  return bytes.toString('utf8', start, end);
}

/** Reads rows that have as many cells as the header. */
export function csvLines(separator: Separator, header: readonly string[], rows: RowReader): LineReader {
  return (bytes, start, end, row) => {
    const line = lineText(bytes, start, end);
    if (line === '' || line.trim() === '') return undefined;
    const cells = cellsOf(line, separator);
    if (cells === null) return 'unclosed_quote';
    if (cells.length !== header.length) return 'column_count';
    return rows(cells, row);
  };
}

/** The separator that the header line has most of. */
export function separatorOf(headerLine: string): Separator {
  const counts = ([',', ';', '\t', '|'] as const).map((separator) => ({
    separator: separator as Separator,
    cells: headerLine.split(separator).length,
  }));
  const best = counts.reduce((a, b) => (b.cells > a.cells ? b : a));
  return best.cells > 1 || !/\S\s+\S/.test(headerLine) ? best.separator : 'space';
}
