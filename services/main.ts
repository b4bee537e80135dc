import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import moleculer, { type ServiceBroker } from 'moleculer';
import type { Logger } from 'pino';
import { messageOf } from '../actors/protocol/errors.ts';
import { helpText } from '../config/help.ts';
import { type Settings, SettingsError } from '../config/settings.ts';
import { announce } from '../mixins/announce.ts';
import { closeParts, holdParts, releaseParts } from '../mixins/parts.ts';
import { traceCallsBy } from '../mixins/traced-calls.ts';
import { brokerOptions } from '../moleculer.config.ts';
import { bannerText } from './banner.ts';
import { faultText, isMendable } from './command-line.ts';
import { processSettings } from './config-file.ts';
import type { MqttStatus } from './ingest/mqtt-door.ts';
import { firstAdminKey } from './keys/first-key.ts';
import { createLogger } from './logger.ts';
import { openParts, type Parts } from './parts.ts';
import { isOfRoles, serviceSchemas } from './schemas.ts';

/**
 * `npm start`: settings, parts, services, banner; and the way down.
 *
 *  1. A fault of whoever starts it (settings, folder, port, kind file) prints code, sentence and remedy, no stack: exit 2.
 *  2. SIGINT and SIGTERM stop once, in order, within STOP_WITHIN_MS (STOP_MESH_WITHIN_MS); a second signal ends at once: exit 130 / 143.
 *  3. After an error that nobody caught, memory is not to be trusted: it is logged and the process ends, exit 1. What was
 *     acknowledged is in the database.
 */
const STOP_WITHIN_MS = 4_500;
/** In a mesh its shards are handed over first, each with its snapshots. */
const STOP_MESH_WITHIN_MS = 12_000;
/** A database that is gone takes no shards back: the rest of the stop is not given up for it. */
const STORE_PATIENCE_MS = 2_000;
/** After a start that failed or was broken off. */
const CLOSE_WITHIN_MS = 3_000;

const EXIT = { ok: 0, crashed: 1, faulty: 2, slow: 3, SIGINT: 130, SIGTERM: 143 } as const;

/** Where the process is in its life. */
interface Life {
  running: boolean;
  stopping: boolean;
  parts?: Parts;
}

async function main(): Promise<void> {
  const startedAt = performance.now();
  const { help, version, check } = argumentsOf(process.argv.slice(2));
  if (help) return print(helpText());
  if (version) return print(`${versionText()}\n`);
  const settings = processSettings();
  if (check) return print(['The settings are good.', ...settings.notices, ''].join('\n'));

  const logger = createLogger({ level: settings.logLevel, format: settings.logFormat, node: settings.nodeId });
  const broker = new moleculer.ServiceBroker({
    ...brokerOptions(settings, logger),
    skipProcessEventRegistration: true,
  });
  const life: Life = { running: false, stopping: false };
  watchProcess(broker, logger, life);
  try {
    life.parts = await start(broker, settings, logger, startedAt);
    life.running = true;
  } catch (error) {
    // Broken off by a signal: whoever stops it also ends the process.
    if (life.stopping) return;
    await Promise.race([closeParts(broker), sleep(CLOSE_WITHIN_MS)]);
    throw error;
  }
}

async function start(broker: ServiceBroker, settings: Settings, logger: Logger, startedAt: number): Promise<Parts> {
  // In a mesh nobody could reach a twin here before the services are up: until then the others keep theirs.
  const startHost = settings.natsUrl === null ? true : 'later';
  const parts = await holdParts(broker, () => openParts(settings, { logger, startHost }));
  traceCallsBy(broker, parts.tracing);
  const [{ twins }] = await parts.sql.query<{ twins: number }>('select count(*)::int as twins from twins');
  for (const schema of await serviceSchemas()) if (isOfRoles(schema, settings.roles)) broker.createService(schema);
  await broker.start();
  if (startHost === 'later') {
    await announce(broker);
    await parts.begin();
  }
  print(
    bannerText({
      version: versionText(),
      settings: { ...settings, ...(await boundPorts(broker)) },
      kinds: parts.kinds.all().map((kind) => kind.kind),
      twins,
      startedInMs: performance.now() - startedAt,
      // Last of all: a key that was made and never shown would lock everybody out.
      firstKey: settings.roles.includes('gateway') ? await firstAdminKey(parts.sql) : null,
    }),
  );
  return parts;
}

/** The ports as they are: a setting of 0 means any free one. */
async function boundPorts(broker: ServiceBroker): Promise<Partial<Settings>> {
  const gateway = broker.getLocalService('gateway') as unknown as { boundPort: number } | undefined;
  const probe = broker.getLocalService('probe') as unknown as { boundPort: number | null } | undefined;
  const mqtt = broker.getLocalService('ingest')
    ? (await broker.call<{ mqtt: MqttStatus }, object>('ingest.status', {}, { nodeID: broker.nodeID })).mqtt
    : { port: null, wsPort: null };
  return {
    ...(gateway === undefined ? {} : { port: gateway.boundPort }),
    ...(probe?.boundPort ? { metricsPort: probe.boundPort } : {}),
    ...(mqtt.port === null ? {} : { mqttListenPort: mqtt.port }),
    ...(mqtt.wsPort === null ? {} : { mqttWsPort: mqtt.wsPort }),
  };
}

function watchProcess(broker: ServiceBroker, logger: Logger, life: Life): void {
  const stop = async (signal: 'SIGINT' | 'SIGTERM') => {
    if (life.stopping) {
      logger.warn({ signal }, 'ended at once; what was acknowledged is in the database');
      process.exit(EXIT[signal]);
    }
    life.stopping = true;
    logger.info({ signal }, 'stopping; once more ends at once');
    // Not unreferenced: it also keeps the process until everything has been closed.
    const withinMs = life.parts?.directory ? STOP_MESH_WITHIN_MS : STOP_WITHIN_MS;
    const late = setTimeout(() => {
      logger.error({ withinMs }, 'stopping took too long; what was acknowledged is in the database');
      process.exit(EXIT.slow);
    }, withinMs);
    try {
      if (life.running) {
        // While its services still answer: a twin is without an owner for as long as one shard takes, not for the whole stop.
        if (life.parts?.directory && life.parts.hosts) await life.parts.host.drain(STORE_PATIENCE_MS);
        await broker.stop();
        await releaseParts(broker);
      } else {
        // A database that is still being made is only put in place once it is whole: nothing is lost by not waiting.
        await Promise.race([closeParts(broker), sleep(CLOSE_WITHIN_MS)]);
      }
    } catch (error) {
      logger.error({ err: error }, 'stopping');
      process.exitCode = EXIT.crashed;
    }
    clearTimeout(late);
    logger.info('stopped');
    process.exit(process.exitCode ?? EXIT.ok);
  };
  process.on('SIGINT', () => void stop('SIGINT'));
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('uncaughtException', (error) => {
    logger.fatal({ err: error }, 'an error that nobody caught');
    process.exit(EXIT.crashed);
  });
  process.on('unhandledRejection', (reason) => {
    logger.fatal({ err: reason }, 'a rejection that nobody caught');
    process.exit(EXIT.crashed);
  });
}

function argumentsOf(args: string[]): { help?: boolean; version?: boolean; check?: boolean } {
  try {
    const options = {
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean', short: 'v' },
      check: { type: 'boolean' },
    } as const;
    return parseArgs({ args, options, strict: true }).values;
  } catch (error) {
    throw new SettingsError([`${messageOf(error).split('.')[0]}. Settings are environment variables.`]);
  }
}

function versionText(): string {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
}

function print(text: string): void {
  process.stdout.write(text);
}

main().catch((error) => {
  process.stderr.write(`twinmesh does not start: ${faultText(error)}\n`);
  process.exit(isMendable(error) ? EXIT.faulty : EXIT.crashed);
});
