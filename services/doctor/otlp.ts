import { request as overHttp } from 'node:http';
import { request as overHttps } from 'node:https';
import { messageOf } from '../../actors/protocol/errors.ts';
import { tlsFiles } from '../../mixins/tls.ts';
import { type Check, placeOf } from './check.ts';

/** The trace collector: it is sent an empty request, which it has to take. */
const WITHIN_MS = 5_000;

export const otlp: Check = {
  part: 'traces',
  applies: ({ otelExporterOtlpEndpoint }) => otelExporterOtlpEndpoint !== null,
  async look({ settings }, tell) {
    const endpoint = settings.otelExporterOtlpEndpoint as string;
    const place = placeOf(endpoint, 4318);
    const address = new URL(`${endpoint.replace(/\/+$/, '')}/v1/traces`);
    const files = address.protocol === 'https:' ? tlsFiles(settings) : {};
    let status: number;
    try {
      status = await post(address, files);
    } catch (error) {
      tell.warning(
        `the collector at ${place} does not answer: ${messageOf(error)}`,
        'Start it, or unset OTEL_EXPORTER_OTLP_ENDPOINT. Until then spans are dropped, and nothing else is affected.',
      );
      return;
    }
    if (status === 404 || status === 405)
      tell.fault(
        `${place} answers ${status}: no OTLP over HTTP there`,
        'OTEL_EXPORTER_OTLP_ENDPOINT is the base address of OTLP over HTTP, port 4318 as a rule; 4317 speaks gRPC.',
      );
    else if (status >= 300)
      tell.fault(`the collector at ${place} answers ${status}`, 'Look at its log and its access rules.');
    else if (settings.traceSample === 0)
      tell.warning(`the collector at ${place} takes spans, and TRACE_SAMPLE is 0`, 'Set TRACE_SAMPLE above 0.');
    else
      tell.ok(
        `the collector at ${place} takes spans; ${settings.traceSample * 100} % of messages and requests are traced`,
      );
  },
};

function post(address: URL, files: object): Promise<number> {
  const request = address.protocol === 'https:' ? overHttps : overHttp;
  return new Promise((resolve, reject) => {
    const req = request(
      address,
      { ...files, method: 'POST', timeout: WITHIN_MS, headers: { 'content-type': 'application/json' } },
      (res) => {
        res.resume();
        resolve(res.statusCode ?? 0);
      },
    );
    req.on('timeout', () => req.destroy(new Error(`no answer within ${WITHIN_MS / 1000} s`)));
    req.on('error', reject);
    req.end('{"resourceSpans":[]}');
  });
}
