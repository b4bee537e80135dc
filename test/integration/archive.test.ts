import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import mote from '../../actors/kinds/mote.ts';
import { seededRandom } from '../../actors/protocol/clock.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { Pg } from '../../actors/store/pg.ts';
import { archivedFiles, archivePage } from '../../actors/store/queries/archive.ts';
import { downsample } from '../../actors/store/queries/downsample.ts';
import { exportCsv } from '../../actors/store/queries/export.ts';
import { rawHistory } from '../../actors/store/queries/history.ts';
import type { HistoryItem } from '../../actors/store/queries/history-table.ts';
import type { OlderReadings } from '../../actors/store/queries/older.ts';
import { DAY_MS, HOUR_MS, iso, MINUTE_MS } from '../../actors/store/queries/span.ts';
import { retain, rollUp } from '../../actors/store/queries/upkeep.ts';
import { kindTables } from '../../actors/store/schema.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { ObjectFolder } from '../../mixins/object-folder.ts';
import { ObjectS3 } from '../../mixins/object-s3.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';
import { Archive } from '../../services/archive/archived-readings.ts';
import { Archiver } from '../../services/archive/archiver.ts';
import { faultOfFile } from '../../services/archive/verification.ts';
import { exportedFile } from '../../services/export/exported-readings.ts';
import { openParquet } from '../../services/parquet/parquet-reader.ts';
import { findPostgres } from '../servers/postgres.ts';
import { findS3 } from '../servers/s3.ts';
import {
  boiler,
  clockAt,
  gadget,
  keyOf,
  openDatabase,
  putReadings,
  putTwins,
  type ReadingSeed,
  T0,
} from '../unit/queries/database.ts';

const DAYS = 8;
const END = T0 + DAYS * DAY_MS;
const KEEP_MS = 4 * DAY_MS;
const TWINS = [
  { twin: 1, kind: boiler, id: 'b1' },
  { twin: 2, kind: boiler, id: 'b2' },
  { twin: 3, kind: gadget, id: 'g1' },
  { twin: 4, kind: mote, id: '7' },
  { twin: 5, kind: mote, id: '10' },
];
const KINDS = [boiler, gadget, mote];

/** Readings every 83 minutes, with backfill, several of one instant, keys beyond ASCII, gaps. */
function seeds({ twin, kind }: (typeof TWINS)[number]): ReadingSeed[] {
  const random = seededRandom(twin);
  const names = kind.openMetrics ? ['t', 'co2', 'x.y'] : kind.metricNames;
  const out: ReadingSeed[] = [];
  for (let i = 0; i * 83 * MINUTE_MS < DAYS * DAY_MS - HOUR_MS; i++) {
    const at = T0 + i * 83 * MINUTE_MS;
    if (twin === 2 && at >= T0 + 2 * DAY_MS && at < T0 + 3 * DAY_MS) continue;
    const values = () =>
      Object.fromEntries(names.filter(() => random() < 0.7).map((name) => [name, Math.round(random() * 1e4) / 100]));
    const first = values();
    if (Object.keys(first).length > 0)
      out.push({ twin, at, revision: i + 1, values: first, sensor: random() < 0.3 ? 's1' : undefined, unit: 'u' });
    if (i % 9 === 4) {
      for (const key of ['Zz', 'aa', 'ü', '_', '-'].slice(0, 1 + Math.floor(random() * 5)))
        out.push({ twin, at, revision: null, values: { [names[0]]: random() }, key, receivedAt: END });
      out.push({ twin, at, revision: null, values: { [names[1]]: 1 }, seq: -5 });
    }
  }
  return out;
}

async function fill(open?: () => Promise<Sql>): Promise<Sql> {
  const sql = await openDatabase(open);
  await sql.exec(kindTables(mote));
  const at = END - HOUR_MS;
  await putTwins(
    sql,
    TWINS.map(({ twin, kind, id }) => ({ twin, kind: kind.kind, id, revision: 1_000_000, at, receivedAt: at })),
  );
  for (const one of TWINS) {
    await putReadings(sql, one.kind, seeds(one));
    await sql.query(
      `insert into twin_snapshots (twin, revision, shard, twin_id, shape, kind_version, state, floor_at, received_at)
       values ($1, 1000000, 0, 'x', 1, 1, '\\x00', $2, $2)`,
      [one.twin, iso(END)],
    );
  }
  return sql;
}

const folder = mkdtempSync(join(tmpdir(), 'tm-archive-'));
const server = await findS3();
const postgres = await findPostgres();
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await server?.stop();
  await postgres?.stop();
});

interface World {
  sql: Sql;
  objects: ObjectStore;
  older(): OlderReadings;
  archiver(nowMs?: number, keepMs?: number, objects?: ObjectStore, sql?: Sql): Archiver;
  archiveAll(nowMs?: number): Promise<{ rows: number; lateRows: number }>;
  dropAll(): Promise<number>;
}

function worldOf(sql: Sql, objects: ObjectStore): World {
  // A new one each time: what has been read once must not hide what is there now.
  const older = () => new Archive(sql, objects).reader();
  const world: World = {
    sql,
    objects,
    older,
    archiver: (nowMs = END, keepMs = 0, to = objects, through = sql) =>
      new Archiver({ sql: through, objects: to, clock: clockAt(nowMs), afterMs: 2 * DAY_MS, keepMs, archived: older }),
    async archiveAll(nowMs = END) {
      const done = { rows: 0, lateRows: 0 };
      for (const kind of KINDS) {
        const round = await world.archiver(nowMs).round(kind, nowMs);
        expect(round.complete).toBe(true);
        done.rows += round.rows;
        done.lateRows += round.lateRows;
      }
      return done;
    },
    async dropAll() {
      let rows = 0;
      for (const kind of KINDS) {
        await rollUp(sql, clockAt(END), kind, { latenessMs: 600_000 });
        const archive = { expiredBeforeMs: 0 };
        rows += (await retain(sql, clockAt(END), kind, { keepMs: KEEP_MS, archive })).rows;
      }
      return rows;
    },
  };
  return world;
}

async function historyOf(
  { sql }: World,
  { twin, kind, id }: (typeof TWINS)[number],
  older: OlderReadings | null,
  order: 'asc' | 'desc' = 'asc',
  span = {},
  metric?: string,
): Promise<HistoryItem[]> {
  const out: HistoryItem[] = [];
  for (let cursor: string | undefined; ; ) {
    const query = { span, limit: 97, cursor, order, metric };
    const page = await rawHistory(sql, kind, keyOf(twin, id, null, kind.kind), query, older);
    out.push(...page.items);
    if (page.nextCursor === null) return out;
    cursor = page.nextCursor;
  }
}

async function csvOf({ sql }: World, kind: Kind, older: OlderReadings | null): Promise<string> {
  let text = '';
  for await (const chunk of exportCsv(sql, kind, { span: {}, idColumn: 'id', pageRows: 50 }, older)) text += chunk;
  return text;
}

type Place = [string, () => ObjectStore, (() => Promise<Sql>)?];
const places: Place[] = [['a folder, embedded', () => new ObjectFolder(join(folder, 'whole'))]];
if (server && postgres) {
  const database = async () => await Pg.open({ url: await postgres.database() });
  places.push(['S3, with PostgreSQL', () => new ObjectS3(server.access), database]);
}

describe.each(places)('history in %s', (_, open, database) => {
  let world: World;
  const before = new Map<string, unknown>();
  const half = { from: T0 + DAY_MS + HOUR_MS, to: END - 2 * DAY_MS + HOUR_MS };

  const answers = async (older: () => OlderReadings | null) => {
    const out = new Map<string, unknown>();
    for (const one of TWINS) {
      const { kind, id, twin } = one;
      out.set(`asc ${id}`, await historyOf(world, one, older()));
      out.set(`desc ${id}`, await historyOf(world, one, older(), 'desc'));
      out.set(`span ${id}`, await historyOf(world, one, older(), 'desc', half));
      const metric = kind.openMetrics ? 'co2' : kind.metricNames[1];
      out.set(`metric ${id}`, await historyOf(world, one, older(), 'asc', half, metric));
      const key = keyOf(twin, id, null, kind.kind);
      const query = { span: { from: T0, to: END }, stepMs: 25 * MINUTE_MS };
      out.set(`buckets ${id}`, rounded(await downsample(world.sql, clockAt(END), kind, key, query, older())));
      const edges = { span: half, stepMs: 7 * HOUR_MS };
      out.set(`edges ${id}`, rounded(await downsample(world.sql, clockAt(END), kind, key, edges, older())));
    }
    for (const kind of KINDS) out.set(`csv ${kind.kind}`, await csvOf(world, kind, older()));
    return out;
  };

  beforeAll(async () => {
    world = worldOf(await fill(database), open());
    for (const kind of KINDS) await rollUp(world.sql, clockAt(END), kind, { latenessMs: 600_000 });
    for (const [name, answer] of await answers(() => null)) before.set(name, answer);
  }, 60_000);
  afterAll(() => world?.sql.close());

  it('stays in the database until it has been archived', async () => {
    expect(await world.dropAll()).toBe(0);
  });

  it('is archived by days, once', async () => {
    const [{ count }] = await world.sql.query<{ count: number }>(
      `select (select count(*) from boiler_readings where at < $1) + (select count(*) from gadget_readings where at < $1)
         + (select count(*) from mote_readings where at < $1) as count`,
      [iso(END - 2 * DAY_MS)],
    );
    expect(await world.archiveAll()).toEqual({ rows: count, lateRows: 0 });
    expect(await world.archiveAll()).toEqual({ rows: 0, lateRows: 0 });
  });

  it('answers the same after retention has dropped it, and the database has dropped it', async () => {
    expect(await world.dropAll()).toBeGreaterThan(150);
    const [{ oldest }] = await world.sql.query<{ oldest: Date }>('select min(at) as oldest from boiler_readings');
    expect(oldest.getTime()).toBeGreaterThanOrEqual(END - KEEP_MS);
    const after = await answers(() => world.older());
    expect([...after.keys()]).toEqual([...before.keys()]);
    for (const [name, answer] of after) expect([name, answer]).toEqual([name, before.get(name)]);
  });

  it('is files by kind, day and mote, with a summary', async () => {
    const keys: string[] = [];
    for await (const { key } of world.objects.list('archive/kind=mote/year=2026/month=01/day=02')) keys.push(key);
    expect(keys).toEqual([
      expect.stringMatching(/day=02\/_metrics\/summary\.json$/),
      expect.stringMatching(/day=02\/mote_id=10\/readings-\d+-[0-9a-f]{8}-\d{4}\.parquet$/),
      expect.stringMatching(/day=02\/mote_id=7\/readings-\d+-[0-9a-f]{8}-\d{4}\.parquet$/),
    ]);
    const text = Buffer.from(await world.objects.read(keys[0], 0, 100_000)).toString('utf8');
    const summary = JSON.parse(text);
    const csv = (before.get('csv mote') as string).split('\n').map((line) => line.split(','));
    const column = csv[0].indexOf('temperature');
    const day = csv.filter((cells) => cells[1]?.startsWith('2026-01-02')).map((cells) => cells[column]);
    const values = day.filter((cell) => cell !== '').map(Number);
    expect(summary).toMatchObject({ kind: 'mote', day: '2026-01-02', rows: day.length });
    expect(summary.metrics.temperature.count).toBe(values.length);
    expect(summary.metrics.temperature.avg).toBeCloseTo(values.reduce((a, b) => a + b) / values.length, 9);
    for (const file of await archivedFiles(world.sql, 'mote', {}))
      expect(await faultOfFile(world.objects, file)).toBeNull();
  });

  it('is exported as Parquet, the same as CSV', async () => {
    for (const kind of KINDS) {
      await world.objects.put(
        'try/file',
        (async function* () {
          for await (const piece of exportedFile('parquet', world.sql, kind, { span: {} }, world.older()))
            yield piece as Uint8Array;
        })(),
      );
      const file = await openParquet(world.objects, 'try/file', (await world.objects.sizeOf('try/file'))!);
      const rows = (await Promise.all(file.groups.map((_, i) => file.read(i)))).flat();
      const lines = rows.map((row) =>
        Object.values(row)
          .map((cell) => (cell instanceof Date ? cell.toISOString() : (cell ?? '')))
          .join(','),
      );
      const csv = (before.get(`csv ${kind.kind}`) as string).trimEnd().split('\n').slice(1);
      expect(lines).toEqual(csv);
    }
  });
});

describe('the archive', () => {
  let world: World;
  let root: string;
  beforeAll(async () => {
    root = join(folder, 'faults');
    world = worldOf(await fill(), new ObjectFolder(root));
  }, 60_000);
  afterAll(() => world?.sql.close());
  const [b1, b2] = TWINS;
  const filesOf = async (kind: string) => await archivedFiles(world.sql, kind, {});

  it('has nothing in its books when writing breaks off, and writes the day again', async () => {
    const broken = instead(world.objects, {
      put: async (key, body) => {
        await world.objects.put(key, body);
        throw new Error('the power went');
      },
    });
    await expect(world.archiver(END, 0, broken).round(gadget, END)).rejects.toThrow('the power went');
    expect(await filesOf('gadget')).toEqual([]);
    expect(await world.archiver().round(gadget, 0)).toMatchObject({ complete: true, days: DAYS - 2 });
  });

  it('sweeps up files of a run that nobody wrote down', async () => {
    const query: Sql['query'] = (text, ...rest) =>
      text.includes('insert into archives') ? Promise.reject(new Error('no answer')) : world.sql.query(text, ...rest);
    const deaf = instead(world.sql, { query });
    await expect(world.archiver(END, 0, world.objects, deaf).round(boiler, 0)).rejects.toThrow('no answer');
    const under = 'archive/kind=boiler/year=2026/month=01/day=01';
    const keys = async () => {
      const out: string[] = [];
      for await (const { key } of world.objects.list(under)) if (key.endsWith('.parquet')) out.push(key);
      return out;
    };
    const orphans = await keys();
    await world.archiver().round(boiler, END);
    // It might be of a run that is under way.
    const [written, ...more] = (await keys()).filter((key) => !orphans.includes(key));
    expect([orphans.length, more, (await keys()).length]).toEqual([1, [], 2]);
    await world.archiver(END + 25 * HOUR_MS).round(boiler, END + 25 * HOUR_MS);
    expect(await keys()).toEqual([written]);
  });

  it('lets one of two write down a day', async () => {
    const rounds = await Promise.all([world.archiver().round(mote, 0), world.archiver().round(mote, 0)]);
    const [{ count }] = await world.sql.query<{ count: number }>('select count(*) from mote_readings where at < $1', [
      iso(END - 2 * DAY_MS),
    ]);
    expect(rounds[0].rows + rounds[1].rows).toBe(count);
    const listed: string[] = [];
    for await (const { key } of world.objects.list('archive/kind=mote')) if (key.endsWith('.parquet')) listed.push(key);
    expect(listed.sort()).toEqual((await filesOf('mote')).map(({ key }) => key).sort());
  });

  it('gets what comes late for an archived day beside it, before retention drops it, and each once', async () => {
    await world.dropAll();
    const late = (at: number, extra: object = {}): ReadingSeed => ({
      twin: 1,
      at,
      revision: null,
      values: { heat: 99 },
      ...extra,
    });
    // The first day is gone from the database; the last archived one is in both.
    const days = [T0 + 3 * HOUR_MS, T0 + DAY_MS + 1, END - 3 * DAY_MS + 5];
    await putReadings(
      world.sql,
      boiler,
      days.map((at) => late(at)),
    );
    await putReadings(world.sql, boiler, [late(days[0], { key: 'again' })]);
    const all = await historyOf(world, b1, world.older());
    expect(all.filter(({ values }) => values.heat === 99).length).toBe(4);
    expect(await world.dropAll()).toBe(0);
    expect(await world.archiver().round(boiler, END)).toMatchObject({ complete: true, lateRows: 4, days: 3 });
    expect(await historyOf(world, b1, world.older())).toEqual(all);
    expect((await filesOf('boiler')).filter(({ late: isLate }) => isLate).map(({ rows }) => rows)).toEqual([2, 1, 1]);
    expect(await world.dropAll()).toBe(3);
    expect(await historyOf(world, b1, world.older())).toEqual(all);
    expect(await world.archiver().round(boiler, END)).toMatchObject({ lateRows: 0, days: 0 });
    const summary = JSON.parse(
      readFileSync(join(root, 'archive/kind=boiler/year=2026/month=01/day=01/_metrics/summary.json'), 'utf8'),
    );
    expect(summary.rows).toBe((await filesOf('boiler')).slice(0, 2).reduce((sum, { rows }) => sum + rows, 0));
    expect(summary.metrics.heat.max).toBeGreaterThanOrEqual(99);
  });

  it('says which file is missing or damaged, and answers the rest', async () => {
    const whole = await historyOf(world, b2, world.older());
    const files = (await filesOf('boiler')).filter(({ late }) => !late);
    const path = (i: number) => join(root, files[i].key);
    const kept = readFileSync(path(1));
    const day = (at: string) => at.slice(0, 10);
    const lost = (i: number) => whole.filter(({ at }) => day(at) !== files[i].day.toISOString().slice(0, 10));

    truncateSync(path(1), 500);
    const short = world.older();
    expect(await historyOf(world, b2, short)).toEqual(lost(1));
    expect(short.notes).toEqual([expect.stringContaining(`${files[1].key} is damaged`)]);
    expect(await faultOfFile(world.objects, files[1])).toContain('has 500 bytes');

    const scrambled = Buffer.from(kept);
    for (let i = 4; i < scrambled.length - 8; i++) scrambled[i] ^= 0x5a;
    writeFileSync(path(1), scrambled);
    const strange = world.older();
    expect(await historyOf(world, b2, strange)).toEqual(lost(1));
    expect(strange.notes).toEqual([expect.stringContaining(`${files[1].key} is damaged`)]);
    expect(await faultOfFile(world.objects, files[1])).toContain('another content');

    rmSync(path(1));
    const gone = world.older();
    expect(await historyOf(world, b2, gone)).toEqual(lost(1));
    expect(gone.notes).toEqual([expect.stringContaining('2026-01-02 is left out')]);
    expect(await faultOfFile(world.objects, files[1])).toContain('is missing');

    writeFileSync(path(1), kept);
    expect(await historyOf(world, b2, world.older())).toEqual(whole);
  });

  it('is listed newest day first, in pages', async () => {
    const seen: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await archivePage(world.sql, { kind: 'boiler', limit: 4, cursor });
      seen.push(...page.items.map(({ day }) => day.toISOString()));
      if (page.nextCursor === null) break;
      cursor = page.nextCursor;
    }
    expect(seen).toEqual((await filesOf('boiler')).map(({ day }) => day.toISOString()).reverse());
  });

  it('drops expired days, files before books, and lets retention drop what it will not take any more', async () => {
    const files = await filesOf('gadget');
    const done = await world.archiver(END, 6 * DAY_MS).round(gadget, 0);
    const expired = files.filter(({ day }) => day.getTime() < END - 6 * DAY_MS);
    expect([done.expiredFiles, expired.length]).toEqual([expired.length, 2]);
    expect(await filesOf('gadget')).toEqual(files.slice(2));
    for (const { key } of expired) expect(existsSync(join(root, key))).toBe(false);
    await putReadings(world.sql, gadget, [{ twin: 3, at: T0 + 1, revision: null, values: { t: 1 } }]);
    expect(await world.dropAll()).toBe(0);
    await rollUp(world.sql, clockAt(END), gadget, { latenessMs: 600_000 });
    const archive = { expiredBeforeMs: END - 6 * DAY_MS };
    expect((await retain(world.sql, clockAt(END), gadget, { keepMs: KEEP_MS, archive })).rows).toBe(1);
  });
});

/** The thing with some of its methods replaced. */
function instead<Thing extends object>(thing: Thing, methods: Partial<Thing>): Thing {
  return new Proxy(thing, {
    get(target, name) {
      const found = Reflect.get(Object.hasOwn(methods, name) ? methods : target, name, target);
      return typeof found === 'function' ? found.bind(target) : found;
    },
  });
}

/** Sums in another order differ in their last digits. */
function rounded(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_, v) => (typeof v === 'number' ? Number(v.toPrecision(9)) : v)));
}
