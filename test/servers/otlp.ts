import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A collector for tests: takes OTLP over HTTP (JSON) and keeps the spans. */
export interface OtlpReceiver {
  endpoint: string;
  spans: ReceivedSpan[];
  /** Answers with this status and keeps nothing while it is not 200. */
  status: number;
  requests: number;
  /** Resolves once `enough` holds, rejects with what is there when it does not in time. */
  until(enough: (spans: readonly ReceivedSpan[]) => boolean): Promise<void>;
  close(): Promise<void>;
}

export interface ReceivedSpan {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string;
  startNs: bigint;
  endNs: bigint;
  fault: string | null;
  links: string[];
  attributes: Record<string, string | number | boolean>;
  resource: Record<string, string | number | boolean>;
}

interface Attribute {
  key: string;
  value: { stringValue?: string; intValue?: number | string; doubleValue?: number; boolValue?: boolean };
}

interface Request {
  resourceSpans: {
    resource: { attributes: Attribute[] };
    scopeSpans: { spans: WireSpan[] }[];
  }[];
}

interface WireSpan {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  status?: { code?: number; message?: string };
  links?: { spanId: string }[];
  attributes?: Attribute[];
}

const PATIENCE_MS = 10_000;

export async function startOtlp(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  let arrived = () => {};
  const server = createServer(async (req, res) => {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk as Buffer);
    receiver.requests++;
    if (receiver.status === 200 && req.url === '/v1/traces')
      spans.push(...spansOf(JSON.parse(Buffer.concat(chunks).toString()) as Request));
    res.writeHead(req.url === '/v1/traces' ? receiver.status : 404, { 'content-type': 'application/json' }).end('{}');
    arrived();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const receiver: OtlpReceiver = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    status: 200,
    requests: 0,
    async until(enough) {
      const deadline = performance.now() + PATIENCE_MS;
      while (!enough(spans)) {
        const left = deadline - performance.now();
        if (left <= 0)
          throw new Error(`not there: ${JSON.stringify(spans.map(({ name, traceId }) => [name, traceId]))}`);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, left);
          arrived = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return receiver;
}

function spansOf(request: Request): ReceivedSpan[] {
  return request.resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        name: span.name,
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId ?? '',
        startNs: BigInt(span.startTimeUnixNano),
        endNs: BigInt(span.endTimeUnixNano),
        fault: span.status?.code === 2 ? (span.status.message ?? '') : null,
        links: (span.links ?? []).map((link) => link.spanId),
        attributes: factsOf(span.attributes ?? []),
        resource: factsOf(resource.attributes),
      })),
    ),
  );
}

function factsOf(attributes: Attribute[]): ReceivedSpan['attributes'] {
  return Object.fromEntries(
    attributes.map(({ key, value: v }) => [key, v.stringValue ?? v.boolValue ?? v.doubleValue ?? Number(v.intValue)]),
  );
}
