import type { Kind } from '../../protocol/kind.ts';
import type { Health } from '../../protocol/view.ts';
import type { Sql } from '../sql.ts';
import { Binder } from './page.ts';
import { TWIN_COLUMNS, type TwinItem, type TwinRow, twinItem } from './twin-list.ts';

/** The fleet in numbers. Retired twins are counted apart and nowhere else. */
export interface Fleet {
  total: number;
  retired: number;
  health: Record<Health, number>;
  /** Offline: said so by the device, or without a reading for its kind's limit. */
  silent: number;
  /** What is shown may be old: silent, or nothing received for the kind's limit although nobody has said offline yet. */
  stale: number;
  /** How many alerts stand. */
  alerts: number;
  kinds: Record<string, FleetOfKind>;
  /** Those that need somebody first. */
  worst: TwinItem[];
}

export interface FleetOfKind {
  total: number;
  health: Record<Health, number>;
  silent: number;
  stale: number;
  alerts: number;
}

interface CountRow {
  kind: string;
  health: Health;
  retired: boolean;
  total: number;
  silent: number;
  stale: number;
  alerts: number;
}

const emptyCounts = (): FleetOfKind => ({
  total: 0,
  health: { ok: 0, warning: 0, critical: 0, unknown: 0 },
  silent: 0,
  stale: 0,
  alerts: 0,
});

/** Counts and the `worst` twins: critical before warning before unknown before ok, then by alerts, then offline first. */
export async function fleet(sql: Sql, kinds: readonly Kind[], nowMs: number, worst: number): Promise<Fleet> {
  const binder = new Binder();
  const limits = kinds
    .map((kind) => `(${binder.add(kind.kind, '::text')}, ${binder.time(nowMs - kind.silentAfterMs)})`)
    .join(', ');
  const counts = await sql.query<CountRow>(
    `select t.kind, t.health, t.retired, count(*) as total, count(*) filter (where not t.online) as silent,
            count(*) filter (where not t.online or t.received_at < l.since) as stale, sum(t.alerts)::float8 as alerts
     from twins t left join (values ${limits}) as l(kind, since) on l.kind = t.kind
     group by t.kind, t.health, t.retired`,
    binder.values,
  );
  const rows = await sql.query<TwinRow>(
    `select ${TWIN_COLUMNS} from twins t
     where not t.retired and (t.health <> 'ok' or t.alerts > 0 or not t.online)
     order by case t.health when 'critical' then 0 when 'warning' then 1 when 'unknown' then 2 else 3 end,
              t.alerts desc, t.online, t.kind, t.id
     limit $1::int`,
    [worst],
  );
  const out: Fleet = { ...emptyCounts(), retired: 0, kinds: {}, worst: rows.map(twinItem) };
  for (const kind of kinds) out.kinds[kind.kind] = emptyCounts();
  for (const row of counts) {
    if (row.retired) {
      out.retired += row.total;
      continue;
    }
    out.kinds[row.kind] ??= emptyCounts();
    for (const sum of [out, out.kinds[row.kind]]) {
      sum.total += row.total;
      sum.health[row.health] += row.total;
      sum.silent += row.silent;
      sum.stale += row.stale;
      sum.alerts += row.alerts;
    }
  }
  return out;
}
