import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Predictor } from '../../../actors/protocol/prediction.ts';
import type { Pglite } from '../../../actors/store/pglite.ts';
import { PostgresStore } from '../../../actors/store/postgres.ts';
import type { Difference } from '../../../services/replay/comparison.ts';
import { type RescoreRequest, rescore } from '../../../services/replay/rescoring.ts';
import { journalOf } from '../../../services/replay/time-travel.ts';
import { type WhatIfRequest, whatIf } from '../../../services/replay/what-if.ts';
import { openEmptyDatabase } from '../../servers/embedded.ts';
import { Live, SHARDS, T0, TWIN, valve, wearModel } from './live.ts';

/** Forks of a twin that leave its journal: what-if, and history rescored. */
let sql: Pglite;
let stored: PostgresStore;
let live: Live;
const kinds = { get: () => valve, all: () => [valve] };
beforeAll(async () => {
  sql = await openEmptyDatabase();
  stored = new PostgresStore(sql);
  await stored.open([valve], SHARDS);
}, 60_000);
afterAll(() => sql?.close());
beforeEach(async () => {
  await sql.exec(
    `truncate valve_readings, entries, events, twins, twin_snapshots, alerts, anomaly_events, sink_cursors;
     update shards set owner = null, position = 0, position_id = null, position_at = null, event_seq = 0, snapshot_floor = commit_no, attempts = 0`,
  );
});

async function lived(heats: readonly number[], predictor: Predictor = wearModel('1.0.0')): Promise<void> {
  live = new Live(stored, predictor);
  await live.start();
  for (const [i, heat] of heats.entries()) {
    live.now += 4_000;
    await live.send({ at: live.now, values: { heat, flow: i % 3 } });
    await live.settle();
  }
}

const everything = async () => {
  const tables = ['valve_readings', 'entries', 'events', 'twin_snapshots', 'alerts', 'anomaly_events'];
  const counts: unknown[] = [];
  for (const table of tables)
    counts.push(
      (await sql.query(`select count(*) as n, md5(string_agg(t::text, ',' order by t::text)) from ${table} t`))[0],
    );
  return counts;
};

describe('what-if', () => {
  const ask = (request: WhatIfRequest, predictor: Predictor = wearModel('1.0.0')) =>
    whatIf(journalOf(sql), kinds, predictor, TWIN, request, live.now);

  it('goes the way that the twin goes when it comes true, and leaves the twin as it is', async () => {
    await lived([50, 52, 54, 56, 58]);
    const readings = [60, 80, 95, 97, 99, 104, 108, 111].map((heat, i) => ({
      at: live.now + (i + 1) * 4_000,
      values: { heat, flow: i % 3 },
    }));
    const before = await everything();
    const present = live.moments.at(-1)!;
    const answer = await ask({ readings });
    await live.settle();
    expect(Buffer.compare(live.moments.at(-1)!.bytes, present.bytes)).toBe(0);
    expect(await everything()).toEqual(before);

    const from = live.moments.at(-1)!.revision;
    for (const reading of readings) {
      // second by second, so that a hold runs out when it does
      while (live.now < reading.at - 1_000) {
        live.now += 1_000;
        await live.settle();
      }
      live.now = reading.at;
      await live.send(reading);
      await live.settle();
    }
    const { ingest: _, ...end } = answer.end;
    const { ingest: __, ...came } = await live.host.get(TWIN);
    expect(end).toEqual(came);
    expect(answer.revision).toBe(from);
    const events = await sql.query<{ type: string; body: Record<string, unknown> }>(
      'select type, body from events where revision > $1 order by seq',
      [from],
    );
    expect(answer.events.map(({ type, body }) => ({ type, body }))).toEqual(events);
    expect(events.map(({ type }) => type)).toEqual(
      expect.arrayContaining(['alert.raised', 'anomaly.detected', 'health.changed']),
    );
    expect(answer.timeline).toHaveLength(9);
    expect(answer.timeline.map(({ reported }) => reported.heat)).toEqual([58, 60, 80, 95, 97, 99, 104, 108, 111]);
    expect(answer.models.wear).toMatchObject({ model: 'valve-wear@1.0.0', failed: null });
    expect(answer.models.wear.asked).toBeGreaterThan(3);
    await live.stop();
  }, 60_000);

  it('goes on without a model that fails, and says so', async () => {
    await lived([50]);
    let asked = 0;
    const broken: Predictor = {
      predict: () => {
        asked++;
        return Promise.reject(new Error('nobody there'));
      },
    };
    const readings = Array.from({ length: 20 }, () => ({ values: { heat: 120 } }));
    const answer = await ask({ readings, stepMs: 6_000 }, broken);
    expect(asked).toBe(1);
    expect(answer.models.wear).toEqual({ model: null, asked: 1, answered: 0, failed: 'nobody there' });
    expect(answer.end.alerts.map(({ rule }) => rule)).toEqual(['hot']);
    expect(answer.readings).toEqual({ accepted: 20 });
    await live.stop();
  }, 30_000);

  it('lets time pass, and records work', async () => {
    await lived([50]);
    const answer = await ask({ maintenance: { work: 'oiled' }, durationMs: 120_000 });
    expect(answer.end.maintenance).toMatchObject({ work: 'oiled' });
    expect(answer.end.online).toBe(false);
    expect(answer.events.map(({ type }) => type)).toEqual(['maintenance.recorded', 'twin.offline', 'health.changed']);
    expect(answer.durationMs).toBe(120_000);
    await live.stop();
  }, 30_000);

  it('takes no more than its bounds', async () => {
    await lived([50]);
    const many = Array.from({ length: 2_001 }, () => ({ values: { heat: 1 } }));
    const refusals: [WhatIfRequest, string][] = [
      [{}, 'Name readings'],
      [{ readings: many }, 'at most 2000'],
      [{ readings: [], scenario: { name: 'x', severity: 1 } }, 'one of them'],
      [{ scenario: { name: 'x', severity: 1 } }, 'durationMs'],
      [{ durationMs: 400 * 86_400_000 }, 'at most'],
      [{ scenario: { name: 'x', severity: 1 }, durationMs: 1e9, stepMs: 1 }, 'steps'],
      [{ scenario: { name: 'x', severity: 1 }, durationMs: 10_000 }, 'no simulator'],
    ];
    for (const [request, words] of refusals) {
      const refused = await ask(request).catch((error) => error);
      expect([refused.code, refused.message]).toEqual(['bad_request', expect.stringContaining(words)]);
    }
    const wrong = await ask({ readings: [{ values: { heat: 1 } }, { values: { heat: 1e9 } }] }).catch((error) => error);
    expect(wrong).toMatchObject({ code: 'out_of_range', details: { index: 1, metric: 'heat' } });
    await live.stop();
  }, 30_000);
});

describe('rescoring', () => {
  const ask = async (predictor: Predictor, over: Partial<RescoreRequest> = {}) => {
    const differences: Difference[] = [];
    const request = { model: 'valve-wear', version: 'x', from: T0, to: live.now, windowMs: 3_600_000, ...over };
    const summary = await rescore(sql, kinds, predictor, request, {
      async differences(_twinId, found) {
        differences.push(...found);
      },
    });
    return { summary, differences };
  };
  /** Warm, hot for a while, warm again; twice. */
  const heats = [...Array(2)].flatMap(() => [
    ...Array.from({ length: 12 }, (_, i) => 60 + i * 3),
    ...Array.from({ length: 8 }, () => 106),
    ...Array.from({ length: 12 }, (_, i) => 90 - i * 3),
  ]);

  it('with the same version comes to the same', async () => {
    await lived(heats);
    const { summary, differences } = await ask(wearModel('1.0.0'));
    expect(differences).toEqual([]);
    expect(summary.readings).toBe(heats.length);
    expect(summary.answers).toMatchObject({ was: summary.answers.now, refused: 0 });
    expect(summary.answers.now).toBeGreaterThan(20);
    expect(summary.tally.alert.same).toBe(4);
    expect(summary.tally.anomaly.same).toBeGreaterThan(2);
    await live.stop();
    // from kept snapshots as well
    expect((await ask(wearModel('1.0.0'))).differences).toEqual([]);
  }, 60_000);

  it('tells what another version would have found, and when', async () => {
    await lived(heats);
    const before = await everything();
    const keen = await ask(wearModel('1.1.0', 1.3));
    expect(keen.summary.tally.alert).toMatchObject({ was: 4, now: 4, same: 2, earlier: 2 });
    expect(keen.differences.find(({ what }) => what === 'alert')).toMatchObject({
      change: 'earlier',
      name: 'worn',
      was: { severity: 'warning' },
    });
    expect(keen.differences.some(({ what, change }) => what === 'anomaly' && change !== 'lost')).toBe(true);
    const blind = await ask(wearModel('2.0.0', 0.5));
    expect(blind.summary.tally.alert).toMatchObject({ was: 4, now: 2, same: 2, lost: 2 });
    expect(blind.summary.tally.anomaly.now).toBe(0);
    expect(await everything()).toEqual(before);
    await live.stop();
  }, 60_000);

  it('counts from where it is told to, and leaves the rest as it was', async () => {
    await lived(heats);
    const half = T0 + (heats.length / 2) * 4_000;
    const blind = await ask(wearModel('2.0.0', 0.5), { from: half + 1 });
    expect(blind.summary.tally.alert).toMatchObject({ was: 2, now: 1, lost: 1 });
    expect(blind.summary.readings).toBe(heats.length / 2);
    const none = await ask(wearModel('2.0.0', 0.5), { twins: ['valve:none'] });
    expect(none.summary.twins).toEqual({ total: 0, done: 0 });
    await expect(ask(wearModel('1.0.0'), { model: 'none' })).rejects.toMatchObject({ code: 'bad_request' });
    await live.stop();
  }, 60_000);

  it('takes operators along: what they acknowledged is acknowledged, under its other id', async () => {
    await lived([...Array.from({ length: 6 }, () => 50), ...Array.from({ length: 6 }, () => 120)]);
    const { alerts } = await live.host.get(TWIN);
    const worn = alerts.find(({ rule }) => rule === 'worn')!;
    await live.command({ key: 'a', by: 'me', name: 'resolve', alert: worn.alertId });
    await live.settle();
    for (let i = 0; i < 6; i++) {
      live.now += 6_000;
      await live.send({ at: live.now, values: { heat: 120 } });
      await live.settle();
    }
    // resolved, and raised again by the next answer, there as here
    const other = wearModel('1.1.0', 1.01);
    const { summary, differences } = await ask({
      async predict(request) {
        const { predictions } = await other.predict(request);
        // the first is refused: from there on revisions are others, and so are the ids of alerts
        return { predictions: predictions.map((said, i) => (request.at[i] === T0 + 4_000 ? null : said)) };
      },
    });
    expect(summary.answers.refused).toBe(1);
    expect(summary.tally.alert).toMatchObject({ was: 3, now: 3, same: 3 });
    expect(differences).toEqual([]);
    await live.stop();
  }, 30_000);
});
