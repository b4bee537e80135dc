import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { makeRoom, touched } from '../../../models/training/row-cache.ts';

it('the rows used longest ago go first', () => {
  const root = mkdtempSync(join(tmpdir(), 'twinmesh-rows-'));
  for (const [i, name] of ['oldest', 'old', 'new'].entries()) {
    mkdirSync(join(root, name));
    writeFileSync(join(root, name, 'features.npy'), Buffer.alloc(100));
    utimesSync(join(root, name), new Date(1_000_000 * (i + 1)), new Date(1_000_000 * (i + 1)));
  }
  makeRoom(root, 300);
  expect(readdirSync(root)).toHaveLength(3);
  touched(join(root, 'oldest'));
  makeRoom(root, 250);
  expect(readdirSync(root).sort()).toEqual(['new', 'oldest']);
  rmSync(root, { recursive: true });
});
