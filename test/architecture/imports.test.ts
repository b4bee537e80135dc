import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesUnder, type Import, importsOf, ROOT } from './tree.ts';

/** Who may import whom. A rule is a folder (or file) and what it may reach; everything else there is a fault. */
const isOurs = (target: string) => !target.startsWith('node:') && /\.(ts|json)$/.test(target);
const under =
  (...folders: string[]) =>
  (target: string) =>
    folders.some((folder) => target === folder || target.startsWith(`${folder}/`));

interface Rule {
  name: string;
  files: string;
  /** Whether the import is allowed. */
  allows(imported: Import): boolean;
}

const pure =
  (...folders: string[]) =>
  (imported: Import) =>
    under(...folders)(imported.target);

const RULES: Rule[] = [
  {
    name: 'config/ imports nothing of ours',
    files: 'config',
    allows: ({ target }) => !isOurs(target) || under('config')(target),
  },
  { name: 'actors/protocol is a leaf', files: 'actors/protocol', allows: pure('actors/protocol') },
  { name: 'actors/rolling is pure', files: 'actors/rolling', allows: pure('actors/rolling', 'actors/protocol') },
  {
    name: 'actors/kinds is pure',
    files: 'actors/kinds',
    allows: pure('actors/kinds', 'actors/rolling', 'actors/protocol'),
  },
  {
    name: 'actors/ knows neither services nor mixins nor settings',
    files: 'actors',
    allows: ({ target }) => !isOurs(target) || under('actors')(target),
  },
  {
    name: 'actors/runtime and actors/placement know only the ports of log and store',
    files: 'actors/runtime',
    allows: ({ target, typeOnly }) =>
      !under('actors/log', 'actors/store')(target) ||
      ['actors/log/port.ts', 'actors/store/port.ts'].includes(target) ||
      (typeOnly && target === 'actors/store/sql.ts'),
  },
  {
    name: 'actors/placement knows only the port of the store',
    files: 'actors/placement',
    allows: ({ target }) => !under('actors/log', 'actors/store')(target) || target === 'actors/store/port.ts',
  },
  {
    name: 'mixins/ do not import services, except the parts they open',
    files: 'mixins',
    allows: ({ target }) => !target.endsWith('.service.ts'),
  },
];

/** Packages and the only places that may import them at run time. */
const PACKAGES: Record<string, string[]> = {
  moleculer: ['services', 'mixins', 'moleculer.config.ts'],
  'moleculer-web': ['services', 'mixins'],
  pg: ['actors/store', 'bench/rivals'],
  '@electric-sql/pglite': ['actors/store'],
  aedes: ['mixins'],
  mqtt: ['mixins', 'bench'],
  'mqtt-packet': ['mixins'],
  ws: ['mixins'],
  nodemailer: ['services/notifiers'],
  nats: ['actors/log', 'mixins', 'bench'],
  'prom-client': ['services/metrics.ts', 'services/metrics'],
  pino: ['services/logger.ts'],
  'onnxruntime-node': ['models/onnx.ts'],
  cockatiel: ['services'],
  '@opentelemetry/api': ['mixins/tracing.ts'],
  '@opentelemetry/sdk-trace': ['mixins/tracing.ts'],
  '@opentelemetry/exporter-trace-otlp-http': ['mixins/tracing.ts'],
};

const product = filesUnder('.', (path) => path.endsWith('.ts')).filter((path) => !under('test')(path));

describe('imports', () => {
  it('are found', () => {
    expect(product.length).toBeGreaterThan(20);
    expect(importsOf('config/settings.ts').map((i) => i.target)).toContain('config/catalogue.ts');
    expect(importsOf('services/logger.ts')).toContainEqual({ target: 'pino', typeOnly: false });
    expect(importsOf('services/logger.ts')).toContainEqual({ target: 'moleculer', typeOnly: true });
  });

  it.each(RULES)('$name', ({ files, allows }) => {
    const faults = product
      .filter((path) => under(files)(path))
      .flatMap((path) =>
        importsOf(path)
          .filter((i) => !allows(i))
          .map((i) => `${path} imports ${i.target}`),
      );
    expect(faults).toEqual([]);
  });

  it.each(Object.entries(PACKAGES))('%s is imported only in its place', (name, places) => {
    const faults = product.filter(
      (path) => !under(...places)(path) && importsOf(path).some((i) => i.target === name && !i.typeOnly),
    );
    expect(faults).toEqual([]);
  });

  it('never lead from one service to another', () => {
    const faults = product.flatMap((path) =>
      importsOf(path)
        .filter((i) => i.target.endsWith('.service.ts'))
        .map((i) => `${path} imports ${i.target}`),
    );
    expect(faults).toEqual([]);
  });

  it('reach tests from nowhere', () => {
    const faults = product
      .filter((path) => !under('bench')(path) && path !== 'vitest.config.ts')
      .flatMap((path) =>
        importsOf(path)
          .filter((i) => under('test')(i.target))
          .map((i) => `${path} imports ${i.target}`),
      );
    expect(faults).toEqual([]);
  });

  it('go to files that exist, with their ending', () => {
    const faults = product.flatMap((path) =>
      importsOf(path)
        .filter((i) => isOurs(i.target) && !existsSync(join(ROOT, i.target)))
        .map((i) => `${path} imports ${i.target}`),
    );
    expect(faults).toEqual([]);
  });

  it('go in no circle at run time that leaves a folder', () => {
    const edges = new Map(
      product.map((path) => [
        path,
        importsOf(path)
          .filter((i) => !i.typeOnly && isOurs(i.target))
          .map((i) => i.target),
      ]),
    );
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (path: string, trail: string[]) => {
      const at = trail.indexOf(path);
      if (at >= 0 && new Set(trail.slice(at).map(dirname)).size > 1)
        circles.push([...trail.slice(at), path].join(' → '));
      if (at >= 0 || done.has(path)) return;
      for (const next of edges.get(path) ?? []) visit(next, [...trail, path]);
      done.add(path);
    };
    for (const path of product) visit(path, []);
    expect(circles).toEqual([]);
  });
});
