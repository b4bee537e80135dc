import type { RawReading } from '../../actors/protocol/kind.ts';
import { msOf } from './loading.ts';
import type { DataMap } from './map.ts';

/** What people write beside a reading that is nothing special, and any zero. */
const NOT_LABELLED = new Set(['', '-', 'false', 'no', 'none', 'normal', 'ok', 'nan', 'null']);
/** No file and no map can name an attribute so: the door lets none through. */
const LABEL = '#label';

/**
 * The map, with the labels of a column beside each reading; `takeLabel` takes them off again, before a twin hears them.
 * Optional: without the column nothing is labelled; else a file that lacks it is refused.
 */
export function withLabels(map: DataMap, column: string, optional = false): DataMap {
  return { ...map, attributes: { ...map.attributes, [LABEL]: { column, optional } } };
}

/** Whether the reading is labelled, and the reading as its device would have said it. */
export function takeLabel(raw: RawReading): { raw: RawReading; isLabelled: boolean } {
  const { attributes, ...bare } = raw;
  // whatever else stands there is the door's to judge
  if (typeof attributes !== 'object' || attributes === null || !(LABEL in attributes))
    return { raw, isLabelled: false };
  const { [LABEL]: label, ...others } = attributes as Record<string, unknown>;
  const text = String(label ?? '')
    .trim()
    .toLowerCase();
  const isLabelled = !NOT_LABELLED.has(text) && Number(text) !== 0;
  return { raw: Object.keys(others).length === 0 ? bare : { ...bare, attributes: others }, isLabelled };
}

/** Which readings of a file people have labelled, by asset and event time. */
export class Labels {
  readonly #byId = new Map<string, Set<number>>();
  count = 0;

  /** Notes the label and answers the reading without it. */
  note(labelled: RawReading): RawReading {
    const { raw, isLabelled } = takeLabel(labelled);
    if (!isLabelled) return raw;
    const id = String(raw.id);
    const times = this.#byId.get(id) ?? new Set();
    this.#byId.set(id, times.add(msOf(raw.at)));
    this.count++;
    return raw;
  }

  has(id: string, at: number): boolean {
    return this.#byId.get(id)?.has(at) ?? false;
  }
}
