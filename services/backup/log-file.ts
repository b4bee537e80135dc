import fs from 'node:fs';
import readline from 'node:readline';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import type { CopiedMessage } from '../../actors/log/jetstream-copy.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * Messages of the log in a file: one JSON object a line, gzipped. Messages of one shard stand in the order of the log;
 * shards are mixed.
 *
 *     {"subject":"twins.log.7","position":812,"id":"…","at":"2026-01-01T00:00:00.000Z","data":"base64"}
 */
export const LOG_FILE = 'log.ndjson.gz';
const SUBJECT = /^twins\.log\.(\d{1,4})$/;

export class LogFile {
  readonly #lines = new PassThrough({ highWaterMark: 1 << 20 });
  readonly #written: Promise<void>;
  /** What all who write wait for while the file is behind. */
  #room: Promise<unknown> | null = null;
  messages = 0;
  bytes = 0;

  constructor(file: string) {
    this.#written = pipeline(
      this.#lines,
      zlib.createGzip({ level: 1 }),
      fs.createWriteStream(file, { mode: 0o600, flags: 'wx' }),
    );
    // whoever writes or closes gets it
    this.#written.catch(() => undefined);
  }

  async write({ shard, position, id, appendedAt, bytes }: CopiedMessage): Promise<void> {
    this.messages++;
    this.bytes += bytes.length;
    const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
    const at = new Date(appendedAt).toISOString();
    const line = JSON.stringify({ subject: `twins.log.${shard}`, position, id, at, data });
    if (this.#lines.write(`${line}\n`)) return;
    this.#room ??= new Promise<void>((resolve) => this.#lines.once('drain', resolve)).then(() => {
      this.#room = null;
    });
    await Promise.race([this.#room, this.#written]);
  }

  async close(): Promise<void> {
    this.#lines.end();
    await this.#written;
  }
}

/** The messages of such a file. Throws `bad_request` for a line that is none. */
export async function* readLogFile(file: string): AsyncGenerator<Pick<CopiedMessage, 'shard' | 'id' | 'bytes'>> {
  const text = fs.createReadStream(file).pipe(zlib.createGunzip());
  let line = 0;
  for await (const json of readline.createInterface({ input: text, crlfDelay: Number.POSITIVE_INFINITY })) {
    line++;
    const { subject, id, data } = parsed(json);
    const shard = SUBJECT.exec(String(subject))?.[1];
    if (shard === undefined || typeof id !== 'string' || typeof data !== 'string')
      throw new TwinmeshError('bad_request', `${LOG_FILE}, line ${line}: this is no message of the log.`);
    yield { shard: Number(shard), id, bytes: Buffer.from(data, 'base64') };
  }
}

function parsed(json: string): Record<string, unknown> {
  try {
    return (JSON.parse(json) as Record<string, unknown>) ?? {};
  } catch {
    return {};
  }
}
