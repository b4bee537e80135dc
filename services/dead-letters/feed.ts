import { type Clock, systemClock, type TimerHandle } from '../../actors/protocol/clock.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { SseStream } from '../gateway/sse.ts';
import { type Letter, type LetterFilter, lettersAfter, newestLetter } from './letters.ts';

/**
 * Dead letters as they come, over SSE; the id of an event is that of its letter, and `Last-Event-ID` goes on after it.
 *
 * Ids are handed out before their transaction commits, so that a smaller one can appear after a greater one. The feed
 * therefore looks again at the last `OVERLAP` ids and remembers which of them it has sent.
 */
const POLL_MS = 1000;
const PAGE = 500;
const OVERLAP = 1000;

export interface FeedOptions {
  clock?: Clock;
  /** Calls back when there may be something new, sooner than the next look. The return value ends it. */
  onNews(listener: () => void): () => void;
}

export async function deadLetterFeed(
  sql: Sql,
  filter: LetterFilter,
  lastEventId: string | undefined,
  options: FeedOptions,
): Promise<SseStream> {
  const clock = options.clock ?? systemClock;
  const newest = await newestLetter(sql);
  const resumed = lastEventId !== undefined && /^\d{1,15}$/.test(lastEventId) ? Number(lastEventId) : null;
  let last = resumed === null ? newest : Math.min(resumed, newest);
  /** Everything up to here counts as sent or as not asked for. */
  const from = last;
  const sent = new Set<number>();
  let looking = false;
  let again = false;
  let closed = false;
  let timer: TimerHandle | undefined;

  const look = async (): Promise<void> => {
    if (looking || closed) {
      again = true;
      return;
    }
    looking = true;
    try {
      do {
        again = false;
        let after = Math.max(from, last - OVERLAP);
        for (let page: Letter[] = []; stream.writable && !closed; after = page[page.length - 1].id) {
          page = await lettersAfter(sql, after, PAGE);
          for (const letter of page) send(letter);
          if (page.length < PAGE) break;
        }
      } while (again && stream.writable && !closed);
    } catch {
      // The store is away; the next look asks again.
    } finally {
      looking = false;
    }
  };

  const send = (letter: Letter): void => {
    if (sent.has(letter.id)) return;
    sent.add(letter.id);
    last = Math.max(last, letter.id);
    if (sent.size > 4 * OVERLAP) for (const id of sent) if (id < last - 2 * OVERLAP) sent.delete(id);
    if (matches(letter, filter)) stream.send({ event: 'dead-letter', id: String(letter.id), data: letter });
  };

  const lookLater = (): void => {
    timer = clock.after(POLL_MS, () => {
      void look();
      if (!closed) lookLater();
    });
  };

  const leave = options.onNews(() => void look());
  const stream = new SseStream({
    clock,
    onWritable: () => void look(),
    onClose: () => {
      closed = true;
      timer?.cancel();
      leave();
    },
    onHeartbeat: () => String(last),
  });
  stream.send({ event: 'hello', id: String(last), data: { resumed: resumed !== null } });
  lookLater();
  void look();
  return stream;
}

function matches(letter: Letter, { code, source, twinId }: LetterFilter): boolean {
  if (code !== undefined && letter.code !== code) return false;
  if (twinId !== undefined && letter.twinId !== twinId) return false;
  return source === undefined || letter.source === source || letter.source.startsWith(`${source}:`);
}
