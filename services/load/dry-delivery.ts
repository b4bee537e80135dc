import { DOOR_LIMITS } from '../../actors/ingress/door.ts';
import { Ingress } from '../../actors/ingress/ingress.ts';
import type { Source } from '../../actors/ingress/intake.ts';
import type { Kinds } from '../../actors/ingress/route.ts';
import { MemoryLog } from '../../actors/log/memory.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Settings } from '../../config/settings.ts';
import type { Block } from './block.ts';
import { JSON_DEPTH } from './layout.ts';
import type { Delivery } from './loading.ts';
import type { Delivered } from './totals.ts';

/** Nowhere: the door looks at every reading, and nothing is stored or kept. For trying out a map. */
export class DryDelivery implements Delivery {
  readonly way = 'nowhere (--dry-run): the door looks, nothing is stored';
  readonly waiting = null;
  readonly #kind: Kind;
  readonly #source: Source = { protocol: 'file', address: 'dry-run', speaker: null };
  readonly #ingress: Ingress;

  constructor(settings: Settings, kinds: Kinds, kind: Kind) {
    this.#kind = kind;
    this.#ingress = new Ingress({
      log: new MemoryLog({ clock: systemClock, maxReadings: 0 }),
      kinds,
      clock: systemClock,
      shards: settings.shards,
      door: { ...DOOR_LIMITS, maxSkewMs: settings.maxSkewMs },
      json: { maxBytes: settings.maxPayloadBytes, maxDepth: JSON_DEPTH },
      deadLetters: { add: () => undefined },
      batchPrefix: 'dry',
    });
  }

  deliver(block: Block): Promise<Delivered> {
    const delivered: Delivered = { accepted: 0, duplicates: 0, backfilled: 0, rejected: [] };
    if (block.messages === null ? block.readings.length === 0 : block.messages.length === 0)
      return Promise.resolve(delivered);
    const { items } =
      block.messages === null
        ? this.#ingress.readDecoded(this.#source, this.#kind, block.readings)
        : this.#ingress.read(this.#source, block.messages, { ndjson: true });
    for (const { refusal } of items) {
      if (refusal === null) delivered.accepted++;
      else delivered.rejected.push({ code: refusal.code, message: refusal.message });
    }
    return Promise.resolve(delivered);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
