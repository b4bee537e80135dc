import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { ObjectStore } from '../../mixins/object-store.ts';

/** What any object storage has to do. `prefix` is this run's own. */
export function objectStoreConformance(name: string, open: () => ObjectStore, prefix: string): void {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8');
  const all = async (pieces: AsyncIterable<Uint8Array>) => {
    const out: Uint8Array[] = [];
    for await (const piece of pieces) out.push(piece);
    return Buffer.concat(out);
  };
  const keys = async (store: ObjectStore, under: string) => {
    const out: string[] = [];
    for await (const { key } of store.list(under)) out.push(key);
    return out;
  };

  describe(name, () => {
    const store = open();
    const at = (key: string) => `${prefix}/${key}`;

    it('keeps what was put, and tells its length and sum', async () => {
      const sum = await store.put(at('a/one.txt'), [Buffer.from('hello '), Buffer.from('world')]);
      expect(sum).toEqual({ bytes: 11, sha256: createHash('sha256').update('hello world').digest('hex') });
      expect(await store.sizeOf(at('a/one.txt'))).toBe(11);
      expect(text(await all(store.stream(at('a/one.txt'))))).toBe('hello world');
    });

    it('reads ranges, and fewer bytes at the end', async () => {
      await store.put(at('range'), [Buffer.from('0123456789')]);
      expect(text(await store.read(at('range'), 2, 5))).toBe('234');
      expect(text(await store.read(at('range'), 8, 50))).toBe('89');
      expect(text(await store.read(at('range'), 20, 30))).toBe('');
      expect(text(await store.read(at('range'), 4, 4))).toBe('');
    });

    it('keeps an object of nothing', async () => {
      await store.put(at('empty'), []);
      expect(await store.sizeOf(at('empty'))).toBe(0);
      expect((await all(store.stream(at('empty')))).length).toBe(0);
    });

    it('replaces an object', async () => {
      await store.put(at('twice'), [Buffer.from('first')]);
      await store.put(at('twice'), [Buffer.from('second one')]);
      expect(text(await all(store.stream(at('twice'))))).toBe('second one');
    });

    it('takes a stream of several parts as it is', async () => {
      const piece = (i: number) => Buffer.alloc(1 << 20, i);
      const whole = createHash('sha256');
      for (let i = 0; i < 19; i++) whole.update(piece(i));
      const sum = await store.put(
        at('large'),
        (async function* () {
          for (let i = 0; i < 19; i++) yield piece(i);
        })(),
      );
      expect(sum).toEqual({ bytes: 19 << 20, sha256: whole.digest('hex') });
      expect(await store.sizeOf(at('large'))).toBe(19 << 20);
      expect([...(await store.read(at('large'), (9 << 20) - 1, (9 << 20) + 1))]).toEqual([8, 9]);
    });

    it.each([
      ['at once', 0],
      ['behind several parts', 18],
    ])('leaves what was there when a put breaks off %s (O1)', async (_, pieces) => {
      await store.put(at('kept'), [Buffer.from('before')]);
      const broken = (async function* () {
        for (let i = 0; i < pieces; i++) yield Buffer.alloc(1 << 20);
        throw new Error('the source broke');
      })();
      await expect(store.put(at('kept'), broken)).rejects.toThrow('the source broke');
      expect(text(await all(store.stream(at('kept'))))).toBe('before');
      const fresh = (async function* () {
        yield Buffer.from('x');
        throw new Error('the source broke');
      })();
      await expect(store.put(at(`never-${pieces}`), fresh)).rejects.toThrow('the source broke');
      expect(await store.sizeOf(at(`never-${pieces}`))).toBeNull();
    });

    it('lists a prefix of whole segments in order, with lengths', async () => {
      for (const key of ['list/b=2/x', 'list/b=10/x', 'list/b=1/y/z', 'list/b=1/a', 'listing/no'])
        await store.put(at(key), [Buffer.from(key)]);
      expect(await keys(store, at('list'))).toEqual(
        ['list/b=1/a', 'list/b=1/y/z', 'list/b=10/x', 'list/b=2/x'].map((key) => at(key)),
      );
      for await (const { key, bytes } of store.list(at('list'))) expect(bytes).toBe(key.length - prefix.length - 1);
      expect(await keys(store, at('nothing'))).toEqual([]);
    });

    it('removes, and does not mind what is gone', async () => {
      await store.put(at('gone'), [Buffer.from('x')]);
      await store.remove([at('gone'), at('never-there')]);
      expect(await store.sizeOf(at('gone'))).toBeNull();
      await store.remove([]);
    });

    it('says not_found for what is not there', async () => {
      await expect(store.read(at('absent'), 0, 10)).rejects.toMatchObject({ code: 'not_found' });
      await expect(all(store.stream(at('absent')))).rejects.toMatchObject({ code: 'not_found' });
      expect(await store.sizeOf(at('absent'))).toBeNull();
    });

    it.each(['', '/etc/passwd', '../x', 'a/../b', 'a//b', 'a/.hidden', 'a b', 'ä', 'a\0b', 'x'.repeat(1_000)])(
      'refuses the key %j (O3)',
      async (key) => {
        const refused = { code: 'bad_request' };
        await expect(store.put(key, [])).rejects.toMatchObject(refused);
        await expect(store.read(key, 0, 1)).rejects.toMatchObject(refused);
        await expect(store.sizeOf(key)).rejects.toMatchObject(refused);
        await expect(store.remove([key])).rejects.toMatchObject(refused);
        await expect(keys(store, key)).rejects.toMatchObject(refused);
      },
    );
  });
}
