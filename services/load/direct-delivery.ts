import { randomUUID } from 'node:crypto';
import { DeadLetters } from '../../actors/ingress/dead-letters.ts';
import { DOOR_LIMITS } from '../../actors/ingress/door.ts';
import { Ingress } from '../../actors/ingress/ingress.ts';
import type { Intake, Source } from '../../actors/ingress/intake.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { livingNodes } from '../living-nodes.ts';
import type { Parts } from '../parts.ts';
import type { Block } from './block.ts';
import { JSON_DEPTH } from './layout.ts';
import type { Delivery } from './loading.ts';
import type { Delivered } from './totals.ts';

/**
 * Into twins that live in this very process, for when no server runs: the same door, log, host and checkpoint that a
 * server has, without a broker and without JSON on the way.
 */
export class DirectDelivery implements Delivery {
  readonly way = 'directly into the database (no server is running)';
  readonly #parts: Parts;
  readonly #kind: Kind;
  readonly #ingress: Ingress;
  readonly #deadLetters: DeadLetters;

  constructor(parts: Parts, kind: Kind) {
    const { settings, kinds, log, clock, sql } = parts;
    this.#parts = parts;
    this.#kind = kind;
    this.#deadLetters = new DeadLetters({ sql, clock });
    this.#ingress = new Ingress({
      log,
      kinds,
      clock,
      shards: settings.shards,
      door: { ...DOOR_LIMITS, maxSkewMs: settings.maxSkewMs },
      json: { maxBytes: settings.maxPayloadBytes, maxDepth: JSON_DEPTH },
      deadLetters: this.#deadLetters,
      batchPrefix: `load-${randomUUID()}`,
    });
  }

  get waiting(): string | null {
    return this.#ingress.paused?.reason ?? this.#parts.host.status().stale?.reason ?? null;
  }

  async deliver(block: Block, title: string): Promise<Delivered> {
    if (block.messages === null && block.readings.length === 0) return NOTHING;
    if (block.messages?.length === 0) return NOTHING;
    const source: Source = { protocol: 'file', address: title, speaker: null };
    const intake =
      block.messages === null
        ? this.#ingress.readDecoded(source, this.#kind, block.readings)
        : this.#ingress.read(source, block.messages, { ndjson: true });
    await new Promise<void>((resolve, reject) => {
      void this.#ingress.store([intake], { wait: 'commit', patient: true }, (_, error) =>
        error ? reject(error) : resolve(),
      );
    });
    return deliveredOf(intake);
  }

  async close(): Promise<void> {
    this.#ingress.close();
    await this.#deadLetters.close();
  }
}

const NOTHING: Delivered = { accepted: 0, duplicates: 0, backfilled: 0, rejected: [] };

function deliveredOf(intake: Intake): Delivered {
  const delivered: Delivered = { accepted: 0, duplicates: 0, backfilled: 0, rejected: [] };
  for (const { refusal, outcome } of intake.items) {
    if (refusal !== null) delivered.rejected.push({ code: refusal.code, message: refusal.message });
    else if (outcome === 'duplicate') delivered.duplicates++;
    else {
      delivered.accepted++;
      if (outcome === 'backfill') delivered.backfilled = (delivered.backfilled ?? 0) + 1;
    }
  }
  return delivered;
}

/**
 * Whether the database is ours alone. The folder of the embedded one is locked by whoever uses it; a PostgreSQL may be
 * served from another machine, whose shards this process cannot write. Throws conflict.
 */
export async function mustBeAlone(sql: Sql, ttlMs: number): Promise<void> {
  const alive = await livingNodes(sql, ttlMs);
  if (alive.length === 0) return;
  const message = `The database is served by ${alive.join(', ')}; load there, where its DATA_DIR is.`;
  throw new TwinmeshError('conflict', message);
}
