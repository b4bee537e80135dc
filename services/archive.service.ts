import type { Context } from 'moleculer';
import type { TimerHandle } from '../actors/protocol/clock.ts';
import { sleep } from '../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { type ArchivedFile, archivePage } from '../actors/store/queries/archive.ts';
import { DAY_MS, MINUTE_MS } from '../actors/store/queries/span.ts';
import { isElected } from '../mixins/elected.ts';
import type { ObjectStore } from '../mixins/object-store.ts';
import { openObjects } from '../mixins/objects.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { Archive } from './archive/archived-readings.ts';
import { type ArchiveRound, Archiver } from './archive/archiver.ts';
import { faultOfFile } from './archive/verification.ts';
import { listOf, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { KIND } from './history/span-params.ts';

/**
 * Writes history to the cold archive, on schedule where ARCHIVE_AFTER_DAYS is set.
 *
 *  1 The first by name of the nodes that can does it; should two think so, one of them writes nothing down (A1).
 *  2 A round that fails is logged and tried again at the next; retention waits for it (retention.ts T4).
 *  3 Days that retention is about to drop are looked through for late rows in each round, all others once a day.
 */
const FIRST_AFTER_MS = 30_000;
const EVERY_MS = 10 * MINUTE_MS;
/** How long an answer of `run` and of `verify` is waited for. */
const PATIENCE_MS = 20_000;
const VERIFY_MS = 10_000;

type Totals = ArchiveRound & { kinds: number };
const NOTHING: Totals = { complete: true, days: 0, files: 0, rows: 0, lateRows: 0, expiredFiles: 0, kinds: 0 };

interface ArchiveService {
  objects: ObjectStore;
  archive: Archive;
  timer: TimerHandle | undefined;
  stopping: AbortController;
  running: Promise<Totals> | undefined;
  lookedThroughAt: number;
  round(whole: boolean): Promise<Totals>;
  work(whole: boolean): Promise<Totals>;
  next(afterMs: number): void;
}

const FILE = {
  type: 'object',
  required: ['key', 'kind', 'day', 'rows', 'bytes', 'sha256', 'late', 'written_at'],
  properties: {
    key: { type: 'string', description: 'In the folder or bucket.' },
    kind: TEXT,
    day: { type: 'string', description: 'YYYY-MM-DD, UTC, by event time.' },
    first_id: { type: 'string', description: 'Least asset id in it.' },
    last_id: TEXT,
    rows: { type: 'integer' },
    bytes: { type: 'integer' },
    sha256: TEXT,
    late: { type: 'boolean', description: 'Readings that came after their day was archived.' },
    written_at: TIME,
  },
};

const archive: PartsSchema<ArchiveService> = {
  name: 'archive',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/archive',
      role: 'viewer',
      params: { kind: { ...KIND, optional: true }, ...PAGE_PARAMS },
      openapi: {
        summary: 'Files of the cold archive, newest day first',
        description: 'Those that the book of the archive counts. Empty where nothing has been archived.',
        tags: ['history'],
        response: listOf(FILE),
      },
      async handler(ctx: Context<{ kind?: string; limit: number; cursor?: string }>) {
        const { items, nextCursor } = await archivePage(this.parts.sql, ctx.params);
        return { items: items.map(fileItem), nextCursor };
      },
    },

    run: {
      rest: 'POST /api/v1/archive/run',
      role: 'admin',
      openapi: {
        summary: 'Archive what is due, now',
        description: 'Answers when it is done, or after 20 seconds with `done` false; asked again it waits on.',
        tags: ['history'],
        response: { type: 'object', required: ['done'], properties: { done: { type: 'boolean' } } },
      },
      async handler() {
        const { settings, clock } = this.parts;
        if (settings.archiveAfterDays === 0)
          throw new TwinmeshError('bad_request', 'ARCHIVE_AFTER_DAYS is 0: nothing is archived.');
        const done = await Promise.race([this.round(true), sleep(clock, PATIENCE_MS).then(() => null)]);
        return done === null ? { done: false } : { done: true, ...done };
      },
    },

    verify: {
      rest: 'POST /api/v1/archive/verify',
      role: 'admin',
      audit: false,
      params: { kind: { ...KIND, optional: true }, ...PAGE_PARAMS },
      openapi: {
        summary: 'Read files of the archive and compare them with what was written',
        description: 'A page of files, fewer where they take longer than 10 seconds.',
        tags: ['history'],
        response: {
          type: 'object',
          required: ['checked', 'faults', 'nextCursor'],
          properties: {
            checked: { type: 'integer' },
            faults: { type: 'array', items: TEXT },
            nextCursor: { type: ['string', 'null'] },
          },
        },
      },
      async handler(ctx: Context<{ kind?: string; limit: number; cursor?: string }>) {
        const { sql, clock } = this.parts;
        const { items, nextCursor, cursorOf } = await archivePage(sql, ctx.params);
        const until = clock.monotonic() + VERIFY_MS;
        const faults: string[] = [];
        for (const [i, file] of items.entries()) {
          const fault = await faultOfFile(this.objects, file);
          if (fault !== null) faults.push(fault);
          if (clock.monotonic() > until && i + 1 < items.length)
            return { checked: i + 1, faults, nextCursor: cursorOf(file) };
        }
        return { checked: items.length, faults, nextCursor };
      },
    },
  },

  methods: {
    round(whole: boolean) {
      this.running ??= this.work(whole).finally(() => {
        this.running = undefined;
      });
      return this.running;
    },

    async work(whole: boolean) {
      const { sql, clock, kinds, settings } = this.parts;
      const archiver = new Archiver({
        sql,
        clock,
        objects: this.objects,
        afterMs: settings.archiveAfterDays * DAY_MS,
        keepMs: settings.archiveKeepDays * DAY_MS,
        archived: () => this.archive.reader(),
        signal: this.stopping.signal,
      });
      const total: Totals = { ...NOTHING };
      const dropped = settings.historyRetentionDays * DAY_MS;
      const lateBefore = whole ? clock.now() : dropped > 0 ? clock.now() - dropped + DAY_MS : 0;
      for (const kind of kinds.all()) {
        const round = await archiver.round(kind, lateBefore);
        for (const name of ['days', 'files', 'rows', 'lateRows', 'expiredFiles'] as const) total[name] += round[name];
        total.kinds++;
        total.complete &&= round.complete;
        if (!round.complete && this.stopping.signal.aborted) break;
      }
      if (whole && total.complete) this.lookedThroughAt = clock.monotonic();
      return total;
    },

    next(afterMs: number) {
      const { clock, logger } = this.parts;
      this.timer = clock.after(afterMs, () => {
        const whole = clock.monotonic() - this.lookedThroughAt >= DAY_MS;
        const round = isElected(this) ? this.round(whole) : Promise.resolve(NOTHING);
        round
          .then((done) => {
            if (done.rows > 0 || done.expiredFiles > 0)
              logger.info({ part: 'archive', ...done }, 'history was archived');
          })
          .catch((error: unknown) => {
            if (!this.stopping.signal.aborted)
              logger.warn(
                { part: 'archive', err: error },
                `history could not be archived (${messageOf(error)}); it is tried again, and retention waits`,
              );
          })
          .finally(() => {
            if (!this.stopping.signal.aborted) this.next(EVERY_MS);
          });
      });
    },
  },

  async started() {
    this.stopping = new AbortController();
    this.lookedThroughAt = Number.NEGATIVE_INFINITY;
    this.objects = openObjects(this.parts.settings);
    this.archive = new Archive(this.parts.sql, this.objects);
    if (this.parts.settings.archiveAfterDays > 0) this.next(FIRST_AFTER_MS);
  },

  async stopped() {
    this.stopping?.abort();
    this.timer?.cancel();
    await this.running?.catch(() => undefined);
    this.objects?.close();
  },
};

function fileItem({ day, ...file }: ArchivedFile): Record<string, unknown> {
  return { ...file, day: day.toISOString().slice(0, 10) };
}

export default archive;
