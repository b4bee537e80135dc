import type { BrokerOptions } from 'moleculer';
import type { Logger } from 'pino';
import type { Settings } from './config/settings.ts';
import { processSettings } from './services/config-file.ts';
import { BrokerLogger, createLogger } from './services/logger.ts';

/** The broker of a node. One node has no transporter: every call stays in the process. */
export function brokerOptions(settings: Settings, logger: Logger): BrokerOptions {
  return {
    namespace: 'twinmesh',
    nodeID: settings.nodeId,
    // Moleculer takes any instance of its base logger; its types only know the names.
    logger: new BrokerLogger(logger) as unknown as BrokerOptions['logger'],
    transporter: null,
    // Moleculer's own default is none: a call that hangs would hang its caller for ever.
    requestTimeout: 30_000,
    // Retries multiply along a chain of calls; callers that may retry do it themselves, with an idempotency key.
    retryPolicy: { enabled: false },
    contextParamsCloning: false,
    registry: { preferLocal: true },
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
