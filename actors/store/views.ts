import type { Kind } from '../protocol/kind.ts';

/**
 * Views for people and tools who know the tables by their old names. They hold nothing; dropping them loses nothing.
 * `latest_<kind>_status` is a row a twin, at most a second behind.
 */
export function viewsOf(kinds: readonly Kind[]): string {
  const views: [name: string, select: string][] = [];
  for (const kind of kinds) {
    views.push([`latest_${kind.kind}_status`, latest(kind)]);
    for (const [step, names] of Object.entries(AGGREGATES[kind.kind] ?? {})) {
      for (const name of names) views.push([name, aggregate(kind, step)]);
    }
    const history = HISTORIES[kind.kind];
    if (history) views.push([history, readings(kind)]);
  }
  return views.map(([name, select]) => viewStatement(name, select)).join('\n');
}

/**
 * Replaces a view in place where its columns allow it, else makes it anew; a view that others have built upon is left
 * as it was, because theirs are not ours to drop.
 */
function viewStatement(name: string, select: string): string {
  return `do $do$ begin
  create or replace view ${name} as ${select};
exception when invalid_table_definition then
  begin
    drop view ${name};
    create view ${name} as ${select};
  exception when dependent_objects_still_exist then
    raise warning 'view ${name} keeps its old columns: other views depend on it';
  end;
end $do$;`;
}

/** Old names of the history itself. */
const HISTORIES: Record<string, string> = { battery: 'ev_telemetry', device: 'iot_data' };

/** Old names of the aggregates, by kind and step. */
const AGGREGATES: Record<string, Record<string, string[]>> = {
  battery: { hourly: ['ev_telemetry_hourly'] },
  mote: { hourly: ['sensor_reading_hourly_agg'], daily: ['sensor_reading_daily_agg'] },
};

/** What the outside calls the id of an asset of this kind, e.g. `battery_id`. */
function idColumn(kind: Kind): string {
  return kind.prometheusLabel ?? `${kind.kind}_id`;
}

function latest(kind: Kind): string {
  const values = kind.openMetrics
    ? 't.reported'
    : kind.metricNames.map((name) => `(t.reported->>'${name}')::float8 as "${name}"`).join(', ');
  return `
  select t.id as "${idColumn(kind)}", t.twin_id, t.at as "timestamp", ${values},
    t.health, t.online, t.retired, t.alerts, t.revision, t.received_at
  from twins t where t.kind = '${kind.kind}'`;
}

function readings(kind: Kind): string {
  const values = kind.openMetrics
    ? 'r.metric as sensor_type, r.value, r.unit'
    : kind.metricNames.map((name) => `r."${name}"`).join(', ');
  return `
  select t.id as "${idColumn(kind)}", t.twin_id, r.at as "timestamp", ${values}, r.received_at, r.revision
  from ${kind.kind}_readings r join twins t on t.twin = r.twin`;
}

/** One row a twin and bucket, a column a metric and statistic; the tables underneath have a row a metric. */
function aggregate(kind: Kind, step: string): string {
  const columns = kind.metricNames.flatMap((name) =>
    ['avg', 'min', 'max', 'std', 'median', 'null_count'].map(
      (statistic) => `max(a.${statistic}) filter (where a.metric = '${name}') as "${name}_${statistic}"`,
    ),
  );
  return `
  select t.id as "${idColumn(kind)}", t.twin_id, a.bucket as "${step === 'daily' ? 'day' : 'hour'}",
    ${columns.join(',\n    ')}, max(a.record_count) as record_count
  from ${kind.kind}_readings_${step} a join twins t on t.twin = a.twin
  group by t.id, t.twin_id, a.bucket`;
}
