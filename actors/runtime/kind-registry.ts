import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import { defineTwin, type Kind, type KindDefinition, type WireFormat } from '../protocol/kind.ts';

/**
 * The kinds of this process: what they are called and which topics and paths their devices speak on.
 *
 * Owns: finding kind files, checking them, matching topics. Does not own: what arrives on a topic (ingest), nor the
 * generic topics of any kind (`twins/<kind>/<id>/telemetry`), which need no kind to be recognised.
 *
 * Invariants:
 *  K1  A kind's name is unique; a file that breaks this or any rule of `defineTwin` stops the start with `bad_kind`
 *      and its path.
 *  K2  Each format decodes its own example into an id and metrics of its kind, and takes an empty object without
 *      throwing: a faulty decoder is found at the start, not by the first device.
 *  K3  The order of kinds, and of the candidates of a topic, depends on names alone, never on the file system.
 */
export interface KindRegistry {
  /** Throws `unknown_kind`. */
  get(kind: string): Kind;
  has(kind: string): boolean;
  /** In order of name. */
  all(): readonly Kind[];
  /** Formats spoken on an MQTT topic; `topicId` is the level that stood for `{id}`. Empty when none is. */
  byMqttTopic(topic: string): readonly FormatCandidate[];
  byKafkaTopic(topic: string): readonly FormatCandidate[];
  byHttpPath(path: string): readonly FormatCandidate[];
  /** MQTT topic filters (`+` for `{id}`) to subscribe to. */
  mqttFilters(): readonly string[];
  kafkaTopics(): readonly string[];
  httpPaths(): readonly string[];
}

export interface FormatCandidate {
  kind: Kind;
  format: WireFormat;
  topicId: string | undefined;
}

interface Pattern {
  levels: string[];
  idLevel: number;
  kind: Kind;
  format: WireFormat;
}

/** Where the kinds of the project lie. */
export const KINDS_FOLDER = fileURLToPath(new URL('../kinds/', import.meta.url));

/**
 * Loads every kind file (`.ts`, `.mts`, `.js`, `.mjs`, default export a `defineTwin(…)` or its plain definition) of
 * actors/kinds and of the given folders. Throws `bad_kind` naming the file.
 */
export async function loadKinds(folders: readonly string[] = []): Promise<KindRegistry> {
  const kinds: Kind[] = [];
  const from = new Map<string, string>();
  for (const folder of [KINDS_FOLDER, ...folders]) {
    for (const file of await kindFiles(folder)) {
      const kind = await loadKind(file);
      const other = from.get(kind.kind);
      if (other !== undefined) {
        throw new TwinmeshError('bad_kind', `${file}: kind "${kind.kind}" is defined by ${other} already.`, { file });
      }
      from.set(kind.kind, file);
      kinds.push(kind);
    }
  }
  return registryOf(kinds);
}

async function kindFiles(folder: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw new TwinmeshError('bad_kind', `Kinds folder ${folder} cannot be read: ${messageOf(error)}.`, { folder });
  }
  return names
    .filter((name) => /\.m?[jt]s$/.test(name) && !/\.(d|test)\.m?ts$/.test(name))
    .sort()
    .map((name) => join(folder, name));
}

async function loadKind(file: string): Promise<Kind> {
  try {
    const module: { default?: unknown } = await import(pathToFileURL(file).href);
    const definition = module.default;
    if (typeof definition !== 'object' || definition === null) {
      throw new Error('the default export must be defineTwin({ … })');
    }
    const kind = defineTwin(definition as KindDefinition);
    for (const format of kind.formats) tryFormat(kind, format);
    return kind;
  } catch (error) {
    // Also what a file of another checkout throws, whose error class is not ours.
    throw new TwinmeshError('bad_kind', `${placeOf(file, error)}: ${messageOf(error)}`, { file }, { cause: error });
  }
}

/** `file:line` of what the file itself threw, or of a fault of syntax in it or in what it imports; else the file. */
function placeOf(file: string, error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  if (error instanceof Error && error.name === 'SyntaxError') {
    const [place] = stack.split('\n', 1);
    if (/:\d+$/.test(place)) return place.replace(/^file:\/\//, '');
  }
  const line = stack.split(`${pathToFileURL(file).href}:`)[1]?.match(/^\d+/);
  return line ? `${file}:${line[0]}` : file;
}

function tryFormat(kind: Kind, format: WireFormat): void {
  const empty = format.decode({}, undefined);
  if (typeof empty?.values !== 'object' || empty.values === null) {
    throw new Error(`format "${format.name}": decode of an empty object must answer { id, at, values }`);
  }
  const raw = format.decode(format.example, undefined);
  const metrics = Object.keys(raw.values);
  const strangers = kind.openMetrics ? [] : metrics.filter((name) => !(name in kind.metrics));
  if (raw.id === undefined || metrics.length === 0 || strangers.length > 0) {
    throw new Error(`format "${format.name}": its example must decode to an id and metrics of the kind`);
  }
  for (const filter of format.mqtt ?? []) {
    const levels = filter.split('/');
    const ids = levels.filter((level) => level === '{id}').length;
    const wild = levels.some((level) => level === '' || (level !== '{id}' && /[+#{}\s]/.test(level)));
    if (ids > 1 || wild || ids === levels.length) {
      throw new Error(`format "${format.name}": topic "${filter}" must be plain levels, one of them {id} at most`);
    }
  }
}

/** A registry of kinds that are there already. */
export function registryOf(kinds: readonly Kind[]): KindRegistry {
  const sorted = Object.freeze([...kinds].sort((a, b) => (a.kind < b.kind ? -1 : 1)));
  const byName = new Map(sorted.map((kind) => [kind.kind, kind]));
  const exact = new Map<string, FormatCandidate[]>();
  const patterns: Pattern[] = [];
  const kafka = new Map<string, FormatCandidate[]>();
  const http = new Map<string, FormatCandidate[]>();
  const filters = new Set<string>();

  for (const kind of sorted) {
    for (const format of kind.formats) {
      const candidate: FormatCandidate = { kind, format, topicId: undefined };
      for (const filter of format.mqtt ?? []) {
        const levels = filter.split('/');
        const idLevel = levels.indexOf('{id}');
        filters.add(filter.replace('{id}', '+'));
        if (idLevel < 0) add(exact, filter, candidate);
        else patterns.push({ levels, idLevel, kind, format });
      }
      for (const topic of format.kafka ?? []) add(kafka, topic, candidate);
      for (const path of format.http ?? []) add(http, path, candidate);
    }
  }

  return {
    get(kind) {
      const found = byName.get(kind);
      if (!found) {
        throw new TwinmeshError(
          'unknown_kind',
          `There is no kind "${kind}"; there are ${[...byName.keys()].join(', ')}.`,
        );
      }
      return found;
    },
    has: (kind) => byName.has(kind),
    all: () => sorted,
    byMqttTopic(topic) {
      const found = exact.get(topic);
      const levels = topic.split('/');
      const matched: FormatCandidate[] = found ? [...found] : [];
      for (const pattern of patterns) {
        if (!matches(pattern, levels)) continue;
        matched.push({ kind: pattern.kind, format: pattern.format, topicId: levels[pattern.idLevel] });
      }
      return matched;
    },
    byKafkaTopic: (topic) => kafka.get(topic) ?? [],
    byHttpPath: (path) => http.get(path) ?? [],
    mqttFilters: () => [...filters],
    kafkaTopics: () => [...kafka.keys()],
    httpPaths: () => [...http.keys()],
  };
}

function matches(pattern: Pattern, levels: readonly string[]): boolean {
  if (pattern.levels.length !== levels.length || levels[pattern.idLevel] === '') return false;
  for (let i = 0; i < levels.length; i++) {
    if (i !== pattern.idLevel && pattern.levels[i] !== levels[i]) return false;
  }
  return true;
}

function add(map: Map<string, FormatCandidate[]>, key: string, candidate: FormatCandidate): void {
  const list = map.get(key);
  if (list) list.push(candidate);
  else map.set(key, [candidate]);
}
