import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder of its own on the machine's disk; `remove` ends it. */
export function temporaryFolder(name: string): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `twinmesh-bench-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
