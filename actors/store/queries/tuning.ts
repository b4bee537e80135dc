import { type RuleOverride, SEVERITIES, type Tuning } from '../../protocol/entry.ts';
import { TwinmeshError } from '../../protocol/errors.ts';
import type { Kind, RuleDefinition } from '../../protocol/kind.ts';
import type { Sql } from '../sql.ts';
import { DAY_MS } from './span.ts';

/**
 * Rules as operators changed them: `rule_overrides`, and per kind a version in `settings` that grows with every change and
 * never comes back, because twins journal a tuning by its version.
 */
export interface RuleItem extends RuleDefinition {
  kind: string;
  enabled: boolean;
  /** What differs from the rule of the kind; empty where nothing does. */
  override: RuleOverride;
  updatedAt: string | null;
  updatedBy: string | null;
}

/** A change of a rule: what is null goes back to the rule of the kind. */
export type RulePatch = { [Name in keyof RuleOverride]?: RuleOverride[Name] | null };

const LONGEST_MS = 365 * DAY_MS;
const settingOf = (kind: string) => `tuning.${kind}`;

/** The tuning of each kind as stored. Rules that the kind no longer has are left out. */
export async function loadTuning(sql: Sql, kinds: readonly Kind[], latenessMs: number): Promise<Map<string, Tuning>> {
  const rows = await sql.query<{
    kind: string;
    version: number | null;
    rule: string | null;
    override: RuleOverride | null;
  }>(
    `select k.kind, (s.value->>'version')::float8 as version, o.rule, o.override
     from unnest($1::text[]) as k(kind)
     left join settings s on s.name = 'tuning.' || k.kind left join rule_overrides o on o.kind = k.kind`,
    [kinds.map((kind) => kind.kind)],
  );
  const out = new Map<string, Tuning>(kinds.map((kind) => [kind.kind, { version: 0, latenessMs, rules: {} }]));
  for (const row of rows) {
    const tuning = out.get(row.kind)!;
    tuning.version = row.version ?? 0;
    const known = kinds.find((kind) => kind.kind === row.kind)!.rules.some((rule) => rule.name === row.rule);
    if (known && row.override !== null && Object.keys(row.override).length > 0) tuning.rules[row.rule!] = row.override;
  }
  return out;
}

/** The rules of the kinds with what operators changed. */
export async function listRules(sql: Sql, kinds: readonly Kind[]): Promise<RuleItem[]> {
  const rows = await sql.query<{
    kind: string;
    rule: string;
    override: RuleOverride;
    updated_at: Date;
    updated_by: string | null;
  }>('select kind, rule, override, updated_at, updated_by from rule_overrides where kind = any($1::text[])', [
    kinds.map((kind) => kind.kind),
  ]);
  const changed = new Map(rows.map((row) => [`${row.kind} ${row.rule}`, row]));
  return kinds.flatMap((kind) =>
    kind.rules.map((rule) => {
      const row = changed.get(`${kind.kind} ${rule.name}`);
      const override = row?.override ?? {};
      return {
        kind: kind.kind,
        ...rule,
        ...override,
        enabled: override.enabled ?? true,
        override,
        updatedAt: row?.updated_at.toISOString() ?? null,
        updatedBy: row?.updated_by ?? null,
      };
    }),
  );
}

/**
 * Stores a change of one rule, merged over what was changed before, and lets the version of the kind grow; one
 * statement. Throws `not_found` for a rule that the kind does not have, `bad_request` for a change that it cannot take.
 */
export async function patchRule(sql: Sql, kind: Kind, rule: string, patch: RulePatch, by: string): Promise<RuleItem> {
  const definition = kind.rules.find((candidate) => candidate.name === rule);
  if (definition === undefined) {
    throw new TwinmeshError(
      'not_found',
      `The kind ${kind.kind} has no such rule; it has ${kind.rules.map((r) => r.name).join(', ')}.`,
    );
  }
  checkPatch(kind, definition, patch);
  await sql.query(
    `with changed as (
       insert into rule_overrides as o (kind, rule, override, updated_at, updated_by)
       values ($1::text, $2::text, jsonb_strip_nulls($3::jsonb), now(), $4::text)
       on conflict (kind, rule) do update set override = jsonb_strip_nulls(o.override || $3::jsonb), updated_at = now(), updated_by = $4::text
     )
     insert into settings as s (name, value) values ($5::text, '{"version": 1}')
     on conflict (name) do update set value = jsonb_build_object('version', (s.value->>'version')::bigint + 1)`,
    [kind.kind, rule, JSON.stringify(patch), by, settingOf(kind.kind)],
  );
  const rules = await listRules(sql, [kind]);
  return rules.find((item) => item.name === rule)!;
}

/** Throws `bad_request` with every fault. */
function checkPatch(kind: Kind, rule: RuleDefinition, patch: RulePatch): void {
  const faults: string[] = [];
  for (const [name, value] of Object.entries(patch)) {
    if (value === undefined) continue;
    const fault =
      value === null && name in CHECKS
        ? null
        : (CHECKS[name]?.(value, kind, rule) ?? (name in CHECKS ? null : 'is nothing a rule has'));
    if (fault !== null) faults.push(`${name} ${fault}`);
  }
  if (Object.keys(patch).length === 0) faults.push(`nothing is changed: send one of ${Object.keys(CHECKS).join(', ')}`);
  if (faults.length > 0) throw new TwinmeshError('bad_request', `Rule ${rule.name}: ${faults.join('; ')}.`);
}

type Check = (value: unknown, kind: Kind, rule: RuleDefinition) => string | null;

const time: Check = (value) =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= LONGEST_MS
    ? null
    : 'must be whole milliseconds, up to a year';

const limit =
  (side: 'above' | 'below'): Check =>
  (value, kind, rule) => {
    if (rule[side] === undefined) return `does not apply: the rule has ${side === 'above' ? 'below' : 'above'}`;
    if (typeof value !== 'number' || !Number.isFinite(value)) return 'must be a number';
    const metric = kind.metrics[rule.metric];
    if (metric && (value < metric.min || value > metric.max))
      return `must lie in ${metric.min} to ${metric.max} ${metric.unit}`;
    return null;
  };

const CHECKS: Record<string, Check> = Object.assign(Object.create(null) as Record<string, Check>, {
  enabled: (value: unknown) => (typeof value === 'boolean' ? null : 'must be true or false'),
  above: limit('above'),
  below: limit('below'),
  hysteresis: (value: unknown) =>
    typeof value === 'number' && Number.isFinite(value) && value >= 0 ? null : 'must be a number from 0',
  holdMs: time,
  cooldownMs: time,
  severity: (value: unknown) =>
    (SEVERITIES as readonly unknown[]).includes(value) ? null : `must be one of ${SEVERITIES.join(', ')}`,
});
