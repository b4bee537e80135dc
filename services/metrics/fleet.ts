import { Gauge, type Registry } from 'prom-client';
import type { Clock } from '../../actors/protocol/clock.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { glance } from './glance.ts';

/**
 * Gauges of the fleet, read from the summaries (at most a second old) and kept for a scrape interval.
 *
 *  1. A kind with more than `maxTwins` twins in service has aggregates only: each label value is a time series.
 *  2. A scrape waits for at most one look at the store, and not for long; without it the last one stands.
 */
export interface FleetOptions {
  registry: Registry;
  clock: Clock;
  sql: Pick<Sql, 'query'>;
  kinds: readonly Kind[];
  maxTwins: number;
  onFailure(): void;
  /** How long one look at the store serves. */
  keepMs?: number;
}

interface Look {
  counts: { kind: string; health: string; online: boolean; twins: number }[];
  aggregates: { kind: string; metric: string; twins: number; avg: number; min: number; max: number }[];
  twins: { kind: string; id: string; reported: Record<string, number> }[];
  /** What people said of anomalies, by who found them. */
  judged: { kind: string; detector: string; model: string; confirmed: number; rejected: number }[];
}

export function watchFleet(options: FleetOptions): void {
  const { registry, clock, sql, kinds, maxTwins } = options;
  // Every gauge asks for the same look: the first one of a scrape takes it.
  const latest = glance<Look>({
    clock,
    look: () => lookAt(sql, kinds, maxTwins),
    onFailure: options.onFailure,
    keepMs: options.keepMs ?? 10_000,
  });

  const gauge = (name: string, help: string, labelNames: string[], fill: (gauge: Gauge, look: Look) => void): void => {
    const made: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      async collect() {
        const seen = await latest();
        made.reset();
        if (seen) fill(made, seen);
      },
    });
  };

  gauge('twinmesh_twins', 'Twins in service.', ['kind', 'health', 'online'], (g, { counts }) => {
    for (const { kind, health, online, twins } of counts) g.set({ kind, health, online: String(online) }, twins);
  });
  gauge(
    'twinmesh_reported',
    'Reported values over all twins of a kind.',
    ['kind', 'metric', 'aggregate'],
    (g, seen) => {
      for (const { kind, metric, avg, min, max } of seen.aggregates) {
        for (const [aggregate, value] of Object.entries({ avg, min, max })) g.set({ kind, metric, aggregate }, value);
      }
    },
  );
  gauge('false_positive_rate', 'Rejected share of the anomalies that somebody has judged.', [], (g, seen) => {
    const confirmed = seen.judged.reduce((sum, row) => sum + row.confirmed, 0);
    const rejected = seen.judged.reduce((sum, row) => sum + row.rejected, 0);
    if (confirmed + rejected > 0) g.set(rejected / (confirmed + rejected));
  });
  gauge(
    'twinmesh_false_positive_rate',
    'The same by kind and by who found them: a detector, or a version of a model.',
    ['kind', 'detector', 'model'],
    (g, seen) => {
      for (const { confirmed, rejected, ...labels } of seen.judged) {
        if (confirmed + rejected > 0) g.set(labels, rejected / (confirmed + rejected));
      }
    },
  );
  for (const kind of kinds) {
    const label = kind.prometheusLabel ?? 'twin_id';
    for (const metric of kind.metricNames) {
      const { gauge: name, unit, title } = kind.metrics[metric];
      if (name === undefined) continue;
      gauge(name, `${title ?? metric} in ${unit}, as last reported.`, [label], (g, seen) => {
        for (const twin of seen.twins) {
          const value = twin.kind === kind.kind ? twin.reported[metric] : undefined;
          if (typeof value !== 'number') continue;
          g.set({ [label]: label === 'twin_id' ? `${twin.kind}:${twin.id}` : twin.id }, value);
        }
      });
    }
  }
}

async function lookAt(sql: Pick<Sql, 'query'>, kinds: readonly Kind[], maxTwins: number): Promise<Look> {
  const counts = await sql.query<Look['counts'][number]>(
    'select kind, health, online, count(*)::int as twins from twins where not retired group by 1, 2, 3',
  );
  const aggregates = await sql.query<Look['aggregates'][number]>(
    `select kind, key as metric, count(*)::int as twins, avg(value::float8) as avg, min(value::float8) as min, max(value::float8) as max
     from twins, jsonb_each_text(reported) where not retired and kind = any($1) group by 1, 2`,
    [kinds.filter((kind) => !kind.openMetrics).map((kind) => kind.kind)],
  );
  const totals = new Map<string, number>();
  for (const { kind, twins } of counts) totals.set(kind, (totals.get(kind) ?? 0) + twins);
  const shown = kinds
    .filter((kind) => kind.metricNames.some((name) => kind.metrics[name].gauge !== undefined))
    .map((kind) => kind.kind)
    .filter((kind) => (totals.get(kind) ?? 0) <= maxTwins);
  const twins = await sql.query<Look['twins'][number]>(
    'select kind, id, reported from twins where not retired and kind = any($1) order by kind, id limit $2',
    [shown, shown.length * maxTwins],
  );
  const judged = await sql.query<Look['judged'][number]>(
    `select kind, detector, coalesce(model, '') as model, count(*) filter (where is_confirmed)::int as confirmed,
       count(*) filter (where not is_confirmed)::int as rejected
     from anomaly_events where is_confirmed is not null group by 1, 2, 3`,
  );
  return { counts, aggregates, twins, judged };
}
