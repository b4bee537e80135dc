import { Counter, Gauge, type Registry } from 'prom-client';
import type { Clock } from '../../actors/protocol/clock.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { glance } from './glance.ts';

/**
 * What models said last of each twin, for the names that the outside expects, from the journal.
 *
 *  1  A kind with more than `maxTwins` twins in service has none of these: each label value is a time series.
 *  2  A look reads the newest predictions of each twin and nothing older; what has come since the look before is counted then.
 */
export interface PredictionOptions {
  registry: Registry;
  clock: Clock;
  sql: Pick<Sql, 'query'>;
  kinds: readonly Kind[];
  maxTwins: number;
  onFailure(): void;
  keepMs?: number;
}

/** Gauges by the name of the model that says them. */
const GAUGES: Record<string, { name: string; help: string }> = {
  'battery-rul': { name: 'battery_rul_cycles', help: 'Remaining useful life in cycles, as the model says it.' },
  'battery-failure': { name: 'battery_failure_probability', help: 'Probability of failure, as the model says it.' },
};
const COUNTED_KIND = 'battery';
/** Newest predictions of a twin that are looked through: more than it has models. */
const NEWEST = 25;

interface Row {
  kind: string;
  id: string;
  twin: string;
  revision: string;
  model: string | null;
  value: number | null;
}

export function watchPredictions(options: PredictionOptions): void {
  const { registry, clock, kinds } = options;
  const used = kinds.filter((kind) => Object.values(kind.models ?? {}).some(({ model }) => model in GAUGES));
  const labels = new Map(used.map((kind) => [kind.kind, kind.prometheusLabel ?? 'twin_id']));
  const tally = new Tally();
  const latest = glance<Row[]>({
    clock,
    look: () => lookAt(options, [...labels.keys()]),
    onFailure: options.onFailure,
    keepMs: options.keepMs ?? 10_000,
  });
  const registers = [registry];
  for (const [model, { name, help }] of Object.entries(GAUGES)) {
    const label = labels.get(model.split('-')[0]) ?? 'twin_id';
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames: [label],
      registers,
      async collect() {
        const rows = await latest();
        gauge.reset();
        const seen = new Set<string>();
        // Newest first: the first row of a twin is what stands.
        for (const row of rows ?? []) {
          if (row.model?.split('@')[0] !== model || row.value === null || seen.has(row.twin)) continue;
          seen.add(row.twin);
          gauge.set({ [label]: row.id }, row.value);
        }
      },
    });
  }
  const label = labels.get(COUNTED_KIND) ?? 'battery_id';
  const total: Counter = new Counter({
    name: 'battery_predictions_total',
    help: 'Predictions journaled of a battery, seen by this node since it started.',
    labelNames: [label],
    registers,
    async collect() {
      const rows = await latest();
      if (rows !== null) tally.see(rows.filter(({ kind }) => kind === COUNTED_KIND));
      total.reset();
      for (const { count, id } of tally.counts()) total.inc({ [label]: id }, count);
    },
  });
}

/** Counts what is new since the look before, by revision. Of more than `NEWEST` between two looks the oldest are not counted. */
class Tally {
  readonly #twins = new Map<string, { revision: bigint; count: number; id: string }>();
  #hasLooked = false;

  see(rows: readonly Row[]): void {
    const newest = new Map<string, bigint>();
    for (const { twin, id, revision: text } of rows) {
      const revision = BigInt(text);
      const known = this.#twins.get(twin) ?? { revision: -1n, count: 0, id };
      this.#twins.set(twin, known);
      // What was there before this node began is not its to count.
      if (this.#hasLooked && revision > known.revision) known.count++;
      if (revision > (newest.get(twin) ?? -1n)) newest.set(twin, revision);
    }
    for (const [twin, revision] of newest) {
      const known = this.#twins.get(twin);
      if (known && revision > known.revision) known.revision = revision;
    }
    this.#hasLooked = true;
  }

  counts(): Iterable<{ count: number; id: string }> {
    return this.#twins.values();
  }
}

async function lookAt({ sql, maxTwins }: PredictionOptions, kinds: readonly string[]): Promise<Row[]> {
  if (kinds.length === 0) return [];
  const counts = await sql.query<{ kind: string; twins: number }>(
    'select kind, count(*)::int as twins from twins where not retired and kind = any($1) group by 1',
    [kinds],
  );
  const shown = counts.filter(({ twins }) => twins <= maxTwins).map(({ kind }) => kind);
  if (shown.length === 0) return [];
  return sql.query<Row>(
    `select t.kind, t.id, t.twin::text as twin, e.revision::text as revision, e.body->'prediction'->>'model' as model,
       (e.body->'prediction'->>'value')::float8 as value
     from twins t cross join lateral (
       select revision, body from entries where twin = t.twin and type = 'prediction' order by revision desc limit $2
     ) e
     where not t.retired and t.kind = any($1) order by t.twin, e.revision desc`,
    [shown, NEWEST],
  );
}
