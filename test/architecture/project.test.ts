import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesUnder, ROOT, textOf } from './tree.ts';

const manifest = JSON.parse(textOf('package.json'));
const markdown = filesUnder('.', (path) => path.endsWith('.md'));
const text = filesUnder('.', (path) => /\.(ts|md|json|yml|yaml|html|css|js|sh)$|^\.ci\//.test(path)).filter(
  (path) => !['package-lock.json', 'LICENSE'].includes(path) && !path.startsWith('test/fixtures/'),
);

/** Every command line in the fenced shell blocks of a document. */
function commandsOf(path: string): string[] {
  return [...textOf(path).matchAll(/^```(?:sh|bash|console)\n([\s\S]*?)^```/gm)].flatMap(([, block]) =>
    block
      .replaceAll('\\\n', ' ')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#')),
  );
}

describe('package', () => {
  it('runs the tests on the pinned Node', () => {
    expect(`v${manifest.dependencies.node}`).toBe(process.version);
  });

  it('pins every dependency', () => {
    for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
      expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
    }
  });

  it('has scripts whose files exist', () => {
    const scripts = Object.entries(manifest.scripts as Record<string, string>);
    const missing = scripts.flatMap(([name, line]) =>
      [...line.matchAll(/(?:^|\s)([\w./-]+\.(?:ts|mjs|js))(?=\s|$)/g)]
        .map((match) => match[1])
        .filter((file) => !existsSync(join(ROOT, file)))
        .map((file) => `${name}: ${file}`),
    );
    expect(missing).toEqual([]);
    for (const name of [
      'start',
      'dev',
      'test',
      'types',
      'lint',
      'verify',
      'key',
      'device',
      'load',
      'replay',
      'simulate',
    ]) {
      expect(manifest.scripts).toHaveProperty(name);
    }
  });

  it('is checked by an executable .ci/run that runs the suite with servers required', () => {
    expect(statSync(join(ROOT, '.ci/run')).mode & 0o111).not.toBe(0);
    expect(textOf('.ci/run')).toMatch(
      /set -euo pipefail[\s\S]*npm ci[\s\S]*npm run types[\s\S]*npm run lint[\s\S]*REQUIRE_SERVERS=1 npm test/,
    );
  });
});

describe('documents', () => {
  it.each(markdown)('%s names only scripts that exist', (path) => {
    const builtin = new Set(['ci', 'install', 'test', 'start']);
    const faults = commandsOf(path).flatMap((line) =>
      [...line.matchAll(/\bnpm (?:run (?:-s )?)?([a-z][\w:-]*)/g)]
        .map((match) => match[1])
        .filter((script) => !(script in manifest.scripts) && !builtin.has(script)),
    );
    expect(faults).toEqual([]);
  });

  it.each(markdown)('%s links only to files that exist', (path) => {
    const faults = [...textOf(path).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)]
      .map((match) => match[1])
      .filter((target) => !existsSync(join(ROOT, path, '..', target)));
    expect(faults).toEqual([]);
  });

  it.each(markdown)('%s names only paths of the project that exist', (path) => {
    const rooms = /`((?:actors|config|services|mixins|docs|test|bench|models|graph|rag|web|deploy)\/[\w./-]+\.\w+)`/g;
    const faults = [...textOf(path).matchAll(rooms)]
      .map((match) => match[1])
      .filter((target) => !existsSync(join(ROOT, target)));
    // A kind of one's own and the next decision are examples of files to be written.
    expect(faults.filter((target) => !/turbine|NNNN/.test(target))).toEqual([]);
  });
});

describe('files', () => {
  it('are nouns of the glossary, not drawers', () => {
    const drawer = /(^|[/.-])(utils?|common|misc|shared|lib|stuff)([/.-]|$)/;
    expect(filesUnder('.', (path) => drawer.test(path) && path.endsWith('.ts'))).toEqual([]);
  });

  it('stay under 400 lines', () => {
    const long = filesUnder('.', (path) => path.endsWith('.ts') && !path.startsWith('test/'))
      .map((path) => ({ path, lines: textOf(path).trimEnd().split('\n').length }))
      .filter(({ lines }) => lines > 400);
    expect(long).toEqual([]);
  });

  it('speak of the project alone', () => {
    // Put together here, so that this file passes its own test.
    const words = [
      // Lower case, and not as an option: Node's HTTP client has a class and an option of that name.
      new RegExp(`(?<!user[-_ ]|http.)\\b${'ag'}${'ents?'}\\b(?!:)`),
      new RegExp(`\\b${'hel'}${'pers?'}\\b`, 'i'),
      new RegExp(`\\b${'iss'}${'ue'} #?\\d+\\b`, 'i'),
      new RegExp(`/${'wo'}${'rk'}/`),
    ];
    const faults = text.flatMap((path) =>
      textOf(path)
        .split('\n')
        .flatMap((line, i) => words.filter((word) => word.test(line)).map((word) => `${path}:${i + 1} ${word.source}`)),
    );
    expect(faults).toEqual([]);
  });

  it('hold no secret by default', () => {
    const faults = text
      .filter((path) => !path.startsWith('test/') && !path.endsWith('.md'))
      .flatMap((path) =>
        [
          ...textOf(path).matchAll(
            /(?:PASSWORD|SECRET|TOKEN)\w*\s*[:=]\s*['"]?(?!\$\{|null|(?:hidden\()?text\(|hidden\(\n|YOUR_)[A-Za-z0-9]{4,}/g,
          ),
        ].map((m) => `${path}: ${m[0]}`),
      );
    expect(faults).toEqual([]);
  });
});
