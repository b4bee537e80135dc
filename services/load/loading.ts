import { eventTime } from '../../actors/ingress/event-time.ts';
import type { Block, Blocks } from './block.ts';
import { BEGINNING } from './block.ts';
import type { Checkpoint, Progressed } from './checkpoint.ts';
import { addBlock, type Delivered, noTotals, type Totals } from './totals.ts';

/** Where blocks go. Blocks of one delivery are stored in the order of the calls, as far as one twin sees it. */
export interface Delivery {
  /** For people: how the readings get in. */
  readonly way: string;
  /** Why nothing moves, while nothing does. */
  readonly waiting: string | null;
  /** Resolves when all of the block, of the file of this title, is stored or refused. */
  deliver(block: Block, title: string): Promise<Delivered>;
  close(): Promise<void>;
}

export interface LoadingOptions {
  delivery: Delivery;
  checkpoint: Checkpoint | null;
  /** Ends it after the blocks on their way. */
  signal: AbortSignal;
  /** Readings before this time lie beyond the retention of history; null: nothing is ever dropped. */
  keptSinceMs: number | null;
  onBlock?(totals: Totals, delivered: Delivered): void;
}

/** Blocks on their way at once: enough that reading, folding and committing overlap. */
const WINDOW = 8;

export interface Loaded {
  totals: Totals;
  /** False when it was told to stop. */
  whole: boolean;
  resumedAtLine: number;
}

/**
 * Loads a file from its checkpoint on, a window of blocks at a time. Confirmed in order, so that the checkpoint never
 * passes what is stored. Where the file is damaged, everything before is stored first; then it throws.
 */
export async function loadBlocks(blocks: Blocks, options: LoadingOptions): Promise<Loaded> {
  const { delivery, checkpoint, signal } = options;
  const state: Progressed = checkpoint?.read() ?? { position: BEGINNING, totals: noTotals() };
  const resumedAtLine = state.position.lines;
  const onTheWay: { block: Block; delivered: Promise<Delivered>; old: number }[] = [];
  const confirm = async () => {
    const { block, delivered, old } = onTheWay[0];
    const result = await delivered;
    onTheWay.shift();
    addBlock(state.totals, block, result);
    state.totals.beyondRetention += old;
    state.position = block.end;
    checkpoint?.save(state);
    options.onBlock?.(state.totals, result);
  };
  let whole = true;
  try {
    for await (const block of blocks.from(state.position)) {
      const delivered = delivery.deliver(block, blocks.title);
      // Its fault is met when its turn comes.
      delivered.catch(() => undefined);
      onTheWay.push({ block, delivered, old: olderThan(block, options.keptSinceMs) });
      if (onTheWay.length >= WINDOW) await confirm();
      if (signal.aborted) {
        whole = false;
        break;
      }
    }
  } finally {
    try {
      while (onTheWay.length > 0) await confirm();
    } finally {
      checkpoint?.save(state, true);
    }
  }
  if (whole) checkpoint?.clear();
  return { totals: state.totals, whole, resumedAtLine };
}

function olderThan(block: Block, sinceMs: number | null): number {
  if (sinceMs === null) return 0;
  let older = 0;
  for (const { at } of block.readings) if (msOf(at) < sinceMs) older++;
  return older;
}

/** Event time in ms, NaN where it is none. */
export function msOf(at: unknown): number {
  if (typeof at === 'number' && at >= 1e11) return at;
  try {
    return eventTime(at, Number.POSITIVE_INFINITY, 0);
  } catch {
    return Number.NaN;
  }
}
