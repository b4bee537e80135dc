import type { Cut } from '../store/port.ts';
import type { Activation } from './activation.ts';
import type { Host } from './host.ts';
import { Part } from './part.ts';
import type { HostedShard } from './shard.ts';

/** The cut under construction: a part for each shard that has something to write. */
export class Building {
  parts = new Map<HostedShard, Part>();
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  part(shard: HostedShard): Part {
    let part = this.parts.get(shard);
    if (!part) {
      part = new Part(shard);
      this.parts.set(shard, part);
    }
    return part;
  }

  /** The shard of an activation, or null when what it holds is worth nothing. */
  shardOf(activation: Activation): HostedShard | null {
    const shard = this.#host.custody.ownerOf(activation);
    return shard === null || shard.poisoned ? null : shard;
  }

  /** Readings and entries in it. */
  get size(): number {
    let size = 0;
    for (const part of this.parts.values()) size += part.size;
    return size;
  }
}

export function cutOf(node: string, parts: readonly Part[]): Cut {
  const cut: Cut = {
    node,
    shards: [],
    readings: [],
    entries: [],
    events: [],
    snapshots: [],
    summaries: [],
    deadLetters: [],
    cursors: [],
  };
  for (const part of parts) {
    cut.shards.push(part.fence());
    for (const row of part.readings) cut.readings.push(row);
    for (const row of part.entries) cut.entries.push(row);
    for (const row of part.events) cut.events.push(row);
    for (const row of part.snapshots) cut.snapshots.push(row);
    for (const row of part.summaries) cut.summaries.push(row);
    for (const row of part.deadLetters) cut.deadLetters.push(row);
    for (const row of part.cursors) cut.cursors.push(row);
  }
  return cut;
}
