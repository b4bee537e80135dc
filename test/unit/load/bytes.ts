import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RawReading } from '../../../actors/protocol/kind.ts';
import { loadKinds } from '../../../actors/runtime/kind-registry.ts';
import { BEGINNING, type Block, type Blocks, type Position } from '../../../services/load/block.ts';
import { openBlocks, type ReadPlan } from '../../../services/load/layout.ts';
import type { DataMap } from '../../../services/load/map.ts';

export const kinds = await loadKinds();

/** A folder that `clean` removes. */
export function folder(): { path: string; write(name: string, content: string | Uint8Array): string; clean(): void } {
  const path = mkdtempSync(join(tmpdir(), 'twinmesh-load-'));
  return {
    path,
    write(name, content) {
      const file = join(path, name);
      writeFileSync(file, content);
      return file;
    },
    clean: () => rmSync(path, { recursive: true, force: true }),
  };
}

export function planOf(kind: string, map: DataMap | null = null, startMs: number | null = null): ReadPlan {
  return { kind: kinds.get(kind), map, startMs, messageBytes: 1_048_576, decode: null };
}

/** Everything a plan makes of files, and the fault that ended it. */
export async function readAll(
  paths: string[],
  plan: ReadPlan,
  from: Position = BEGINNING,
): Promise<{ readings: RawReading[]; skipped: Record<string, number>; lines: number; fault: string | null }> {
  return drain((await openBlocks(paths, plan))[0], from);
}

export async function drain(blocks: Blocks, from: Position = BEGINNING) {
  const found = {
    readings: [] as RawReading[],
    skipped: {} as Record<string, number>,
    lines: 0,
    blocks: [] as Block[],
  };
  let fault: string | null = null;
  try {
    for await (const block of blocks.from(from)) {
      found.blocks.push(block);
      found.readings.push(...block.readings);
      found.lines += block.lines;
      for (const [why, n] of Object.entries(block.skipped)) found.skipped[why] = (found.skipped[why] ?? 0) + n;
    }
  } catch (error) {
    fault = (error as Error).message;
  }
  return { ...found, fault };
}
