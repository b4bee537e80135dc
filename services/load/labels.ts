import type { RawReading } from '../../actors/protocol/kind.ts';
import { msOf } from './loading.ts';
import type { DataMap } from './map.ts';

/** What people write beside a reading that is nothing special, and any zero. */
const NOT_LABELLED = new Set(['', '-', 'false', 'no', 'none', 'normal', 'ok', 'nan', 'null']);
/** No file and no map can name an attribute so: the door lets none through. */
const LABEL = '#label';
const MAX_TEXTS = 5;

/**
 * The map, with the labels of a column beside each reading; `takeLabel` takes them off again, before a twin hears them.
 * Optional: without the column nothing is labelled; else a file that lacks it is refused.
 */
export function withLabels(map: DataMap, column: string, optional = false): DataMap {
  return { ...map, attributes: { ...map.attributes, [LABEL]: { column, optional } } };
}

/** The reading as its device would have said it, what stands in the column of labels, and whether that is an anomaly. */
export function takeLabel(raw: RawReading): { raw: RawReading; label?: unknown; isLabelled: boolean } {
  const { attributes, ...bare } = raw;
  // whatever else stands there is the door's to judge
  if (typeof attributes !== 'object' || attributes === null || !(LABEL in attributes))
    return { raw, isLabelled: false };
  const { [LABEL]: label, ...others } = attributes as Record<string, unknown>;
  const text = String(label ?? '')
    .trim()
    .toLowerCase();
  const isLabelled = !NOT_LABELLED.has(text) && Number(text) !== 0;
  return { raw: Object.keys(others).length === 0 ? bare : { ...bare, attributes: others }, label, isLabelled };
}

/** Which readings of a file people have labelled, by asset and event time. */
export class Labels {
  /** The column they stand in; null where none was named. */
  readonly column: string | null;
  /** Readings that had something in the column, and what stood there where that was taken as an anomaly: the first few. */
  seen = 0;
  readonly texts = new Set<string>();
  readonly #byId = new Map<string, Set<number>>();

  constructor(column: string | null = null) {
    this.column = column;
  }

  /** Notes the label and answers the reading without it. */
  note(labelled: RawReading): RawReading {
    const { raw, label, isLabelled } = takeLabel(labelled);
    if (label !== undefined) this.seen++;
    if (!isLabelled) return raw;
    if (this.texts.size < MAX_TEXTS) this.texts.add(String(label).slice(0, 40));
    const id = String(raw.id);
    const times = this.#byId.get(id) ?? new Set();
    this.#byId.set(id, times.add(msOf(raw.at)));
    return raw;
  }

  has(id: string, at: number): boolean {
    return this.#byId.get(id)?.has(at) ?? false;
  }
}
