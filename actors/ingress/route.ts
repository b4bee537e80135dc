import { TwinmeshError } from '../protocol/errors.ts';
import type { Kind, RawReading, WireFormat } from '../protocol/kind.ts';
import { ID_PATTERN, KIND_PATTERN, parseTwinId, twinIdOf } from '../protocol/twin-id.ts';

/** Where a message came in: what it is told by before anybody reads it. */
export type Protocol = 'mqtt' | 'http' | 'kafka' | 'nats' | 'file';

/** What ingest needs of the kinds (KindRegistry has it). */
export interface Kinds {
  /** Throws `unknown_kind`. */
  get(kind: string): Kind;
  has(kind: string): boolean;
  all(): readonly Kind[];
  byMqttTopic(topic: string): readonly Candidate[];
  byKafkaTopic(topic: string): readonly Candidate[];
  byHttpPath(path: string): readonly Candidate[];
}

export interface Candidate {
  kind: Kind;
  format: WireFormat;
  topicId: string | undefined;
}

/** What an address (topic, path) says about the messages that come in on it. */
export type Route =
  /** One of these formats, the first that accepts the message. */
  | { type: 'formats'; candidates: readonly Candidate[] }
  /** The generic format, or a format of the kind; of any kind where `kind` is not given. */
  | { type: 'any'; kind: Kind | undefined; id: string | undefined }
  /** `twins/<kind>/<id>/status`: `online` or `offline`, for last wills. */
  | { type: 'status'; kind: Kind; id: string };

export interface Decoded {
  kind: Kind;
  raw: RawReading;
}

export const TELEMETRY_PATH = '/api/v1/telemetry';
const ROUTES_KEPT = 20_000;

/** Finds routes and keeps them: a fleet speaks on the same topics all the time. */
export class Routes {
  readonly #kinds: Kinds;
  readonly #known = new Map<string, Route>();

  constructor(kinds: Kinds) {
    this.#kinds = kinds;
  }

  /** Throws `unknown_topic`, `unknown_kind`, `bad_id`. */
  of(protocol: Protocol, address: string): Route {
    const key = `${protocol}:${address}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const route = this.#find(protocol, address);
    // Only what exists is kept, so that garbage cannot push the real topics out one by one; a full map starts anew.
    if (this.#known.size >= ROUTES_KEPT) this.#known.clear();
    this.#known.set(key, route);
    return route;
  }

  #find(protocol: Protocol, address: string): Route {
    if (protocol === 'http' || protocol === 'file') {
      const candidates = this.#kinds.byHttpPath(address);
      if (candidates.length > 0) return { type: 'formats', candidates };
      if (address === TELEMETRY_PATH || protocol === 'file') return { type: 'any', kind: undefined, id: undefined };
      throw unknownTopic(address);
    }
    const candidates = protocol === 'kafka' ? this.#kinds.byKafkaTopic(address) : this.#kinds.byMqttTopic(address);
    if (candidates.length > 0) {
      for (const { topicId } of candidates) if (topicId !== undefined) checkId(topicId);
      return { type: 'formats', candidates };
    }
    const levels = protocol === 'nats' ? natsLevels(address) : address.split('/');
    const [root, kind, id, leaf] = levels;
    if (root !== 'twins' || levels.length !== 4 || (leaf !== 'telemetry' && leaf !== 'status'))
      throw unknownTopic(address);
    if (!KIND_PATTERN.test(kind)) throw new TwinmeshError('unknown_kind', 'The topic names no kind.');
    checkId(id);
    const found = this.#kinds.get(kind);
    return leaf === 'status' ? { type: 'status', kind: found, id } : { type: 'any', kind: found, id };
  }

  /**
   * Which kind a message is of, and its parts; nothing in it has been checked but that its address does not contradict it.
   * Throws wrong_type, missing_field, bad_id, unknown_kind, not_yourself.
   */
  decode(route: Route, message: unknown): Decoded {
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw new TwinmeshError('wrong_type', 'A message is a JSON object.');
    }
    const fields = message as Record<string, unknown>;
    if (route.type === 'formats') return fromFormats(route.candidates, fields);
    if (route.type === 'status') throw new TwinmeshError('wrong_type', 'A status is the text online or offline.');
    if (fields.twinId !== undefined || (typeof fields.values === 'object' && fields.values !== null)) {
      return this.#generic(route.kind, route.id, fields);
    }
    return this.#ownShape(route.kind, route.id, fields);
  }

  /** `{ twinId, at, values, id?, seq?, sensor?, unit?, attributes? }` */
  #generic(kind: Kind | undefined, id: string | undefined, fields: Record<string, unknown>): Decoded {
    if (fields.twinId !== undefined) {
      const named = parseTwinId(fields.twinId as string);
      if (kind !== undefined && id !== undefined) sameAsset(kind, id, named.kind, named.id);
      kind ??= this.#kinds.get(named.kind);
      id = named.id;
    }
    if (kind === undefined) throw new TwinmeshError('missing_field', 'twinId is missing: kind:id.');
    let ignored = 0;
    for (const name in fields) if (!GENERIC_FIELDS.has(name)) ignored++;
    return {
      kind,
      raw: {
        id,
        at: fields.at,
        values: fields.values as Record<string, unknown>,
        key: fields.id,
        seq: fields.seq,
        sensor: fields.sensor,
        unit: fields.unit,
        attributes: fields.attributes as Record<string, unknown>,
        ignored,
      },
    };
  }

  /** A message in a kind's own format: it must fit exactly one kind, by an id and at least one metric of that kind. */
  #ownShape(kind: Kind | undefined, id: string | undefined, fields: Record<string, unknown>): Decoded {
    let found: Decoded | undefined;
    for (const each of kind === undefined ? this.#kinds.all() : [kind]) {
      for (const format of each.formats) {
        if (format.accepts !== undefined && !format.accepts(fields)) continue;
        const raw = decodeWith(format, fields, id);
        if (raw.id === undefined || raw.id === null || !hasMetric(each, raw)) continue;
        if (found !== undefined && found.kind !== each) {
          const message = `The message fits ${found.kind.kind} and ${each.kind}; add twinId and values.`;
          throw new TwinmeshError('missing_field', message);
        }
        found ??= { kind: each, raw };
      }
    }
    if (found === undefined) {
      const what = kind === undefined ? 'twinId and values are missing' : 'values is missing';
      throw new TwinmeshError(
        'missing_field',
        `${what}, and the message is in no format of ${kind?.kind ?? 'any kind'}.`,
      );
    }
    if (id !== undefined && kind !== undefined) sameAsset(kind, id, kind.kind, found.raw.id);
    return found;
  }
}

const GENERIC_FIELDS = new Set(['twinId', 'at', 'values', 'id', 'seq', 'sensor', 'unit', 'attributes']);

function fromFormats(candidates: readonly Candidate[], fields: Record<string, unknown>): Decoded {
  for (const { kind, format, topicId } of candidates) {
    if (format.accepts !== undefined && !format.accepts(fields)) continue;
    const raw = decodeWith(format, fields, topicId);
    if (topicId !== undefined) sameAsset(kind, topicId, kind.kind, raw.id);
    return { kind, raw };
  }
  const names = candidates.map(({ format }) => format.name).join(', ');
  throw new TwinmeshError('missing_field', `The message is in none of the formats spoken here: ${names}.`);
}

/** A decoder must not throw; one that does has met a message that its author did not think of. */
function decodeWith(format: WireFormat, fields: Record<string, unknown>, topicId: string | undefined): RawReading {
  try {
    return format.decode(fields, topicId);
  } catch (error) {
    throw new TwinmeshError('wrong_type', `Format ${format.name} cannot read the message.`, undefined, {
      cause: error,
    });
  }
}

function hasMetric(kind: Kind, { values }: RawReading): boolean {
  if (typeof values !== 'object' || values === null) return false;
  for (const name in values) if (kind.openMetrics || Object.hasOwn(kind.metrics, name)) return true;
  return false;
}

/** A message that came in under one asset's address and says that it is another's is believed in neither. */
function sameAsset(kind: Kind, id: string, namedKind: string, namedId: unknown): void {
  if (kind.kind === namedKind && (namedId === id || (typeof namedId === 'number' && String(namedId) === id))) return;
  if (namedId === undefined || namedId === null) return;
  throw new TwinmeshError(
    'not_yourself',
    `The message came in for ${twinIdOf(kind.kind, id)} and names another asset.`,
  );
}

function checkId(id: string): void {
  if (!ID_PATTERN.test(id)) {
    throw new TwinmeshError('bad_id', 'The id in the topic is not 1 to 128 characters of A-Z a-z 0-9 . _ -');
  }
}

/** `twins.in.<kind>.<id>` as the levels of the MQTT topic. Ids may hold dots, so that all after the kind is the id. */
function natsLevels(subject: string): string[] {
  const [root, way, kind, ...id] = subject.split('.');
  return root === 'twins' && way === 'in' ? ['twins', kind, id.join('.'), 'telemetry'] : [];
}

function unknownTopic(address: string): TwinmeshError {
  return new TwinmeshError('unknown_topic', `Nothing listens on ${JSON.stringify(address.slice(0, 200))}.`);
}

/** A decoded reading as a message in the generic format. Numbers that JSON lacks stand as they are, to be refused by name. */
export function generic(kind: Kind, raw: RawReading): string {
  const values = Object.entries(raw.values).map(([name, value]) => {
    const written = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'null');
    return `${JSON.stringify(name)}:${written}`;
  });
  const { id, at, key, seq, sensor, unit, attributes } = raw;
  // null would mean that it is not there.
  const told = (value: unknown) => (typeof value === 'number' && !Number.isFinite(value) ? String(value) : value);
  const rest = JSON.stringify({ at: told(at), id: told(key), seq: told(seq), sensor, unit, attributes });
  const comma = rest.length > 2 ? ',' : '';
  return `{"twinId":${JSON.stringify(`${kind.kind}:${id}`)},"values":{${values.join(',')}}${comma}${rest.slice(1)}`;
}
