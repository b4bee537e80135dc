import { parseArgs } from 'node:util';
import { eventTime } from '../../actors/ingress/event-time.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { type KindRegistry, loadKinds } from '../../actors/runtime/kind-registry.ts';
import { type DataMap, loadMap } from './map.ts';

/** What `load` and `replay` have in common on their command lines. */
export interface FileOptions {
  kind: Kind;
  kinds: KindRegistry;
  map: DataMap | null;
  startMs: number | null;
  files: string[];
}

type OptionTypes = Record<string, { type: 'string' | 'boolean'; short?: string }>;
export type OptionValues = Record<string, string | boolean | undefined>;

const SHARED: OptionTypes = {
  kind: { type: 'string' },
  map: { type: 'string' },
  start: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
};

/** Throws bad_request for options that do not exist. */
export function parsedArguments(args: readonly string[], own: OptionTypes): { values: OptionValues; files: string[] } {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { ...SHARED, ...own },
      allowPositionals: true,
      strict: true,
    });
    return { values: values as OptionValues, files: positionals };
  } catch (error) {
    throw new TwinmeshError('bad_request', `${messageOf(error).split('.')[0]}; --help shows what there is.`);
  }
}

/** Throws bad_request, unknown_kind, bad_kind. */
export async function fileOptions(
  values: OptionValues,
  files: string[],
  kindsDir: string | null,
): Promise<FileOptions> {
  if (files.length === 0) throw new TwinmeshError('bad_request', 'Name at least one file; --help shows how.');
  const map = typeof values.map === 'string' ? loadMap(values.map) : null;
  const kinds = await loadKinds(kindsDir === null ? [] : [kindsDir]);
  const name = values.kind ?? (map?.kinds.length === 1 ? map.kinds[0] : undefined);
  if (typeof name !== 'string') {
    throw new TwinmeshError(
      'bad_request',
      `Say what the readings are of: --kind ${kinds
        .all()
        .map((k) => k.kind)
        .join(' | ')}.`,
    );
  }
  const kind = kinds.get(name);
  if (map !== null) mustSuit(map, kind);
  return { kind, kinds, map, startMs: startMs(values.start), files };
}

function mustSuit(map: DataMap, kind: Kind): void {
  if (!map.kinds.includes(kind.kind)) {
    throw new TwinmeshError(
      'bad_request',
      `Map ${map.name} makes readings of ${map.kinds.join(', ')}, not of ${kind.kind}.`,
    );
  }
  if (kind.openMetrics) return;
  const strangers = Object.keys(map.metrics).filter((metric) => !Object.hasOwn(kind.metrics, metric));
  if (strangers.length > 0) {
    const known = kind.metricNames.join(', ');
    throw new TwinmeshError(
      'bad_request',
      `Map ${map.name} names ${strangers.join(', ')}; a ${kind.kind} measures ${known}.`,
    );
  }
}

function startMs(start: unknown): number | null {
  if (typeof start !== 'string') return null;
  try {
    return eventTime(/^\d+$/.test(start) ? Number(start) : start, Number.POSITIVE_INFINITY, 0);
  } catch (error) {
    throw new TwinmeshError('bad_request', `--start: ${messageOf(error)}`);
  }
}
