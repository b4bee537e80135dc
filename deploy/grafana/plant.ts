import type { Dashboard } from './panel.ts';
import { HTTP, quantile } from './promql.ts';

/** Dashboards of the plant as a system: health and service levels. Figures that several nodes expose: their maximum. */
/** Streams last for hours and exports for minutes: they are no latencies. */
const ANSWERS = `${HTTP}_bucket{route!~".*(stream|export|load).*"}`;

export const SYSTEM_HEALTH: Dashboard = {
  uid: 'twinmesh-system',
  title: 'System health',
  description: 'Whether everything runs, and where it does not.',
  tags: ['system'],
  rows: [
    {
      title: 'Now',
      height: 5,
      panels: [
        {
          title: 'Parts that answer',
          kind: 'stat',
          unit: 'percentunit',
          queries: [{ expr: 'avg(up)' }],
          thresholds: [1, 0.9],
        },
        {
          title: 'Readings a second',
          kind: 'stat',
          queries: [{ expr: 'sum(rate(twinmesh_readings_accepted_total[1m]))' }],
        },
        {
          title: 'Telemetry stands still',
          description: 'Nodes that say so; /health/ready of the node says why.',
          kind: 'stat',
          queries: [{ expr: 'sum(twinmesh_stale)' }],
          thresholds: [1, 1],
        },
        {
          title: 'Failed requests',
          kind: 'stat',
          unit: 'percentunit',
          queries: [{ expr: 'twinmesh:http_errors:share5m or vector(0)' }],
          thresholds: [0.01, 0.05],
        },
        {
          title: 'Shards without an owner',
          kind: 'stat',
          queries: [{ expr: 'max(twinmesh_shards) - sum(twinmesh_shards_owned)' }],
          thresholds: [1, 1],
        },
        {
          title: 'Alerts firing',
          kind: 'stat',
          queries: [{ expr: 'count(ALERTS{alertstate="firing"}) or vector(0)' }],
          thresholds: [1, 3],
        },
      ],
    },
    {
      title: 'Requests',
      panels: [
        {
          title: 'Requests by route',
          unit: 'reqps',
          queries: [{ expr: `sum by (route) (rate(${HTTP}_count[1m]))`, legend: '{{route}}' }],
        },
        {
          title: 'p99 by route',
          unit: 'ms',
          queries: [{ expr: quantile(0.99, ANSWERS, 'route'), legend: '{{route}}' }],
        },
        {
          title: 'Answers by status',
          unit: 'reqps',
          queries: [{ expr: `sum by (status) (rate(${HTTP}_count[1m]))`, legend: '{{status}}' }],
        },
      ],
    },
    {
      title: 'Processes',
      panels: [
        {
          title: 'CPU of nodes',
          unit: 'percentunit',
          queries: [{ expr: 'rate(process_cpu_seconds_total{job="twinmesh"}[1m])', legend: '{{instance}}' }],
        },
        {
          title: 'Memory of nodes',
          unit: 'bytes',
          queries: [{ expr: 'process_resident_memory_bytes{job="twinmesh"}', legend: '{{instance}}' }],
        },
        {
          title: 'Event-loop lag, p99',
          unit: 'ms',
          queries: [{ expr: 'twinmesh_event_loop_lag_p99_ms', legend: '{{instance}}' }],
          thresholds: [100, 500],
        },
      ],
    },
    {
      title: 'Machine',
      panels: [
        {
          title: 'CPU',
          unit: 'percentunit',
          max: 1,
          queries: [
            { expr: '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[1m]))', legend: '{{instance}}' },
          ],
        },
        {
          title: 'Disk left',
          unit: 'percentunit',
          max: 1,
          queries: [
            {
              expr: 'node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|ramfs"} / node_filesystem_size_bytes',
              legend: '{{mountpoint}}',
            },
          ],
        },
        {
          title: 'Memory left',
          unit: 'bytes',
          queries: [{ expr: 'node_memory_MemAvailable_bytes', legend: '{{instance}}' }],
        },
      ],
    },
    {
      title: 'Log',
      panels: [
        {
          title: 'Warnings and errors of the nodes',
          kind: 'logs',
          queries: [{ expr: '{container=~"twinmesh-.*", level=~"warn|error|fatal"}' }],
        },
      ],
    },
  ],
};

export const SLO: Dashboard = {
  uid: 'twinmesh-slo',
  title: 'Service levels',
  description: 'What is promised, against what was measured.',
  tags: ['slo'],
  from: 'now-24h',
  rows: [
    {
      title: 'Availability',
      height: 6,
      panels: [
        {
          title: 'Available over 30 days (promised 99.9 %)',
          description: 'Share of requests that were not answered 5xx.',
          kind: 'stat',
          unit: 'percentunit',
          queries: [
            {
              expr: `1 - (sum(increase(${HTTP}_count{status=~"5.."}[30d])) or vector(0)) / (sum(increase(${HTTP}_count[30d])) > 0)`,
            },
          ],
          thresholds: [0.999, 0.995],
        },
        {
          title: 'Error budget left of 30 days',
          kind: 'gauge',
          unit: 'percentunit',
          min: 0,
          max: 1,
          queries: [
            {
              expr: `1 - (sum(increase(${HTTP}_count{status=~"5.."}[30d])) or vector(0)) / (sum(increase(${HTTP}_count[30d])) > 0) / 0.001`,
            },
          ],
          thresholds: [0.5, 0.1],
        },
        {
          title: 'Freshness of each kind (promised under 1 min)',
          kind: 'stat',
          unit: 's',
          queries: [{ expr: 'max by (kind) (twinmesh_freshness_seconds)', legend: '{{kind}}' }],
          thresholds: [30, 60],
        },
      ],
    },
    {
      title: 'Latency, p95',
      panels: [
        {
          title: 'Latest values (promised 100 ms)',
          unit: 'ms',
          queries: [
            {
              expr: quantile(
                0.95,
                `${HTTP}_bucket{method="GET",route=~"/api/v1/(twins|twins/:twinId|fleet|sensors/latest)"}`,
              ),
              legend: 'p95',
            },
          ],
          thresholds: [80, 100],
        },
        {
          title: 'Series (promised 300 ms)',
          unit: 'ms',
          queries: [
            {
              expr: quantile(0.95, `${HTTP}_bucket{method="GET",route=~".*/(history|readings|events)"}`),
              legend: 'p95',
            },
          ],
          thresholds: [240, 300],
        },
        {
          title: 'Aggregates (promised 400 ms)',
          unit: 'ms',
          queries: [
            {
              expr: quantile(0.95, `${HTTP}_bucket{method="GET",route=~".*/(stats|daily-summary|anomalies)"}`),
              legend: 'p95',
            },
          ],
          thresholds: [320, 400],
        },
      ],
    },
    {
      title: 'Telemetry',
      panels: [
        {
          title: 'Commit of a checkpoint, p99 (device to database promised under 100 ms)',
          unit: 'ms',
          queries: [{ expr: quantile(0.99, 'twinmesh_cut_duration_ms_bucket'), legend: 'p99' }],
          thresholds: [80, 100],
        },
        {
          title: 'Anomaly after its reading, p99 (promised 100 ms)',
          unit: 'ms',
          queries: [{ expr: quantile(0.99, 'anomaly_detection_latency_ms_bucket'), legend: 'p99' }],
          thresholds: [80, 100],
        },
        {
          title: 'Refused readings (promised under 0.1 %)',
          unit: 'percentunit',
          queries: [{ expr: 'twinmesh:refused:share5m or vector(0)', legend: 'refused' }],
          thresholds: [0.0005, 0.001],
        },
      ],
    },
  ],
};
