import { readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';

/** Rows that are kept take this much at most; then the longest unused go. */
const MOST_BYTES = 2 * 2 ** 30;

/** The rows have been used: they go last. */
export function touched(folder: string): void {
  utimesSync(folder, new Date(), new Date());
}

/** Removes what was used longest ago until the rest is within the limit. What another process takes away meanwhile is no fault. */
export function makeRoom(root: string, mostBytes = MOST_BYTES): void {
  const kept = foldersIn(root).sort((a, b) => b.usedMs - a.usedMs);
  let bytes = 0;
  for (const folder of kept) {
    bytes += folder.bytes;
    if (bytes > mostBytes) rmSync(folder.path, { recursive: true, force: true });
  }
}

function foldersIn(root: string): { path: string; usedMs: number; bytes: number }[] {
  const folders = [];
  for (const name of readdirSync(root)) {
    const path = join(root, name);
    try {
      const bytes = readdirSync(path).reduce((sum, file) => sum + statSync(join(path, file)).size, 0);
      folders.push({ path, usedMs: statSync(path).mtimeMs, bytes });
    } catch {
      // gone meanwhile
    }
  }
  return folders;
}
