import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FORMER_VERSIONS } from '../../actors/store/migrations/8-former-versions.ts';
import { Pg } from '../../actors/store/pg.ts';
import { migrate } from '../../actors/store/postgres/migrate.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { type ModelCard, parseCard } from '../../models/card.ts';
import { ALONG_FIRST, listModels, promote, registerModel, rollback, shadow } from '../../services/models/register.ts';
import { beatJob, cancelJob, claimJob, endingJob, enqueue, jobOf } from '../../services/training/queue.ts';
import { openEmptyDatabase } from '../servers/embedded.ts';
import { findPostgres } from '../servers/postgres.ts';

/** What is live after what order of changes. */
const CARD = fileURLToPath(new URL('../../models/machine-rul/1.0.0/card.json', import.meta.url));
const VERSIONS = ['1.0.0', '1.1.0', '1.2.0', '1.3.0'];
const change = { by: 'me', reason: 'a test' };
const postgres = await findPostgres();
let embedded: Sql;
/** The embedded one, but where statements have to meet: it takes one after another. */
let sql: Sql;
let base: ModelCard;
let name: string;
beforeAll(async () => {
  embedded = sql = await openEmptyDatabase();
  await migrate(sql, [], 4);
  base = parseCard(readFileSync(CARD, 'utf8'));
  name = base.name;
});
afterAll(async () => {
  await embedded?.close();
  await postgres?.stop();
});
beforeEach(() => register());
const register = async () => {
  await sql.query('delete from models');
  for (const [i, version] of VERSIONS.entries())
    await registerModel(sql, { ...base, version, sha256: String(i).repeat(64) }, 'built in');
};

const live = async () =>
  (await listModels(sql, name)).filter(({ status }) => status === 'live').map(({ version }) => version);
const goes = async (...versions: string[]) => {
  for (const version of versions) await promote(sql, name, version, change);
};
/** What the rollbacks come to, one after another, until there is none left. */
const wayBack = async () => {
  const way: string[] = [];
  for (;;) {
    const [now] = await listModels(sql, name).then((all) => all.filter(({ status }) => status === 'live'));
    if (now.replaced === null) break;
    const went = await rollback(sql, name, change);
    expect([went, await live()]).toEqual([now.replaced, [now.replaced]]);
    way.push(went);
    expect(way.length).toBeLessThan(20);
  }
  await expect(rollback(sql, name, change)).rejects.toMatchObject({ code: 'conflict' });
  return way;
};

describe('rollbacks', () => {
  it('go one further back each time, through versions that were live twice too, and end', async () => {
    await goes('1.0.0', '1.1.0', '1.0.0');
    expect(await wayBack()).toEqual(['1.1.0', '1.0.0']);
    await goes('1.1.0', '1.2.0', '1.1.0', '1.3.0', '1.0.0');
    expect(await wayBack()).toEqual(['1.3.0', '1.1.0', '1.2.0', '1.1.0', '1.0.0']);
  });

  it('undo what was promoted since, where some has been rolled back before', async () => {
    await goes('1.0.0', '1.1.0', '1.2.0');
    expect(await rollback(sql, name, change)).toBe('1.1.0');
    await goes('1.3.0');
    expect(await wayBack()).toEqual(['1.1.0', '1.0.0']);
  });

  it('go where a node of the program before says, which keeps no more than the version before', async () => {
    await goes(...VERSIONS);
    await sql.query(`update models set status = 'retired' where status = 'live'`);
    await sql.query(`update models set status = 'live', replaced = '1.3.0' where version = '1.2.0'`);
    expect(await wayBack()).toEqual(['1.3.0']);
  });

  it('know of promotions before the migration what is left of them, and end', async () => {
    await goes('1.0.0', '1.1.0', '1.2.0', '1.1.0', '1.3.0');
    await sql.exec(`alter table models drop column former; ${FORMER_VERSIONS.sql}`);
    // 1.1.0 says that it came after 1.2.0, and 1.2.0 that it came after 1.1.0: further back nobody knows
    expect(await wayBack()).toEqual(['1.1.0', '1.2.0', '1.1.0']);
  });
});

describe('a change during a trial', () => {
  it('to the very version that is tried leaves that one live', async () => {
    await goes('1.0.0', '1.1.0');
    // what a second promotion of 1.2.0 sees that looks at the version before the first has landed, and at what is live afterwards
    const second = promote(sql, name, '1.2.0', { ...change, live: '1.2.0' }, () => goes('1.2.0'));
    await expect(second).rejects.toMatchObject({ code: 'conflict' });
    expect(await live()).toEqual(['1.2.0']);
  });

  it.each([
    ['promotion', (tried: () => Promise<void>) => promote(sql, name, '1.3.0', change, tried)],
    ['rollback', (tried: () => Promise<void>) => rollback(sql, name, change, tried)],
  ])('is not overwritten by the %s that is tried', async (_what, begin) => {
    await goes('1.0.0', '1.1.0');
    const begun = begin(() => goes('1.2.0'));
    await expect(begun).rejects.toMatchObject({ code: 'conflict', message: expect.stringMatching(/came first/) });
    expect(await live()).toEqual(['1.2.0']);
    expect(await wayBack()).toEqual(['1.1.0', '1.0.0']);
  });

  it('that ends with the same version live, after others, is one all the same', async () => {
    await goes('1.0.0', '1.1.0');
    const begun = rollback(sql, name, change, () => goes('1.2.0', '1.1.0'));
    await expect(begun).rejects.toMatchObject({ code: 'conflict' });
    expect(await live()).toEqual(['1.1.0']);
  });

  it('that leaves another version live, before which the same one was, is one all the same', async () => {
    await goes('1.0.0', '1.1.0');
    const begun = rollback(sql, name, change, async () => {
      await rollback(sql, name, change);
      await goes('1.2.0');
    });
    await expect(begun).rejects.toMatchObject({ code: 'conflict' });
    expect(await live()).toEqual(['1.2.0']);
  });

  it('that puts the shadow to be live leaves the one that is', async () => {
    await goes('1.0.0');
    await shadow(sql, name, '1.1.0');
    await expect(shadow(sql, name, '1.2.0', () => goes('1.2.0'))).rejects.toMatchObject({ code: 'conflict' });
    const status = async (version: string) => (await listModels(sql, name)).find((m) => m.version === version)?.status;
    expect([await live(), await status('1.1.0')]).toEqual([['1.2.0'], 'shadow']);
    await shadow(sql, name, '1.3.0');
    expect([await status('1.1.0'), await status('1.3.0')]).toEqual(['candidate', 'shadow']);
    await shadow(sql, name, null);
    expect(await status('1.3.0')).toBe('candidate');
  });

  it('where none was live: the first is not overwritten', async () => {
    await expect(promote(sql, name, '1.3.0', change, () => goes('1.2.0'))).rejects.toMatchObject({ code: 'conflict' });
    expect(await live()).toEqual(['1.2.0']);
  });

  it('goes where nothing has changed: two rollbacks at once are one', async () => {
    await goes('1.0.0', '1.1.0', '1.2.0');
    let both = () => {};
    const together = new Promise<void>((resolve) => {
      both = resolve;
    });
    let begun = 0;
    const tried = async () => {
      if (++begun === 2) both();
      await together;
    };
    const ends = await Promise.allSettled([rollback(sql, name, change, tried), rollback(sql, name, change, tried)]);
    expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(await live()).toEqual(['1.1.0']);
  });
});

describe.skipIf(postgres === null)('statements that meet, on PostgreSQL', () => {
  beforeAll(async () => {
    sql = await Pg.open({ url: await postgres!.database() });
    await migrate(sql, [], 4);
  });
  afterAll(async () => {
    await sql.close();
    sql = embedded;
  });

  it('leave one live, every promotion to be undone, and no cancelled job whose version went live', async () => {
    await goes('1.0.0');
    let steps = 0;
    const ends: Record<string, number> = {};
    for (let round = 0; round < 30; round++) {
      const before = await live();
      const [mine, other] = VERSIONS.filter((version) => version !== before[0]);
      const { id } = await enqueue(sql, { type: 'training', name, params: {}, by: 'me' });
      await claimJob(sql, 'training', 'node');
      const end = { status: 'done', message: 'live', result: { version: mine } } as const;
      const along = () => endingJob(ALONG_FIRST, id, 'node', end);
      const by = `job ${id}`;
      const tried = () => new Promise<void>((resolve) => setTimeout(resolve, round % 4));
      const [promoted, promotedOther] = await Promise.allSettled([
        promote(sql, name, mine, { by, reason: 'a test', live: before[0], along }, tried),
        round % 3 === 0
          ? promote(sql, name, other, { ...change, live: before[0] }, tried)
          : Promise.reject(new Error('not asked')),
        beatJob(sql, id, 'node', 0.5, 'beating'),
        tried().then(() => (round % 2 === 0 ? cancelJob(sql, id, 'me') : null)),
        sql.query(`update models set source = 'touched' where version = $1`, [before[0]]),
      ]);
      const { status } = await jobOf(sql, id);
      const now = (await listModels(sql, name)).filter((model) => model.status === 'live');
      const went = promoted.status === 'fulfilled' ? mine : promotedOther.status === 'fulfilled' ? other : before[0];
      expect(now.map(({ version }) => version)).toEqual([went]);
      expect(promoted.status === 'fulfilled' && promotedOther.status === 'fulfilled').toBe(false);
      expect(promoted.status === 'fulfilled').toBe(status === 'done');
      expect(now[0].promotedBy === by).toBe(status === 'done');
      if (now[0].version !== before[0]) steps++;
      ends[status] = (ends[status] ?? 0) + 1;
      if (status === 'running') await cancelJob(sql, id, 'me');
    }
    expect(ends.done).toBeGreaterThan(0);
    let undone = 0;
    while ((await live())[0] !== '1.0.0' || undone < steps) {
      await rollback(sql, name, change);
      undone++;
    }
    expect(undone).toBe(steps);
    await expect(rollback(sql, name, change)).rejects.toMatchObject({ code: 'conflict' });
  });
});
