import { closeSync, createReadStream, openSync, readSync, statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * A file of readings as a stream of bytes: opened and looked at first, unpacked where it is gzip (told by content, not
 * by name). Memory is bounded by a few chunks whatever its size. A file that ends too early throws after its good part
 * has been handed out.
 */
export interface DataFile {
  readonly path: string;
  /** Without folders. */
  readonly name: string;
  /** As it lies on the disk. */
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  readonly gzip: boolean;
  /** The first bytes, unpacked: enough to tell what the file is. */
  readonly head: Buffer;
  /** Bytes read from the disk so far, for progress. */
  bytesRead(): number;
  /** The content from an offset on, counted unpacked. Throws bad_request where the file is damaged. */
  chunks(fromOffset: number): AsyncGenerator<Buffer>;
}

export const HEAD_BYTES = 65_536;
const CHUNK_BYTES = 262_144;

/** Throws bad_request for what is no readable file, or no text. */
export async function openDataFile(path: string): Promise<DataFile> {
  const full = resolve(path);
  const { size, mtimeMs, gzip } = look(path, full);
  let stream: Readable | null = null;
  let skippedBytes = 0;

  async function* chunks(fromOffset: number): AsyncGenerator<Buffer> {
    // Packed bytes cannot be sought: they are unpacked again up to the offset, which costs little beside storing them.
    skippedBytes = gzip ? 0 : fromOffset;
    const file = createReadStream(full, { start: skippedBytes, highWaterMark: CHUNK_BYTES });
    stream = file;
    let skip = gzip ? fromOffset : 0;
    const unpack = gzip ? createGunzip({ chunkSize: CHUNK_BYTES }) : null;
    if (unpack) file.on('error', (error) => unpack.destroy(error)).pipe(unpack);
    try {
      for await (const chunk of (unpack ?? file) as AsyncIterable<Buffer>) {
        if (skip >= chunk.length) skip -= chunk.length;
        else {
          yield skip > 0 ? chunk.subarray(skip) : chunk;
          skip = 0;
        }
      }
    } catch (error) {
      throw damaged(path, error);
    } finally {
      file.destroy();
      unpack?.destroy();
    }
  }

  const data = {
    path: full,
    name: basename(full),
    sizeBytes: size,
    mtimeMs,
    gzip,
    head: Buffer.alloc(0) as Buffer,
    bytesRead: () => Math.min(size, skippedBytes + ((stream as { bytesRead?: number } | null)?.bytesRead ?? 0)),
    chunks,
  };
  data.head = await headOf(chunks);
  // Further down a NUL is the fault of its line alone.
  const firstLine = data.head.subarray(0, data.head.indexOf(10) + 1 || data.head.length);
  if (firstLine.includes(0)) throw new TwinmeshError('bad_request', `${path} is no text file: it holds NUL bytes.`);
  return data;
}

/** Names a file and its content as far as a glance tells. */
export function fileIdentity({ path, sizeBytes, mtimeMs }: DataFile): unknown {
  return [path, sizeBytes, mtimeMs];
}

/** A damaged file still has a head when its damage lies behind it. */
async function headOf(chunks: (fromOffset: number) => AsyncGenerator<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of chunks(0)) {
      parts.push(chunk);
      length += chunk.length;
      if (length >= HEAD_BYTES) break;
    }
  } catch (error) {
    if (length === 0) throw error;
  }
  return Buffer.concat(parts).subarray(0, HEAD_BYTES);
}

function look(path: string, full: string): { size: number; mtimeMs: number; gzip: boolean } {
  try {
    const stat = statSync(full);
    if (stat.isDirectory()) throw new TwinmeshError('bad_request', `${path} is a folder; name the files in it.`);
    if (!stat.isFile()) throw new TwinmeshError('bad_request', `${path} is no regular file.`);
    const magic = Buffer.alloc(2);
    const handle = openSync(full, 'r');
    try {
      readSync(handle, magic, 0, 2, 0);
    } finally {
      closeSync(handle);
    }
    return { size: stat.size, mtimeMs: stat.mtimeMs, gzip: magic[0] === 0x1f && magic[1] === 0x8b };
  } catch (error) {
    if (error instanceof TwinmeshError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === 'ENOENT' ? 'does not exist' : code === 'EACCES' ? 'may not be read' : messageOf(error);
    throw new TwinmeshError('bad_request', `${path} ${why}.`, undefined, { cause: error });
  }
}

function damaged(path: string, error: unknown): TwinmeshError {
  if (error instanceof TwinmeshError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  const why =
    code === 'Z_BUF_ERROR'
      ? 'ends too early: the gzip is truncated'
      : code?.startsWith('Z_')
        ? `holds damaged gzip data (${messageOf(error)})`
        : `cannot be read on: ${messageOf(error)}`;
  return new TwinmeshError('bad_request', `${path} ${why}.`, undefined, { cause: error });
}
