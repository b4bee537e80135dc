import type { StreamCopy } from '../../actors/log/jetstream-copy.ts';
import type { CommittedPosition } from '../../actors/log/jetstream-stream.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { LogFile } from './log-file.ts';

/**
 * What the log holds above the positions of a database snapshot: with it the backup has everything that was acknowledged
 * by the time the snapshot was taken.
 *
 * Hosts go on committing and throw away what they have committed, also above the snapshot. They throw away the oldest
 * messages of a shard first and keep the one at its position, so:
 *
 *  1 While the message at the snapshot's position still stands there after the copy, nothing above it was thrown away
 *    before it was read. That is looked at, shard by shard; where it does not, the backup is refused.
 *  2 A shard whose position did not name a message of the log before the snapshot either (the log went back, or another
 *    stream took its place) is copied whole; its first message stands for the position.
 */
const AT_ONCE = 16;
const ID_FORM = /^[\x21-\x7e]{1,200}$/;

/** Shards whose position stands in no message of the log, looked at before the snapshot is taken. */
export async function doubtfulShards(
  stream: StreamCopy,
  positions: readonly CommittedPosition[],
): Promise<Map<number, number>> {
  const doubtful = new Map<number, number>();
  await each(positions, async (row) => {
    if (row.positionId === null || !(await standsThere(stream, row))) doubtful.set(row.shard, row.position);
  });
  return doubtful;
}

/** Answers how many messages were left out because they have no id that a message of ours has. Throws `unavailable`. */
export async function coverLog(
  stream: StreamCopy,
  snapshot: readonly CommittedPosition[],
  doubtful: ReadonlyMap<number, number>,
  file: LogFile,
): Promise<{ skipped: number }> {
  const until = (await stream.state())?.newest ?? 0;
  let skipped = 0;
  const moved: number[] = [];
  await each(snapshot, async (row) => {
    const { shard, position } = row;
    const whole = doubtful.get(shard) === position;
    let first: { position: number; id: string } | null = null;
    for (let after = whole ? 0 : position; after < until; ) {
      const message = await stream.next(shard, after);
      if (message === null || message.position > until) break;
      after = message.position;
      first ??= message;
      if (ID_FORM.test(message.id)) await file.write(message);
      else skipped++;
    }
    const there = !whole
      ? await standsThere(stream, row)
      : first === null || (await stream.at(shard, first.position)) !== null;
    if (!there) moved.push(shard);
  });
  if (moved.length > 0)
    throw new TwinmeshError(
      'unavailable',
      `The log of ${moved.length} shards was trimmed while it was copied. Take the backup again; if that repeats, raise LOG_RESERVE_MESSAGES of the hosts.`,
    );
  return { skipped };
}

async function standsThere(stream: StreamCopy, { shard, position, positionId, positionAt }: CommittedPosition) {
  const mark = await stream.at(shard, position);
  return mark !== null && mark.id === positionId && mark.appendedAt === positionAt;
}

async function each<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const item of left) await work(item);
    }),
  );
}
