import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ObjectFolder } from '../../mixins/object-folder.ts';
import { ObjectS3 } from '../../mixins/object-s3.ts';
import { findS3 } from '../servers/s3.ts';
import { objectStoreConformance } from './object-store.ts';

const folder = mkdtempSync(join(tmpdir(), 'tm-objects-'));
const server = await findS3();
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await server?.stop();
});

objectStoreConformance('objects in a folder', () => new ObjectFolder(join(folder, 'made')), randomUUID());
if (server) objectStoreConformance('objects in S3', () => new ObjectS3(server.access), randomUUID());

describe('object storage that cannot be used', () => {
  it('says so for a folder that is a file', async () => {
    const store = new ObjectFolder(join(folder, 'made'));
    await store.put('file', [Buffer.from('x')]);
    const inside = new ObjectFolder(join(folder, 'made', 'file'));
    await expect(inside.put('x', [])).rejects.toMatchObject({ code: 'unavailable' });
  });

  it.skipIf(server === null)(
    'says so for a wrong secret and a bucket that is not there, without the secret',
    async () => {
      const { access } = server!;
      for (const wrong of [{ secretAccessKey: 'not-this-one' }, { bucket: 'no-such-bucket' }]) {
        const store = new ObjectS3({ ...access, ...wrong });
        const error = await store.put('x', [Buffer.from('x')]).catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: 'unavailable' });
        expect(String((error as Error).message)).not.toContain(access.secretAccessKey);
        store.close();
      }
    },
  );
});
