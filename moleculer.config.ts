import { createRequire } from 'node:module';
import type { BrokerOptions } from 'moleculer';
import type { Logger } from 'pino';
import type { Settings } from './config/settings.ts';
import { natsAccess, natsOptions } from './mixins/nats-access.ts';
import { oneName } from './mixins/one-name.ts';
import { ErrorCarrier, OwnerStrategy, routing } from './mixins/routing.ts';
import { tracedCalls } from './mixins/traced-calls.ts';
import { processSettings } from './services/config-file.ts';
import { BrokerLogger, createLogger } from './services/logger.ts';

const { version } = createRequire(import.meta.url)('./package.json') as { version: string };

/** How often nodes say that they are there. Ownership has beats of its own and does not ask this. */
const HEARTBEAT_S = 2;

/**
 * The broker of a node. One node alone has no transporter: every call stays in the process. In a mesh calls go over NATS, and
 * which node answers is decided by ownership (mixins/routing.ts).
 */
export function brokerOptions(settings: Settings, logger: Logger): BrokerOptions {
  return {
    namespace: 'twinmesh',
    nodeID: settings.nodeId,
    // Moleculer takes any instance of its base logger; its types only know the names.
    logger: new BrokerLogger(logger) as unknown as BrokerOptions['logger'],
    transporter:
      settings.natsUrl === null
        ? null
        : ({ type: 'NATS', options: natsOptions(natsAccess(settings, 'mesh')) } as BrokerOptions['transporter']),
    // Bytes stay bytes on the way, which in JSON they do not.
    serializer: settings.natsUrl === null ? 'JSON' : 'CBOR',
    heartbeatInterval: HEARTBEAT_S,
    heartbeatTimeout: 4 * HEARTBEAT_S,
    maxCallLevel: 20,
    metadata: { roles: settings.roles, version },
    errorRegenerator: new ErrorCarrier(),
    middlewares: [
      ...(settings.otelExporterOtlpEndpoint === null ? [] : [tracedCalls()]),
      ...(settings.natsUrl === null ? [] : [oneName(), routing()]),
    ],
    // Moleculer's own default is none: a call that hangs would hang its caller for ever.
    requestTimeout: 30_000,
    // Retries multiply along a chain of calls; callers that may retry do it themselves, with an idempotency key.
    retryPolicy: { enabled: false },
    contextParamsCloning: false,
    registry: settings.natsUrl === null ? { preferLocal: true } : { strategy: OwnerStrategy, preferLocal: false },
    tracking: { enabled: true, shutdownTimeout: 2_000 },
    metrics: false,
    tracing: false,
    validator: true,
    errorHandler: null,
  };
}

/** moleculer-runner (`npm run dev`) calls this; services/main.ts builds its own from the settings it has checked. */
export default function runnerOptions(): BrokerOptions {
  const settings = processSettings();
  const logger = createLogger({ level: settings.logLevel, format: settings.logFormat, node: settings.nodeId });
  return brokerOptions(settings, logger);
}
