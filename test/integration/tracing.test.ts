import moleculer, { type Context, type ServiceSchema } from 'moleculer';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NO_TRACER, type Tracer } from '../../actors/protocol/trace.ts';
import { traceFields } from '../../mixins/trace-scope.ts';
import { traceCallsBy, tracedCalls } from '../../mixins/traced-calls.ts';
import ingest from '../../services/ingest.service.ts';
import { createLogger } from '../../services/logger.ts';
import { type OtlpReceiver, type ReceivedSpan, startOtlp } from '../servers/otlp.ts';
import { GATEWAY_SERVICES, type GatewayNode, startGateway } from './gateway/node.ts';

let receiver: OtlpReceiver;
let node: GatewayNode;

beforeAll(async () => {
  receiver = await startOtlp();
  node = await startGateway({
    services: [...GATEWAY_SERVICES, ingest as unknown as ServiceSchema],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, TRACE_SAMPLE: '1', NODE_ID: 'n1' },
  });
});
afterAll(async () => {
  await node?.stop();
  await receiver.close();
});

const telemetry = (id: string, values: Record<string, number>) => ({ twinId: `machine:${id}`, values });

/** The spans of one trace once it has all of these, by name. */
async function traceOf(traceId: (span: ReceivedSpan) => boolean, names: string[]): Promise<Map<string, ReceivedSpan>> {
  const mine = () => {
    const found = receiver.spans.find(traceId);
    return receiver.spans.filter((span) => span.traceId === found?.traceId);
  };
  await receiver.until(() => names.every((name) => mine().some((span) => span.name === name)));
  return new Map(mine().map((span) => [span.name, span]));
}

describe('a traced message', () => {
  it('over HTTP is one trace from the request to its events', async () => {
    const caller = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const answer = await node.http('POST', '/api/v1/telemetry', {
      key: node.adminKey,
      headers: { traceparent: caller, 'x-request-id': 'traced-1' },
      body: [telemetry('T1', { temperature: 65.5 })],
    });
    expect(answer.json.data.accepted).toBe(1);
    const names = ['HTTP POST', 'ingest', 'append', 'turn', 'commit', 'event'];
    const spans = await traceOf((span) => span.traceId.startsWith('0af7'), names);
    const of = (name: string) => spans.get(name) as ReceivedSpan;
    expect(of('HTTP POST')).toMatchObject({
      parentSpanId: 'b7ad6b7169203331',
      attributes: {
        'twinmesh.request_id': 'traced-1',
        'http.response.status_code': 200,
        'http.route': '/api/v1/telemetry',
      },
    });
    for (const [i, name] of names.slice(1).entries()) expect(of(name).parentSpanId).toBe(of(names[i]).spanId);
    expect(of('ingest').attributes).toMatchObject({ 'twinmesh.readings': 1, 'twinmesh.refused': 0 });
    expect(of('commit').startNs >= of('turn').endNs).toBe(true);
    expect(of('event').attributes['twinmesh.sink']).toBe('mqtt');
    expect([...spans.values()].map((span) => span.fault)).toEqual(names.map(() => null));
  });

  it('over MQTT begins its own trace', async () => {
    const { mqtt } = await node.broker.call<{ mqtt: { port: number } }>('ingest.status');
    const client = await connectAsync(`mqtt://127.0.0.1:${mqtt.port}`, { username: 'admin', password: node.adminKey });
    await client.publishAsync('twins/machine/T2/telemetry', JSON.stringify({ values: { temperature: 60 } }), {
      qos: 1,
    });
    await client.endAsync();
    const names = ['ingest', 'append', 'turn', 'commit', 'event'];
    const spans = await traceOf((s) => s.attributes['twinmesh.address'] === 'twins/machine/T2/telemetry', names);
    expect(spans.get('ingest')).toMatchObject({ parentSpanId: '', attributes: { 'twinmesh.protocol': 'mqtt' } });
    expect([...spans.keys()].sort()).toEqual([...names].sort());
  });

  it('that is refused ends at the door, and says how many', async () => {
    await node.http('POST', '/api/v1/telemetry', {
      key: node.adminKey,
      headers: { 'x-request-id': 'traced-3' },
      body: [{ twinId: 'machine:T3', values: { temperature: 'hot' } }],
    });
    const spans = await traceOf((s) => s.attributes['twinmesh.request_id'] === 'traced-3', ['HTTP POST', 'ingest']);
    expect(spans.get('ingest')?.attributes).toMatchObject({ 'twinmesh.readings': 0, 'twinmesh.refused': 1 });
    expect(spans.has('append')).toBe(false);
  });

  it('of somebody without a key begins a trace of ours', async () => {
    const theirs = '00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    await node.http('GET', '/api/v1/twins/machine:T1', {
      headers: { traceparent: theirs, 'x-request-id': 'traced-4' },
    });
    const spans = await traceOf((s) => s.attributes['twinmesh.request_id'] === 'traced-4', ['HTTP GET']);
    expect(spans.get('HTTP GET')).toMatchObject({ parentSpanId: '', attributes: { 'http.response.status_code': 401 } });
  });
});

describe('an untraced message', () => {
  it('of a caller who decided against it leaves no span', async () => {
    const seen = receiver.spans.length;
    const { status } = await node.http('POST', '/api/v1/telemetry', {
      key: node.adminKey,
      headers: { traceparent: '00-3af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00' },
      body: [telemetry('T5', { temperature: 65 })],
    });
    expect(status).toBe(200);
    // A traced request after it has been seen whole: what was before it would be there.
    await node.http('GET', '/api/v1/twins/machine:T1', { key: node.adminKey, headers: { 'x-request-id': 'traced-6' } });
    await traceOf((s) => s.attributes['twinmesh.request_id'] === 'traced-6', ['HTTP GET']);
    expect(receiver.spans.slice(seen).filter((span) => !/^(HTTP GET|call )/.test(span.name))).toEqual([]);
  });
});

describe('calls between services', () => {
  it('carry the trace, give it to log lines, and hand it back to their caller', async () => {
    const started: [string, string | null][] = [];
    let spans = 0;
    const tracer: Tracer = {
      start(name, parent) {
        started.push([name, parent]);
        const trace = `00-${'a'.repeat(32)}-${String(++spans).padStart(16, '0')}-01`;
        return { trace, note() {}, link() {}, end() {} };
      },
    };
    const lines: string[] = [];
    const logger = createLogger({
      level: 'info',
      format: 'json',
      node: 'n1',
      destination: { write: (line: string) => void lines.push(line) },
    });
    const broker = new moleculer.ServiceBroker({ logger: false, middlewares: [tracedCalls()] });
    traceCallsBy(broker, tracer);
    broker.createService({
      name: 'a',
      actions: {
        async outer(ctx: Context) {
          await ctx.call('a.inner');
          await ctx.call('a.inner');
        },
        inner: async () => logger.info('inside'),
      },
    });
    await broker.start();
    try {
      const first = `00-${'a'.repeat(32)}-${'f'.repeat(16)}-01`;
      await broker.call('a.outer', {}, { meta: { traceparent: first } });
      const outer = `00-${'a'.repeat(32)}-${'1'.padStart(16, '0')}-01`;
      expect(started).toEqual([
        ['call a.outer', first],
        ['call a.inner', outer],
        ['call a.inner', outer],
      ]);
      const traced = lines.map((line) => JSON.parse(line));
      expect(traced.map(({ trace_id, span_id }) => [trace_id, span_id])).toEqual([
        ['a'.repeat(32), '2'.padStart(16, '0')],
        ['a'.repeat(32), '3'.padStart(16, '0')],
      ]);
      await broker.call('a.inner');
      await broker.call('a.inner', {}, { meta: { traceparent: 'nonsense' } });
      traceCallsBy(broker, NO_TRACER);
      await broker.call('a.inner', {}, { meta: { traceparent: first } });
      expect(started).toHaveLength(3);
      expect(lines.slice(2).some((line) => line.includes('trace_id'))).toBe(false);
      expect(traceFields()).toEqual({});
    } finally {
      await broker.stop();
    }
  });
});
