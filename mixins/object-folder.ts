import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { checkKey, noObject, type ObjectStore, type ObjectSum, type StoredObject, Summing } from './object-store.ts';

/** What is being written lies here until it is whole: on the same file system, so that one rename brings it to its place. */
const PARTIAL = '.partial';

/** Objects as files in a folder, which is made when the first is written. Only its owner reads them. */
export class ObjectFolder implements ObjectStore {
  readonly place: string;

  constructor(folder: string) {
    this.place = resolve(folder);
  }

  async put(key: string, body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<ObjectSum> {
    const target = this.#path(key);
    const partial = join(this.place, PARTIAL, randomUUID());
    const summing = new Summing();
    await this.#written(() => mkdir(join(this.place, PARTIAL), { recursive: true, mode: 0o700 }));
    const file = await this.#written(() => open(partial, 'wx', 0o600));
    try {
      for await (const piece of summing.pass(body)) await this.#written(() => file.writeFile(piece));
      await this.#written(async () => {
        await file.sync();
        await file.close();
        await mkdir(dirname(target), { recursive: true, mode: 0o700 });
        await rename(partial, target);
        // The name is in the folder: without this a power cut may lose it.
        const folder = await open(dirname(target), 'r');
        await folder.sync().finally(() => folder.close());
      });
    } catch (error) {
      await file.close().catch(() => undefined);
      await rm(partial, { force: true });
      throw error;
    }
    return summing.sum;
  }

  async read(key: string, start: number, end: number): Promise<Uint8Array> {
    const file = await this.#found(key, () => open(this.#path(key), 'r'));
    try {
      const { size } = await file.stat();
      const wanted = Math.max(0, Math.min(end, size) - start);
      const bytes = new Uint8Array(wanted);
      let at = 0;
      while (at < wanted) {
        const { bytesRead } = await file.read(bytes, at, wanted - at, start + at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return bytes.subarray(0, at);
    } catch (error) {
      throw this.#unavailable(error);
    } finally {
      await file.close();
    }
  }

  async *stream(key: string): AsyncGenerator<Uint8Array, void, void> {
    const path = this.#path(key);
    await this.#found(key, () => stat(path));
    yield* createReadStream(path, { highWaterMark: 1 << 20 });
  }

  async sizeOf(key: string): Promise<number | null> {
    try {
      const found = await stat(this.#path(key));
      return found.isFile() ? found.size : null;
    } catch (error) {
      if (isAbsent(error)) return null;
      throw this.#unavailable(error);
    }
  }

  async *list(prefix: string): AsyncGenerator<StoredObject, void, void> {
    yield* this.#under(this.#path(prefix));
  }

  async *#under(folder: string): AsyncGenerator<StoredObject, void, void> {
    const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
      if (isAbsent(error)) return [];
      throw this.#unavailable(error);
    });
    // A folder sorts as its keys do, with the slash behind its name.
    const named = entries.map((entry) => ({ entry, name: entry.isDirectory() ? `${entry.name}/` : entry.name }));
    for (const { entry } of named.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = join(folder, entry.name);
      if (entry.name.startsWith('.')) continue;
      if (entry.isDirectory()) yield* this.#under(path);
      else if (entry.isFile())
        yield { key: relative(this.place, path).split(sep).join('/'), bytes: (await stat(path)).size };
    }
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.#written(() => rm(this.#path(key), { force: true }));
  }

  close(): void {
    // Nothing is kept open.
  }

  #path(key: string): string {
    checkKey(key);
    return join(this.place, key);
  }

  async #found<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw isAbsent(error) ? noObject(this.place, key, error) : this.#unavailable(error);
    }
  }

  async #written<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#unavailable(error);
    }
  }

  #unavailable(error: unknown): TwinmeshError {
    if (error instanceof TwinmeshError) return error;
    const message = `${this.place} cannot be used: ${messageOf(error)}`;
    return new TwinmeshError('unavailable', message, undefined, { cause: error });
  }
}

function isAbsent(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
}
