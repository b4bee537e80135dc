import { describe, expect, it } from 'vitest';
import { CATALOGUE, UNBUILT } from '../../config/catalogue.ts';
import { describe as described } from '../../config/help.ts';
import type { Setting } from '../../config/setting.ts';
import { camelCase } from '../../config/settings.ts';
import { filesUnder, textOf } from './tree.ts';

const names = Object.keys(CATALOGUE);
const settings = Object.entries(CATALOGUE) as [string, Setting<unknown>][];

describe('settings', () => {
  it('are each used by the program', () => {
    const code = filesUnder('.', (path) => /^(services|mixins|config\/settings)/.test(path) && path.endsWith('.ts'))
      .map(textOf)
      .join('\n');
    const unused = names.filter((name) => !new RegExp(`\\.${camelCase(name)}\\b`).test(code));
    expect(unused).toEqual([]);
  });

  it('are the table in docs/operations.md', () => {
    const rows = textOf('docs/operations.md').match(/^\| `[A-Z0-9_]+` \|.*$/gm) ?? [];
    const wanted = settings.map(
      ([name, setting]) => `| \`${name}\` | ${described(setting).replaceAll('|', '\\|')} | ${setting.consequence} |`,
    );
    expect(rows).toEqual(wanted);
  });

  it('have a consequence that is a sentence', () => {
    for (const [name, setting] of settings) expect(setting.consequence, name).toMatch(/^\S.{10,}\.$/);
  });

  it('are the only variables of the environment that the program reads', () => {
    // The test runner sets the first; the second is the key that a command line publishes with, out of its arguments;
    // programs are looked for on the third; the rest is what PostgreSQL's programs are given, not what we read.
    const foreign = new Set(['REQUIRE_SERVERS', 'TWINMESH_KEY', 'PATH', 'PGSSLMODE', 'PGSSLROOTCERT']);
    const known = new Set([...names, ...Object.keys(UNBUILT), ...foreign]);
    const faults = filesUnder(
      '.',
      (path) => /^(services|mixins|config|actors)\//.test(path) && path.endsWith('.ts'),
    ).flatMap((path) =>
      [...textOf(path).matchAll(/\benv\.([A-Z][A-Z0-9_]+)|\benv\[['"]([A-Z0-9_]+)['"]\]/g)]
        .map((match) => match[1] ?? match[2])
        .filter((name) => !known.has(name))
        .map((name) => `${path} reads ${name}`),
    );
    expect(faults).toEqual([]);
  });
});
