import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listRules, loadTuning, patchRule, type RulePatch } from '../../../actors/store/queries/tuning.ts';
import type { Sql } from '../../../actors/store/sql.ts';
import { boiler, KINDS, openDatabase } from './database.ts';

let sql: Sql;
beforeAll(async () => {
  sql = await openDatabase();
});
afterAll(() => sql.close());

describe('rules', () => {
  it('are those of the kinds until somebody changes them', async () => {
    expect(await loadTuning(sql, KINDS, 1_000)).toEqual(
      new Map([
        ['boiler', { version: 0, latenessMs: 1_000, rules: {} }],
        ['gadget', { version: 0, latenessMs: 1_000, rules: {} }],
      ]),
    );
    const rules = await listRules(sql, KINDS);
    expect(rules).toMatchObject([
      { kind: 'boiler', name: 'hot', above: 90, enabled: true, override: {}, updatedBy: null },
      { kind: 'boiler', name: 'dry', below: 1, enabled: true, override: {} },
    ]);
  });

  it('change piece by piece, and every change has a version of its own', async () => {
    expect(await patchRule(sql, boiler, 'hot', { above: 80, severity: 'critical' }, 'olga')).toMatchObject({
      above: 80,
      severity: 'critical',
      hysteresis: 2,
      override: { above: 80, severity: 'critical' },
      updatedBy: 'olga',
    });
    await patchRule(sql, boiler, 'hot', { severity: null, enabled: false }, 'olga');
    await patchRule(sql, boiler, 'dry', { holdMs: 10 }, 'olga');
    const tunings = await loadTuning(sql, KINDS, 2_000);
    expect(tunings.get('boiler')).toEqual({
      version: 3,
      latenessMs: 2_000,
      rules: { hot: { above: 80, enabled: false }, dry: { holdMs: 10 } },
    });
    expect(tunings.get('gadget')).toEqual({ version: 0, latenessMs: 2_000, rules: {} });
  });

  it('go back to the rule of the kind, with a new version', async () => {
    const item = await patchRule(sql, boiler, 'hot', { above: null, enabled: null }, 'olga');
    expect(item).toMatchObject({ above: 90, severity: 'high', enabled: true, override: {} });
    expect((await loadTuning(sql, KINDS, 1)).get('boiler')).toEqual({
      version: 4,
      latenessMs: 1,
      rules: { dry: { holdMs: 10 } },
    });
  });

  it('changed at once by two keep both changes', async () => {
    await Promise.all([
      patchRule(sql, boiler, 'hot', { above: 70 }, 'a'),
      patchRule(sql, boiler, 'hot', { cooldownMs: 1 }, 'b'),
    ]);
    expect((await loadTuning(sql, KINDS, 1)).get('boiler')).toMatchObject({
      version: 6,
      rules: { hot: { above: 70, cooldownMs: 1 } },
    });
  });

  it('that the kind no longer has are not in force', async () => {
    await sql.query(`insert into rule_overrides (kind, rule, override) values ('boiler', 'gone', '{"above": 1}')`);
    expect(Object.keys((await loadTuning(sql, KINDS, 1)).get('boiler')!.rules).sort()).toEqual(['dry', 'hot']);
  });

  it.each<[unknown, string]>([
    [{}, 'nothing is changed'],
    [{ below: 3 }, 'below does not apply: the rule has above'],
    [{ above: 501 }, 'above must lie in -100 to 500 °C'],
    [{ above: '90' }, 'above must be a number'],
    [{ above: Number.NaN }, 'above must be a number'],
    [{ hysteresis: -1 }, 'hysteresis must be a number from 0'],
    [{ holdMs: 1.5 }, 'holdMs must be whole milliseconds'],
    [{ cooldownMs: 1e15 }, 'cooldownMs must be whole milliseconds'],
    [{ severity: 'awful' }, 'severity must be one of'],
    [{ enabled: 'no' }, 'enabled must be true or false'],
    [{ metric: 'flow' }, 'metric is nothing a rule has'],
    [JSON.parse('{"__proto__": 1}'), '__proto__ is nothing a rule has'],
    [{ constructor: null }, 'constructor is nothing a rule has'],
  ])('refuse %j', async (patch, message) => {
    const before = await loadTuning(sql, KINDS, 1);
    const refused = patchRule(sql, boiler, 'hot', patch as RulePatch, 'x');
    await expect(refused).rejects.toMatchObject({ code: 'bad_request', message: expect.stringContaining(message) });
    expect(await loadTuning(sql, KINDS, 1)).toEqual(before);
  });

  it('that there are not are not found', async () => {
    await expect(patchRule(sql, boiler, 'nope', { above: 1 }, 'x')).rejects.toMatchObject({ code: 'not_found' });
  });
});
