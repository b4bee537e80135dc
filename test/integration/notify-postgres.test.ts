import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Pg } from '../../actors/store/pg.ts';
import { Notifying } from '../../services/notify/notifying.ts';
import { findPostgres, type PostgresServer } from '../servers/postgres.ts';
import { type LocalReceiver, localReceiver } from '../unit/notify/local-receiver.ts';
import { alertOf } from '../unit/notify/sample.ts';
import { openDatabase } from '../unit/queries/database.ts';

/** Two nodes of a mesh on one PostgreSQL: claims of both at the same time, which the embedded database does not have. */
const server: PostgresServer | null = await findPostgres();

describe.skipIf(server === null)('two nodes on PostgreSQL', () => {
  let sql: Pg;
  let hook: LocalReceiver;
  const folder = mkdtempSync(join(tmpdir(), 'tm-notify-pg-'));
  const nodes: Notifying[] = [];

  beforeAll(async () => {
    const url = await (server as PostgresServer).database();
    sql = (await openDatabase(() => Pg.open({ url, maxConnections: 8 }))) as Pg;
    hook = await localReceiver();
    writeFileSync(
      join(folder, 'n.json'),
      JSON.stringify({
        receivers: { w: { type: 'webhook', url: hook.url } },
        rules: [
          {
            name: 'all',
            events: ['alert'],
            receivers: ['w'],
            cooldown_s: 0,
            group: { above: 80, within_s: 1 },
            escalate: [{ after_s: 1, receivers: ['w'] }],
          },
        ],
      }),
    );
    for (const node of ['n1', 'n2']) {
      const logger = { info: () => undefined, warn: () => undefined };
      const one = new Notifying({ file: join(folder, 'n.json'), sql, node, logger, firstPauseMs: 10, everyMs: 10 });
      nodes.push(one);
      await one.start();
    }
  });
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await hook?.stop();
    await sql?.close();
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  it('tell each receiver once of each alert and each escalation, and sum a storm up once', async () => {
    await sql.query(
      `insert into alerts (alert_id, twin_id, kind, alert_type, severity, message, state, raised_at, revision)
       select 'A' || i, 'machine:M1', 'machine', 'hot', 'high', '', 'raised', now(), 1 from generate_series(0, 119) i`,
    );
    await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        nodes[i % 2].sink.deliver(
          Array.from({ length: 10 }, (_, k) => ({ ...alertOf('raised', `A${i * 10 + k}`), receivedAt: Date.now() })),
        ),
      ),
    );
    const count = async (where: string) =>
      Number((await sql.query<{ n: number }>(`select count(*)::int as n from notifications where ${where}`))[0].n);
    const told = await count(`payload ->> 'type' = 'alert.raised' and payload ->> 'escalation' is null`);
    // Both decide at once, so that a few more than 80 may be told one by one; nobody is forgotten.
    expect(told).toBeGreaterThanOrEqual(80);
    const isDone = async () =>
      (await count(`state = 'waiting'`)) === 0 &&
      (await sql.query('select from notify_escalations')).length === 0 &&
      (await sql.query('select from notify_bursts where held_back > 0')).length === 0;
    await expect.poll(isDone, { timeout: 30_000, interval: 50 }).toBe(true);
    const ids = hook.asked.map(({ body }) => String(body.id));
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.filter((id) => /~raised~1$/.test(id))).toHaveLength(told);
    const summaries = hook.taken
      .filter(({ body }) => body.type === 'summary')
      .map(({ body }) => parseInt(body.title, 10));
    expect(summaries.reduce((sum, n) => sum + n, 0)).toBe(120 - told);
    expect(await count(`state <> 'sent'`)).toBe(0);
  });
});
