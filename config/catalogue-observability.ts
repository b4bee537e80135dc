import { choice, decimal, hidden, integer, port, text, url } from './setting.ts';

/** Settings of metrics, traces and logs. */
export const OBSERVABILITY = {
  METRICS_PORT: port(
    'observability',
    9100,
    'Port of /metrics and /health on HOST for nodes without the gateway role; the gateway has them on its own.',
  ),
  METRICS_TOKEN: hidden(
    text(
      '16 to 256 characters without spaces',
      /^\S{16,256}$/,
      'observability',
      null,
      'Bearer token that opens /metrics from elsewhere. Without it /metrics answers to this machine only.',
    ),
  ),
  METRICS_MAX_TWINS: integer(
    'twins',
    0,
    100_000,
    'observability',
    200,
    'Up to so many twins of a kind have gauges of their own; above it that kind exposes aggregates only, because every label is a time series.',
  ),
  METRICS_KEEP_MS: integer(
    'ms',
    100,
    3_600_000,
    'observability',
    10_000,
    'How long what /metrics looks up in the database serves: scrapes within it ask the database nothing.',
  ),
  OTEL_EXPORTER_OTLP_ENDPOINT: url(
    ['http:', 'https:'],
    'observability',
    null,
    'OpenTelemetry collector (OTLP over HTTP, such as http://localhost:4318) that gets traces. Left out, nothing is traced.',
  ),
  TRACE_SAMPLE: decimal(
    'share',
    0,
    1,
    'observability',
    0.01,
    'Share of messages and requests that are traced, from their arrival to their events. 1 traces everything and costs throughput.',
  ),
  LOG_LEVEL: choice(
    ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
    'observability',
    'info',
    'Least level that is logged. debug logs every request; trace every call inside.',
  ),
  LOG_FORMAT: choice(
    ['auto', 'json', 'pretty'],
    'observability',
    'auto',
    'json = one object a line; pretty = for eyes; auto = pretty on a terminal, else json.',
  ),
} as const;
