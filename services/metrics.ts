import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Clock } from '../actors/protocol/clock.ts';
import type { HostStatus, TwinEventListener } from '../actors/runtime/host-api.ts';
import { type DatabaseOptions, watchDatabase } from './metrics/database.ts';
import { type FleetOptions, watchFleet } from './metrics/fleet.ts';
import { watchLog } from './metrics/log.ts';
import { type PoolMetrics, poolMetrics, watchPools } from './metrics/pool.ts';
import { watchPredictions } from './metrics/predictions.ts';

/**
 * What Prometheus sees. Parts that count for themselves are read at the scrape (`follow…`); the rest is told here as it
 * happens (`cut`, `http`).
 *
 *  1. No label comes from outside unbounded: routes are patterns, codes and protocols are closed lists, twins are capped.
 *  2. A scrape never fails because one source does: what cannot be read is left out and counted.
 */
export interface IngressCounts {
  readonly tally: {
    readonly messages: ReadonlyMap<string, number>;
    /** By `protocol outcome`. */
    readonly readings: ReadonlyMap<string, number>;
    /** By `protocol code`. */
    readonly refusals: ReadonlyMap<string, number>;
  };
  readonly inFlightBytes: number;
  readonly ignoredFields: number;
  readonly paused: { since: number } | null;
}

export interface HostCounts {
  status(): HostStatus;
  onEvents(listener: TwinEventListener): () => void;
}

export interface HttpFacts {
  method: string;
  /** The pattern of the route, `/api/v1/twins/:twinId`, never the path itself. */
  route: string;
  status: number;
  durationMs: number;
}

const COUNTERS = {
  accepted: ['twinmesh_readings_accepted_total', 'Readings folded.'],
  late: ['twinmesh_readings_late_total', 'Readings that came out of order, inside the lateness window or behind it.'],
  duplicates: ['twinmesh_readings_duplicate_total', 'Readings that were there already.'],
  conflicts: ['twinmesh_readings_conflicting_total', 'Readings with the identity of another one and other values.'],
  backfilled: ['twinmesh_readings_backfilled_total', 'Readings older than the lateness window, stored and not folded.'],
  poison: ['twinmesh_readings_poison_total', 'Readings whose folding failed; they are in the dead letters.'],
  commits: ['twinmesh_commits_total', 'Checkpoints committed.'],
  fenced: [
    'twinmesh_commits_fenced_total',
    'Shards whose part of a checkpoint was refused because another node owns them.',
  ],
  aborted: ['twinmesh_commits_aborted_total', 'Checkpoints that the database refused.'],
  unknownOutcomes: ['twinmesh_commits_unknown_total', 'Checkpoints whose outcome was lost with the connection.'],
  activations: ['twinmesh_activations_total', 'Twins brought into memory.'],
  passivations: ['twinmesh_passivations_total', 'Twins that left memory.'],
  ticks: ['twinmesh_ticks_total', 'Ticks written for twins that waited.'],
  commands: ['twinmesh_commands_total', 'Commands journaled.'],
  events: ['twinmesh_events_total', 'Events committed.'],
} as const satisfies Record<keyof HostStatus['counters'], readonly [string, string]>;

export class Metrics {
  readonly registry = new Registry();
  readonly contentType = this.registry.contentType;
  readonly #clock: Clock;
  readonly #loop = monitorEventLoopDelay({ resolution: 10 });
  readonly #cutEntries: Histogram;
  readonly #cutDuration: Histogram;
  readonly #http: Histogram<'method' | 'route' | 'status'>;
  readonly #failures: Counter<'source'>;
  readonly #leave: (() => void)[] = [];
  /** What the parts that speak to the database are to tell. */
  readonly database: PoolMetrics;

  constructor(clock: Clock) {
    this.#clock = clock;
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#loop.enable();
    this.#gauge(
      'twinmesh_event_loop_lag_p99_ms',
      'Delay of the event loop since the last scrape, 99th percentile.',
      () => {
        const lag = this.#loop.percentile(99) / 1e6;
        this.#loop.reset();
        return Number.isFinite(lag) ? lag : 0;
      },
    );
    this.#cutEntries = new Histogram({
      name: 'twinmesh_cut_entries',
      help: 'Entries of one checkpoint.',
      buckets: [1, 10, 50, 100, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000],
      registers,
    });
    this.#cutDuration = new Histogram({
      name: 'twinmesh_cut_duration_ms',
      help: 'From sending a checkpoint to its answer.',
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000],
      registers,
    });
    this.#http = new Histogram({
      name: 'twinmesh_http_request_duration_ms',
      help: 'HTTP requests by route and status.',
      labelNames: ['method', 'route', 'status'],
      buckets: [1, 2, 5, 10, 20, 50, 100, 300, 800, 3000, 10_000],
      registers,
    });
    this.database = poolMetrics(this.registry);
    this.#failures = new Counter({
      name: 'twinmesh_scrape_failures_total',
      help: 'Sources that could not be read at a scrape.',
      labelNames: ['source'],
      registers,
    });
  }

  /** The exposition text. */
  text(): Promise<string> {
    return this.registry.metrics();
  }

  /** A checkpoint has been answered. */
  cut(entries: number, durationMs: number): void {
    this.#cutEntries.observe(entries);
    this.#cutDuration.observe(durationMs);
  }

  http({ method, route, status, durationMs }: HttpFacts): void {
    this.#http.observe({ method, route, status: String(status) }, durationMs);
  }

  /** Counters, shards and residents of the host; latency and score of the anomalies it commits. */
  followHost(host: HostCounts): void {
    const registers = [this.registry];
    for (const [counter, [name, help]] of Object.entries(COUNTERS)) {
      this.#counter(name, help, () => host.status().counters[counter as keyof typeof COUNTERS]);
    }
    this.#gauge('twinmesh_shards_owned', 'Shards that this node owns.', () => host.status().shards.owned);
    this.#gauge('twinmesh_shards', 'Shards there are.', () => host.status().shards.total);
    this.#gauge('twinmesh_twins_resident', 'Twins in memory.', () => host.status().twins.resident);
    this.#gauge('twinmesh_stale', '1 while telemetry does not move; see /health/ready.', () =>
      host.status().stale === null ? 0 : 1,
    );
    const latency = new Histogram({
      name: 'anomaly_detection_latency_ms',
      help: 'From receiving a reading to the commit of the anomaly that a detector, or a model asked about it, found in it.',
      buckets: [5, 10, 20, 50, 100, 200, 500, 1000, 5000],
      registers,
    });
    const score = new Histogram({
      name: 'anomaly_score_distribution',
      help: 'Scores of the anomalies found: |z|, or the ratio to the limit or to the threshold of the model.',
      buckets: [1, 2, 3, 4, 5, 7, 10, 20, 50, 100],
      registers,
    });
    const byType = new Counter({
      name: 'twinmesh_events_by_type_total',
      help: 'Events committed by type.',
      labelNames: ['type'],
      registers,
    });
    this.#leave.push(
      host.onEvents((events, heardAt) => {
        const now = this.#clock.now();
        for (const event of events) {
          byType.inc({ type: event.type });
          if (event.type !== 'anomaly.detected') continue;
          // What a model found was received when it answered: the reading that it was asked about came before.
          latency.observe(Math.max(0, now - (heardAt.get(event) ?? event.receivedAt)));
          const { score: said, threshold, detector } = event.body;
          if (typeof said !== 'number') continue;
          // A model's score means something beside its threshold only.
          if (detector !== 'model') score.observe(said);
          else if (typeof threshold === 'number' && threshold > 0) score.observe(said / threshold);
        }
      }),
    );
  }

  followIngress(ingress: IngressCounts): void {
    const { tally } = ingress;
    this.#counter('mqtt_messages_received_total', 'MQTT messages received.', () => tally.messages.get('mqtt') ?? 0);
    this.#counters('twinmesh_messages_received_total', 'Payloads by protocol.', ['protocol'], tally.messages);
    this.#counters('twinmesh_ingest_readings_total', 'Readings by outcome.', ['protocol', 'outcome'], tally.readings);
    this.#counters(
      'twinmesh_readings_rejected_total',
      'Messages refused by code.',
      ['protocol', 'code'],
      tally.refusals,
    );
    this.#counter(
      'twinmesh_ignored_fields_total',
      'Fields that mean nothing to their kind.',
      () => ingress.ignoredFields,
    );
    this.#gauge('twinmesh_ingest_in_flight_bytes', 'Payloads received and not yet done.', () => ingress.inFlightBytes);
    this.#gauge('twinmesh_ingest_paused', '1 while the log takes nothing.', () => (ingress.paused === null ? 0 : 1));
  }

  /** Readings appended and not yet committed. */
  followLog(log: { readonly held: number }): void {
    this.#gauge('twinmesh_log_lag_readings', 'Readings in the log that are not committed.', () => log.held);
  }

  /** The log that nodes share. */
  followSharedLog(status: Parameters<typeof watchLog>[1]): void {
    watchLog(this.registry, status);
  }

  /** Gauges of twins and kinds, from the summaries in the store. */
  followFleet(options: Omit<FleetOptions, 'registry' | 'onFailure' | 'clock'>): void {
    const watched = {
      ...options,
      registry: this.registry,
      clock: this.#clock,
      onFailure: () => this.#failures.inc({ source: 'fleet' }),
    };
    watchFleet(watched);
    watchPredictions({ ...watched, onFailure: () => this.#failures.inc({ source: 'predictions' }) });
  }

  /** The database by its own statistics, open alerts, and how fresh each kind is. */
  followDatabase(options: Omit<DatabaseOptions, 'registry' | 'onFailure' | 'clock'>): void {
    watchDatabase({
      ...options,
      registry: this.registry,
      clock: this.#clock,
      onFailure: () => this.#failures.inc({ source: 'database' }),
    });
  }

  /** Connections to the database, where it is a server. */
  followPools(pools: Parameters<typeof watchPools>[1]): void {
    watchPools(this.registry, pools);
  }

  followTracing(tracing: { readonly counts: { readonly sent: number; readonly lost: number } }): void {
    this.#counter('twinmesh_trace_spans_sent_total', 'Spans that the collector took.', () => tracing.counts.sent);
    this.#counter('twinmesh_trace_spans_lost_total', 'Spans that it did not take.', () => tracing.counts.lost);
  }

  /** Connections, pools and whatever else a part counts for itself. */
  followGauge(name: string, help: string, read: () => number): void {
    this.#gauge(name, help, read);
  }

  close(): void {
    for (const leave of this.#leave.splice(0)) leave();
    this.#loop.disable();
    this.registry.clear();
  }

  #gauge(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.registry], collect: () => gauge.set(read()) });
  }

  #counter(name: string, help: string, read: () => number): void {
    const counter: Counter = new Counter({
      name,
      help,
      registers: [this.registry],
      collect() {
        counter.reset();
        counter.inc(read());
      },
    });
  }

  /** One series an entry; the keys hold the label values, separated by spaces. */
  #counters(name: string, help: string, labels: string[], counts: ReadonlyMap<string, number>): void {
    const counter: Counter = new Counter({
      name,
      help,
      labelNames: labels,
      registers: [this.registry],
      collect() {
        counter.reset();
        for (const [key, count] of counts) {
          const values = key.split(' ');
          counter.inc(Object.fromEntries(labels.map((label, i) => [label, values[i] ?? ''])), count);
        }
      },
    });
  }
}
