import { readFileSync } from 'node:fs';

/**
 * Loaded before a node (`--import`): its wall clock is ahead or behind by as many milliseconds as the file named by
 * CHAOS_CLOCK_FILE says, read anew every 100 ms. The monotonic clock goes on as it is, as with a real clock that is set.
 */
const file = process.env.CHAOS_CLOCK_FILE as string;
let offsetMs = 0;

function look(): void {
  try {
    offsetMs = Number(readFileSync(file, 'utf8')) || 0;
  } catch {
    offsetMs = 0;
  }
}

const RealDate = Date;
const realNow = Date.now.bind(Date);

class JumpingDate extends RealDate {
  constructor(...args: unknown[]) {
    // biome-ignore lint/suspicious/noExplicitAny: all forms of the constructor are passed on
    super(...((args.length === 0 ? [realNow() + offsetMs] : args) as [any]));
  }

  static override now(): number {
    return realNow() + offsetMs;
  }
}

look();
setInterval(look, 100).unref();
globalThis.Date = JumpingDate as DateConstructor;
