import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

/** The project's own files, as the architecture tests look at them. Paths are relative to the root, with slashes. */
export const ROOT = join(import.meta.dirname, '..', '..');

const SKIPPED = new Set(['node_modules', 'data', 'coverage']);

export function filesUnder(folder: string, matches: (path: string) => boolean = () => true): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
    if (SKIPPED.has(entry.name) || (entry.name.startsWith('.') && entry.name !== '.ci')) continue;
    const path = relative(ROOT, join(ROOT, folder, entry.name)).replaceAll('\\', '/');
    if (entry.isDirectory()) found.push(...filesUnder(path, matches));
    else if (matches(path)) found.push(path);
  }
  return found.sort();
}

export function textOf(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

export interface Import {
  /** Path of a file of ours, `node:…`, or the name of a package. */
  target: string;
  /** `import type`: gone at run time. */
  typeOnly: boolean;
}

const STATEMENT = /^[ \t]*(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?['"]([^'"]+)['"]/gm;
const DYNAMIC = /\b(?:import|require|resolve)\(\s*['"]([^'"]+)['"]\s*\)/g;

/** What a file imports: statements, `import()` and `require()` of a literal. */
export function importsOf(path: string): Import[] {
  const text = textOf(path);
  const found: Import[] = [];
  for (const [, type, specifier] of text.matchAll(STATEMENT)) {
    found.push({ target: targetOf(path, specifier), typeOnly: type !== undefined });
  }
  for (const [, specifier] of text.matchAll(DYNAMIC)) {
    found.push({ target: targetOf(path, specifier), typeOnly: false });
  }
  return found;
}

function targetOf(path: string, specifier: string): string {
  if (specifier.startsWith('.')) {
    return relative(ROOT, join(ROOT, path, '..', specifier)).replaceAll('\\', '/');
  }
  if (specifier.startsWith('node:')) return specifier;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}
