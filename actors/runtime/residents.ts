import type { Activation } from './activation.ts';

/**
 * The twins of a shard that are in memory, by id; and by kind and id apart, so that a reading finds its twin without a string
 * being made for it.
 *
 * Invariant: both say the same at any time.
 */
export class Residents extends Map<string, Activation> {
  readonly #byKind = new Map<string, Map<string, Activation>>();
  /** How many have left so far: what was found before is still there while this has not moved. */
  departures = 0;

  of(kind: string, id: string): Activation | undefined {
    return this.#byKind.get(kind)?.get(id);
  }

  override set(twinId: string, activation: Activation): this {
    const colon = twinId.indexOf(':');
    const kind = twinId.slice(0, colon);
    let ofKind = this.#byKind.get(kind);
    if (ofKind === undefined) {
      ofKind = new Map();
      this.#byKind.set(kind, ofKind);
    }
    ofKind.set(twinId.slice(colon + 1), activation);
    return super.set(twinId, activation);
  }

  override delete(twinId: string): boolean {
    const colon = twinId.indexOf(':');
    this.#byKind.get(twinId.slice(0, colon))?.delete(twinId.slice(colon + 1));
    this.departures++;
    return super.delete(twinId);
  }

  override clear(): void {
    this.#byKind.clear();
    this.departures++;
    super.clear();
  }
}
