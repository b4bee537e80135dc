import { DOOR_LIMITS } from '../actors/ingress/door.ts';
import { Ingress } from '../actors/ingress/ingress.ts';
import { MemoryLog } from '../actors/log/memory.ts';
import { systemClock } from '../actors/protocol/clock.ts';
import type { Kind } from '../actors/protocol/kind.ts';
import type { Predictor } from '../actors/protocol/prediction.ts';
import { Host } from '../actors/runtime/host.ts';
import { loadKinds, registryOf } from '../actors/runtime/kind-registry.ts';
import { PostgresStore } from '../actors/store/postgres.ts';
import type { Sql } from '../actors/store/sql.ts';
import { loadSettings } from '../config/settings.ts';

/** Ingress, memory log and a host that owns every shard, in this process, as `npm start` has them; a refusal ends the bench. */
export interface HotPath {
  ingress: Ingress;
  log: MemoryLog;
  host: Host;
}

export const SHARDS = 256;

/** Models that twins ask meanwhile; without it they ask none. */
export interface Models {
  predictor: Predictor;
  predictionsPerSecond: number;
  /** Kinds in place of those of the same name. */
  kinds: readonly Kind[];
}

/** `maxBytes` of one payload. */
export async function openHotPath(sql: Sql, maxBytes: number, models?: Models): Promise<HotPath> {
  const loaded = await loadKinds();
  const replaced = models?.kinds ?? [];
  const kinds = registryOf(loaded.all().map((kind) => replaced.find((other) => other.kind === kind.kind) ?? kind));
  const store = new PostgresStore(sql);
  await store.open(kinds.all(), SHARDS);
  const log = new MemoryLog({ clock: systemClock, maxReadings: 200_000 });
  const { cutMaxEntries, passivateAfterMs, maxResidentMb, ttlMs } = loadSettings({});
  const host = new Host({
    node: 'bench',
    kinds,
    store,
    log,
    clock: systemClock,
    random: Math.random,
    shards: SHARDS,
    ttlMs,
    cutMaxEntries,
    passivateAfterMs,
    maxResidentBytes: maxResidentMb * 2 ** 20,
    ...(models && { predictor: models.predictor, predictionsPerSecond: models.predictionsPerSecond }),
  });
  await host.start();
  while (host.status().shards.owned < SHARDS) await new Promise((resolve) => setTimeout(resolve, 5));
  const ingress = new Ingress({
    log,
    kinds,
    clock: systemClock,
    shards: SHARDS,
    door: { ...DOOR_LIMITS, maxSkewMs: 10 * 365 * 86_400_000 },
    json: { maxBytes, maxDepth: 16 },
    deadLetters: {
      add(letter) {
        throw new Error(`refused: ${letter.code} ${letter.message}`);
      },
    },
    batchPrefix: 'bench',
  });
  return { ingress, log, host };
}
