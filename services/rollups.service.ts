import type { TimerHandle } from '../actors/protocol/clock.ts';
import { DAY_MS, floorTo, HOUR_MS } from '../actors/store/queries/span.ts';
import { type Round, retain, retainEnded, retainJournal, rollUp } from '../actors/store/queries/upkeep.ts';
import { isElected } from '../mixins/elected.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';

/**
 * Keeps rollups up to date and, where HISTORY_RETENTION_DAYS is set, history short, in the background; and what is on record of
 * ended work as short as WORK_RETENTION_DAYS says.
 *
 *  1. The first by name of the nodes that can does it. Should two think so, or the owner change half way, the number that each step
 *     takes lets only one of them write (rollup.ts U2).
 *  2. A round that fails is logged and tried again at the next; nothing else waits for it.
 *  3. A stop ends the round behind the step it is in.
 */
const FIRST_AFTER_MS = 5_000;
const EVERY_MS = 60_000;
const RETAIN_EVERY_MS = HOUR_MS;

interface Rollups {
  timer: TimerHandle | undefined;
  stopping: AbortController;
  running: Promise<Round> | undefined;
  retainedAt: number;
  endedAt: number;
  round(): Promise<Round>;
  work(): Promise<Round>;
  dropEnded(): Promise<Round>;
  next(afterMs: number): void;
}

const rollups: PartsSchema<Rollups> = {
  name: 'rollups',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    /** One round now, or the one that is under way. Not over HTTP. */
    run: {
      visibility: 'public',
      timeout: 0,
      handler() {
        return this.round();
      },
    },
  },

  methods: {
    round() {
      this.running ??= this.work().finally(() => {
        this.running = undefined;
      });
      return this.running;
    },

    async work() {
      const { sql, clock, kinds, settings } = this.parts;
      const { signal } = this.stopping;
      const done: Round = { complete: false, steps: 0, rows: 0 };
      if (!isElected(this)) return done;
      const add = (round: Round) => {
        done.steps += round.steps;
        done.rows += round.rows;
        return round.complete;
      };
      for (const kind of kinds.all()) {
        if (!add(await rollUp(sql, clock, kind, { latenessMs: settings.latenessMs, signal }))) return done;
      }
      const keepMs = settings.historyRetentionDays * DAY_MS;
      const archive =
        settings.archiveAfterDays === 0
          ? null
          : {
              expiredBeforeMs:
                settings.archiveKeepDays === 0
                  ? 0
                  : Math.max(0, floorTo(clock.now() - settings.archiveKeepDays * DAY_MS, DAY_MS)),
            };
      if (keepMs > 0 && clock.monotonic() - this.retainedAt >= RETAIN_EVERY_MS) {
        for (const kind of kinds.all())
          if (!add(await retain(sql, clock, kind, { keepMs, archive, signal }))) return done;
        if (!add(await retainJournal(sql, clock, { keepMs, signal }))) return done;
        this.retainedAt = clock.monotonic();
      }
      if (!add(await this.dropEnded())) return done;
      return { ...done, complete: true };
    },

    async dropEnded() {
      const { sql, clock, settings, logger } = this.parts;
      const keepMs = settings.workRetentionDays * DAY_MS;
      if (keepMs === 0 || clock.monotonic() - this.endedAt < RETAIN_EVERY_MS)
        return { complete: true, steps: 0, rows: 0 };
      const round = await retainEnded(sql, clock, { keepMs, signal: this.stopping.signal });
      if (round.complete) this.endedAt = clock.monotonic();
      if (round.owed > 0)
        logger.warn({ part: 'rollups', runs: round.owed }, 'runs of training went that MLflow never took');
      return round;
    },

    next(afterMs: number) {
      this.timer = this.parts.clock.after(afterMs, () => {
        this.round()
          .then((round) => {
            if (round.rows > 0) this.parts.logger.debug({ part: 'rollups', ...round }, 'history was rolled up');
          })
          .catch((error: unknown) => {
            if (!this.stopping.signal.aborted) {
              this.parts.logger.warn({ part: 'rollups', err: error }, 'a round of rollups failed; it is tried again');
            }
          })
          .finally(() => {
            if (!this.stopping.signal.aborted) this.next(EVERY_MS);
          });
      });
    },
  },

  async started() {
    this.stopping = new AbortController();
    this.retainedAt = Number.NEGATIVE_INFINITY;
    this.endedAt = Number.NEGATIVE_INFINITY;
    this.next(FIRST_AFTER_MS);
  },

  async stopped() {
    this.stopping?.abort();
    this.timer?.cancel();
    await this.running?.catch(() => undefined);
  },
};

export default rollups;
