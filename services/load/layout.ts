import { parseJson } from '../../actors/ingress/json.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind, RawReading } from '../../actors/protocol/kind.ts';
import { BEGINNING, type Blocks, type Position } from './block.ts';
import { cellsOf, csvLines, lineText, type Separator, separatorOf } from './csv-line.ts';
import { type DataFile, fileIdentity, HEAD_BYTES, openDataFile } from './data-file.ts';
import { intelReading, looksLikeIntelText } from './intel-text.ts';
import { kindMap } from './kind-map.ts';
import { type LineReader, lineBlocks, messageBlocks } from './line-blocks.ts';
import type { DataMap } from './map.ts';
import { matrixBlocks } from './matrix.ts';
import { rowReader } from './row-reading.ts';

/**
 * What a file is, and how it is read: by its map where there is one, else by its content. NDJSON and the Intel lab text
 * speak for themselves; a CSV without a map has to be called as its kind calls things.
 */
export interface ReadPlan {
  kind: Kind;
  map: DataMap | null;
  /** Time that maps count from, ms. */
  startMs: number | null;
  /** Bytes of one block of NDJSON messages. */
  messageBytes: number;
  /** Decodes NDJSON messages here instead of handing them on as they stand. */
  decode: ((message: unknown) => RawReading) | null;
}

/** Levels that an NDJSON message may nest. */
export const JSON_DEPTH = 16;
const INTEL_METRICS = ['temperature', 'humidity', 'light', 'voltage'];

/** The files in the order given, as few `Blocks` as belong together. Throws bad_request naming the file at fault. */
export async function openBlocks(paths: readonly string[], plan: ReadPlan): Promise<Blocks[]> {
  const files: DataFile[] = [];
  for (const path of paths) files.push(await openDataFile(path));
  if (plan.map?.format === 'matrix') return [matrixBlocks(plan.map, files, plan.startMs)];
  return files.map((file) => ({
    title: file.name,
    identity: [fileIdentity(file)],
    sizeBytes: file.sizeBytes,
    bytesRead: file.bytesRead,
    from: readerOf(file, plan),
  }));
}

function readerOf(file: DataFile, plan: ReadPlan): Blocks['from'] {
  const head = lineText(file.head, 0, file.head.length);
  const first = head.trimStart()[0];
  const format = plan.map?.format ?? (first === '{' || first === '[' ? 'ndjson' : undefined);
  if (format === 'ndjson' || (format === undefined && head.trim() === '')) return ndjsonReader(file, plan, first);
  if (format === undefined && looksLikeIntelText(head)) {
    const absent = INTEL_METRICS.filter((metric) => !Object.hasOwn(plan.kind.metrics, metric));
    if (absent.length > 0) {
      const message = `${file.name} is Intel lab text, whose readings a ${plan.kind.kind} does not have (${absent.join(', ')}).`;
      throw new TwinmeshError('bad_request', message);
    }
    return (from) => lineBlocks(file, from, intelReading);
  }
  return csvReader(file, plan);
}

function csvReader(file: DataFile, plan: ReadPlan): Blocks['from'] {
  const newline = file.head.indexOf(10);
  if (newline < 0 && file.head.length === HEAD_BYTES)
    throw new TwinmeshError('bad_request', `The first line of ${file.name} is too long for a header.`);
  const headerEnd = newline < 0 ? file.head.length : newline;
  const headerLine = lineText(file.head, 0, headerEnd);
  const separator: Separator = plan.map?.separator ?? separatorOf(headerLine);
  const written = plan.map?.columns ?? cellsOf(headerLine, separator)?.map((name) => name.trim());
  if (!written || written.length < 2) {
    throw new TwinmeshError(
      'bad_request',
      `${file.name} is none of NDJSON, Intel lab text and CSV with a header; a map (--map) says how to read it.`,
    );
  }
  const map = plan.map ?? kindMap(plan.kind, written);
  if (map === null) {
    const message = `${file.name} (${written.slice(0, 20).join(', ')}) is not called as a ${plan.kind.kind} is: give a map (--map).`;
    throw new TwinmeshError('bad_request', message);
  }
  const rows = rowReader(map, { fileName: file.name, startMs: plan.startMs, header: written });
  const read = csvLines(separator, written, rows);
  const data: Position = plan.map?.columns
    ? BEGINNING
    : { offset: Math.min(headerEnd + 1, file.head.length), lines: 1, rows: 0 };
  return (from) => lineBlocks(file, from.offset < data.offset ? data : from, read);
}

function ndjsonReader(file: DataFile, plan: ReadPlan, first: string | undefined): Blocks['from'] {
  if (first === '[') {
    const remedy = "one object a line is needed, as `jq -c '.[]'` makes them";
    throw new TwinmeshError('bad_request', `${file.name} is one JSON array; ${remedy}.`);
  }
  const { map, decode } = plan;
  if (map === null && decode === null) return (from) => messageBlocks(file, from, plan.messageBytes);
  const rows = map === null ? null : rowReader(map, { fileName: file.name, startMs: plan.startMs, header: null });
  const limits = { maxBytes: plan.messageBytes, maxDepth: JSON_DEPTH };
  const read: LineReader = (bytes, start, end, row) => {
    const text = lineText(bytes, start, end);
    if (text.trim() === '') return undefined;
    let message: unknown;
    try {
      message = parseJson(text, limits);
    } catch (error) {
      return error instanceof TwinmeshError ? error.code : 'not_json';
    }
    if (typeof message !== 'object' || message === null || Array.isArray(message)) return 'wrong_type';
    if (rows !== null) return rows(message as Record<string, unknown>, row);
    try {
      return decode?.(message);
    } catch (error) {
      return error instanceof TwinmeshError ? error.code : messageOf(error);
    }
  };
  return (from) => lineBlocks(file, from, read);
}
