import { describe, expect, it } from 'vitest';
import { ERRORS } from '../../actors/protocol/errors.ts';
import { filesUnder, textOf } from './tree.ts';

describe('docs/ERRORS.md', () => {
  const rows = textOf('docs/ERRORS.md').match(/^\| `[a-z_]+` \|.*$/gm) ?? [];

  it('lists every code with status, retry and remedy, as the code does', () => {
    const wanted = Object.entries(ERRORS).map(
      ([code, { status, retryable, remedy }]) =>
        `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${remedy} |`,
    );
    expect(rows).toEqual(wanted);
  });

  it('knows every code that the program throws', () => {
    const faults = filesUnder('.', (path) => /^(services|mixins|actors)\//.test(path) && path.endsWith('.ts')).flatMap(
      (path) =>
        [...textOf(path).matchAll(/new TwinmeshError\(\s*'([a-z_]+)'/g)]
          .map((match) => match[1])
          .filter((code) => !(code in ERRORS))
          .map((code) => `${path} throws ${code}`),
    );
    expect(faults).toEqual([]);
  });
});
