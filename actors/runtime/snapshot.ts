import { TwinmeshError } from '../protocol/errors.ts';
import type { Kind } from '../protocol/kind.ts';
import type { TwinId } from '../protocol/twin-id.ts';
import { RECENT_SLOTS, Recent } from '../rolling/recent.ts';
import { carryOver } from './carry.ts';
import { packIdentities, unpackIdentities } from './identities.ts';
import { layoutOf } from './layout.ts';
import { type Aside, metricsOf, type TwinState } from './state.ts';
import type { IngestCounts } from './view.ts';

/**
 * Snapshots: the state of a twin as bytes, in versioned shapes. Shape 2:
 *
 *     u32 length of JSON | JSON { aside, counts, fingerprint } | u32 numbers | bitmap of non-zero words | those words | identities
 *
 * Shape 1, which is still read, had the identities as they lie in memory; now they are packed (identities.ts).
 *
 * Most panes of most twins are empty, so zero words are left out. Words are copied as bits: what is restored is what was
 * stored, bit for bit. Words are little-endian, as on every machine that Node runs on here.
 *
 * A change of the layout (metrics, windows, rules, predictions) comes with a new kind version; the fingerprint finds out when it did
 * not, and lets a newer version carry over what still has the same meaning (carry.ts).
 */
export const SNAPSHOT_SHAPE = 2;

interface Head {
  aside: Aside;
  counts: IngestCounts;
  fingerprint: Fingerprint;
}

/** What the slots of a snapshot mean. */
export interface Fingerprint {
  rules: string[];
  metrics: string[];
  windows: [name: string, spanMs: number, panes: number][];
  /** Absent where there are none, and in snapshots from before there were any. */
  predictions?: string[];
}

export interface Restored {
  state: TwinState;
  counts: IngestCounts;
  /** True when the snapshot was folded by another layout and had to be carried over. */
  carried: boolean;
}

export function fingerprintOf(state: TwinState): Fingerprint {
  return {
    rules: state.kind.rules.map((rule) => rule.name),
    metrics: [...metricsOf(state)],
    windows: state.layout.windows.map((w) => [w.name, w.spanMs, w.panes]),
    ...(state.kind.predictionNames.length > 0 ? { predictions: [...state.kind.predictionNames] } : {}),
  };
}

/** What the slots of kinds with closed metrics mean is the same for all their twins: its JSON is made once. */
const fingerprints = new WeakMap<Kind, string>();

function fingerprintJson(state: TwinState): string {
  if (state.kind.openMetrics) return JSON.stringify(fingerprintOf(state));
  let json = fingerprints.get(state.kind);
  if (json === undefined) {
    json = JSON.stringify(fingerprintOf(state));
    fingerprints.set(state.kind, json);
  }
  return json;
}

/** Non-zero words of the twin under work: one for all, because an encoding is synchronous. */
let kept = new Uint32Array(0);

export function encodeSnapshot(state: TwinState, counts: IngestCounts): Uint8Array {
  const json = Buffer.from(
    `{"aside":${JSON.stringify(state.aside)},"counts":${JSON.stringify(counts)},"fingerprint":${fingerprintJson(state)}}`,
    'utf8',
  );
  // two 32-bit halves a word: no BigInt, no NaN made canonical on the way
  const halves = new Uint32Array(state.n.buffer, state.n.byteOffset, state.n.length * 2);
  const length = state.n.length;
  const recent = packIdentities(state.recent.toArray());
  const bitmap = new Uint8Array(Math.ceil(length / 8));
  if (kept.length < length * 2) kept = new Uint32Array(length * 2);
  let k = 0;
  for (let i = 0; i < length; i++) {
    const low = halves[2 * i];
    const high = halves[2 * i + 1];
    if ((low | high) === 0) continue;
    bitmap[i >> 3] |= 1 << (i & 7);
    kept[k] = low;
    kept[k + 1] = high;
    k += 2;
  }
  const bytes = Buffer.allocUnsafe(4 + json.length + 4 + bitmap.length + k * 4 + recent.length);
  let p = bytes.writeUInt32LE(json.length, 0);
  bytes.set(json, p);
  p = bytes.writeUInt32LE(length, p + json.length);
  bytes.set(bitmap, p);
  p += bitmap.length;
  bytes.set(new Uint8Array(kept.buffer, 0, k * 4), p);
  bytes.set(recent, p + k * 4);
  return bytes;
}

/** Restores a twin. Throws newer_snapshot for a shape or kind version that this code does not know yet. */
export function decodeSnapshot(
  kind: Kind,
  twinId: TwinId,
  shape: number,
  kindVersion: number,
  state: Uint8Array,
): Restored {
  if (shape > SNAPSHOT_SHAPE || kindVersion > kind.version) {
    throw new TwinmeshError(
      'newer_snapshot',
      `${twinId} has a snapshot of shape ${shape}, kind version ${kindVersion}; this node knows ${SNAPSHOT_SHAPE} and ${kind.version}.`,
    );
  }
  const bytes = Buffer.from(state.buffer, state.byteOffset, state.byteLength);
  const jsonLength = bytes.readUInt32LE(0);
  const head = JSON.parse(bytes.toString('utf8', 4, 4 + jsonLength)) as Head;
  let p = 4 + jsonLength;
  const length = bytes.readUInt32LE(p);
  p += 4;
  const n = new Float64Array(length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let w = p + Math.ceil(length / 8);
  for (let i = 0; i < length; i++) {
    if ((bytes[p + (i >> 3)] & (1 << (i & 7))) === 0) continue;
    n[i] = view.getFloat64(w, true);
    w += 8;
  }
  const recent = identitiesOf(twinId, shape, bytes.subarray(w));
  const restored: TwinState = {
    twinId,
    kind,
    layout: layoutOf(kind),
    n,
    recent: new Recent(recent),
    aside: head.aside,
    rules: null,
  };
  const now = fingerprintOf(restored);
  if (JSON.stringify(now) === JSON.stringify(head.fingerprint))
    return { state: restored, counts: head.counts, carried: false };
  return { state: carryOver(restored, head.fingerprint), counts: head.counts, carried: true };
}

function identitiesOf(twinId: TwinId, shape: number, bytes: Buffer): Float64Array {
  try {
    if (shape >= 2) return unpackIdentities(bytes);
    if (bytes.length % (8 * RECENT_SLOTS) !== 0) throw new RangeError('The identities end early.');
    const recent = new Float64Array(bytes.length / 8);
    bytes.copy(Buffer.from(recent.buffer));
    return recent;
  } catch (error) {
    throw new TwinmeshError('internal', `The snapshot of ${twinId} is damaged.`, undefined, { cause: error });
  }
}
