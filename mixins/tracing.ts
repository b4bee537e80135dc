import {
  type Attributes,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace as traces,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { type Clock, within } from '../actors/protocol/clock.ts';
import {
  isSampled,
  NO_TRACER,
  type Span,
  type SpanFacts,
  type Traceparent,
  type Tracer,
} from '../actors/protocol/trace.ts';
import { type TlsFiles, type TlsSettings, tlsFiles } from './tls.ts';

/**
 * Spans of the core, sent to an OpenTelemetry collector (OTLP over HTTP).
 *
 *  1 The decision is made before OpenTelemetry is asked: parent-based, else by chance. What is not sampled costs one random number.
 *  2 A collector that is away costs spans and nothing else: the queue is bounded, and what does not fit is dropped.
 *  3 It is said once when the collector stops taking spans, and once when it takes them again.
 */
export interface TracingOptions {
  /** Base address of the collector: `/v1/traces` is added. */
  endpoint: string;
  /** Share of the traces begun here, 0 to 1. */
  sample: number;
  node: string;
  clock: Clock;
  logger: { info(facts: object, text: string): void; warn(facts: object, text: string): void };
  random?: () => number;
  tls?: TlsFiles;
  /** How long a span waits for others. Default 0.5 s. */
  delayMs?: number;
}

export interface Tracing extends Tracer {
  /** Spans that the collector took, and that it did not. */
  readonly counts: { readonly sent: number; readonly lost: number };
  /** Sends what is left, within `CLOSE_WITHIN_MS`. */
  close(): Promise<void>;
}

const CLOSE_WITHIN_MS = 1_500;
const EXPORT_TIMEOUT_MS = 5_000;
const MAX_QUEUED_SPANS = 8_192;

export const NO_TRACING: Tracing = { ...NO_TRACER, counts: { sent: 0, lost: 0 }, close: () => Promise.resolve() };

/** Without an endpoint nothing is traced. Throws `bad_settings` for TLS files that cannot be read. */
export function openTracing(
  settings: { otelExporterOtlpEndpoint: string | null; traceSample: number; nodeId: string } & TlsSettings,
  parts: Pick<TracingOptions, 'clock' | 'logger'>,
): Tracing {
  const endpoint = settings.otelExporterOtlpEndpoint;
  if (endpoint === null) return NO_TRACING;
  const tls = endpoint.startsWith('https:') ? { tls: tlsFiles(settings) } : {};
  return new OtelTracing({ ...parts, ...tls, endpoint, sample: settings.traceSample, node: settings.nodeId });
}

export class OtelTracing implements Tracing {
  readonly #options: TracingOptions;
  readonly #provider: TracerProvider;
  readonly #tracer: ReturnType<TracerProvider['getTracer']>;
  readonly #exporter: WatchedExporter;
  readonly #random: () => number;

  constructor(options: TracingOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#exporter = new WatchedExporter(options);
    this.#provider = new TracerProvider({
      resource: resourceOf({ 'service.name': 'twinmesh', 'service.instance.id': options.node }),
      sampler: new AlwaysOnSampler(),
      spanLimits: { attributeValueLengthLimit: 512 },
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: this.#exporter,
          maxQueueSize: MAX_QUEUED_SPANS,
          scheduledDelayMillis: options.delayMs ?? 500,
          exportTimeoutMillis: EXPORT_TIMEOUT_MS,
        }),
      ],
    });
    this.#tracer = this.#provider.getTracer('twinmesh');
  }

  get counts(): Tracing['counts'] {
    return this.#exporter;
  }

  start(name: string, parent: Traceparent | null, facts?: SpanFacts): Span | null {
    if (parent === null ? this.#random() >= this.#options.sample : !isSampled(parent)) return null;
    const kind = parent === null || name.startsWith('HTTP ') ? SpanKind.SERVER : SpanKind.INTERNAL;
    const context = parent === null ? ROOT_CONTEXT : traces.setSpanContext(ROOT_CONTEXT, contextOf(parent));
    return new LiveSpan(this.#tracer.startSpan(name, { kind, attributes: facts as Attributes }, context));
  }

  async close(): Promise<void> {
    const { clock } = this.#options;
    await within(
      clock,
      this.#provider.shutdown().catch(() => undefined),
      CLOSE_WITHIN_MS,
    );
  }
}

class LiveSpan implements Span {
  readonly trace: Traceparent;
  readonly #span: OtelSpan;

  constructor(span: OtelSpan) {
    const { traceId, spanId } = span.spanContext();
    this.trace = `00-${traceId}-${spanId}-01`;
    this.#span = span;
  }

  note(facts: SpanFacts): void {
    this.#span.setAttributes(facts as Attributes);
  }

  link(other: Traceparent): void {
    this.#span.addLink({ context: contextOf(other) });
  }

  end(fault?: string): void {
    // OpenTelemetry complains in its own log about what is done to a span that is over.
    if (!this.#span.isRecording()) return;
    if (fault !== undefined) this.#span.setStatus({ code: SpanStatusCode.ERROR, message: fault });
    this.#span.end();
  }
}

/** Tells once that the collector is away, and once that it is back. */
class WatchedExporter implements SpanExporter {
  sent = 0;
  lost = 0;
  readonly #options: TracingOptions;
  readonly #exporter: OTLPTraceExporter;
  #away = false;

  constructor(options: TracingOptions) {
    this.#options = options;
    const url = `${options.endpoint.replace(/\/+$/, '')}/v1/traces`;
    this.#exporter = new OTLPTraceExporter({
      url,
      timeoutMillis: EXPORT_TIMEOUT_MS,
      // A collector that hangs must not gather payloads in memory.
      concurrencyLimit: 4,
      ...(options.tls === undefined ? {} : { httpAgentOptions: { keepAlive: true, ...options.tls } }),
    });
  }

  export(spans: ReadableSpan[], done: Parameters<SpanExporter['export']>[1]): void {
    this.#exporter.export(spans, (result) => {
      const taken = result.error === undefined && result.code === 0;
      if (taken) this.sent += spans.length;
      else this.lost += spans.length;
      this.#tell(taken, result.error);
      // To its caller it is done either way: nothing would come of trying the same spans again.
      done({ code: 0 });
    });
  }

  shutdown(): Promise<void> {
    return this.#exporter.shutdown();
  }

  forceFlush(): Promise<void> {
    return this.#exporter.forceFlush();
  }

  #tell(taken: boolean, error: Error | undefined): void {
    if (taken === !this.#away) return;
    this.#away = !taken;
    if (taken) this.#options.logger.info({ lostSpans: this.lost }, 'the trace collector takes spans again');
    else
      this.#options.logger.warn(
        { error: error?.message ?? 'refused' },
        'the trace collector takes no spans; they are dropped, and nothing else is affected',
      );
  }
}

function contextOf(trace: Traceparent) {
  return {
    traceId: trace.slice(3, 35),
    spanId: trace.slice(36, 52),
    traceFlags: isSampled(trace) ? TraceFlags.SAMPLED : TraceFlags.NONE,
    isRemote: true,
  };
}

type Resource = NonNullable<NonNullable<ConstructorParameters<typeof TracerProvider>[0]>['resource']>;

/** Fixed facts need none of the detection that the package of resources is for. */
function resourceOf(attributes: Record<string, string>): Resource {
  const resource: Resource = {
    attributes,
    merge: (other) => resourceOf({ ...attributes, ...(other?.attributes as Record<string, string> | undefined) }),
    getRawAttributes: () => Object.entries(attributes),
  };
  return resource;
}
