import { readFileSync } from 'node:fs';
import { type ConnectionOptions, connect, credsAuthenticator, Events, type NatsConnection } from 'nats';
import { type Clock, sleep } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';

/**
 * A connection to NATS that comes back for as long as it is not closed.
 *
 * Owns how a setting becomes options of the client, and when the connection is up. Does not own what goes over it.
 *
 * Invariants:
 *  1  No error text and no log line carries the user, the password or the query of a URL.
 *  2  `tls:` never falls back to plain text; credentials go out only after the handshake.
 *  3  A server that stops answering without closing is given up on after two unanswered pings.
 */
export interface NatsAccess {
  /** Servers, separated by commas: `nats://user:password@host:4222` or `tls://…`. A user without password is a token. */
  url: string;
  /** File with JWT and seed, in place of user and password. */
  credentialsFile?: string | null;
  /** PEM files. */
  tls?: { caFile?: string | null; certFile?: string | null; keyFile?: string | null };
  /** Name that the server shows for this connection. */
  name: string;
}

export interface NatsLogger {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

export interface ConnectOptions extends NatsAccess {
  clock: Clock;
  logger?: NatsLogger;
  /** How long the first connection may take, ms; then it is an error. Without it, it is tried for ever. */
  firstWithinMs?: number;
  /** Told of every change after the first connection; `closed` only when nobody here closed it, and it stays so. */
  onState?(state: 'connected' | 'lost' | 'closed'): void;
}

const PING_MS = 5_000;
const DIAL_MS = 5_000;
const RETRY_MS = 500;
const LOG_EVERY_TRIES = 20;

/** Options of the `nats` client, also for Moleculer's transporter. Throws `bad_settings`. */
export function natsOptions(access: NatsAccess): ConnectionOptions {
  const urls = access.url
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map(parse);
  if (urls.length === 0) throw new TwinmeshError('bad_settings', 'NATS_URL names no server.');
  const logins = new Set(urls.map(({ username, password }) => `${username}:${password}`));
  if (logins.size > 1)
    throw new TwinmeshError('bad_settings', 'All servers of NATS_URL take the same user and password.');
  const [{ username, password }] = urls;
  const { caFile, certFile, keyFile } = access.tls ?? {};
  const secured = urls.some(({ protocol }) => protocol === 'tls:');
  const options: ConnectionOptions = {
    servers: urls.map(({ host }) => host),
    name: access.name,
    timeout: DIAL_MS,
    reconnect: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RETRY_MS,
    reconnectJitter: RETRY_MS / 2,
    pingInterval: PING_MS,
    maxPingOut: 2,
    // credentials that are being changed on the server are no reason to give up
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
  };
  if (access.credentialsFile)
    options.authenticator = credsAuthenticator(readFile('NATS_CREDENTIALS_FILE', access.credentialsFile));
  else if (password !== '') {
    options.user = decoded(username);
    options.pass = decoded(password);
  } else if (username !== '') options.token = decoded(username);
  // the client refuses a server without TLS only where there is something here: files alone are no reason to
  for (const [setting, file] of Object.entries({ TLS_CA_FILE: caFile, TLS_CERT_FILE: certFile, TLS_KEY_FILE: keyFile }))
    if (file) readFile(setting, file);
  if (secured)
    options.tls = {
      ...(caFile ? { caFile } : {}),
      ...(certFile ? { certFile } : {}),
      ...(keyFile ? { keyFile } : {}),
    };
  return options;
}

/** Connects, trying again until it works or `firstWithinMs` is over. What cannot become right by waiting throws at once. */
export async function connectNats(options: ConnectOptions): Promise<NatsConnection> {
  const { clock, logger, firstWithinMs } = options;
  const native = natsOptions(options);
  const startedAt = clock.monotonic();
  for (let tries = 0; ; tries++) {
    try {
      const connection = await connect(native);
      if (tries > 0) logger?.info({ server: connection.getServer() }, 'connected to NATS');
      void narrate(connection, options);
      return connection;
    } catch (error) {
      const reason = messageOf(error);
      if (isRefusal(error))
        throw new TwinmeshError('bad_settings', `NATS does not take the connection: ${explained(error)}.`, undefined, {
          cause: error,
        });
      if (firstWithinMs !== undefined && clock.monotonic() - startedAt >= firstWithinMs)
        throw new TwinmeshError('unavailable', `NATS does not answer (${hosts(native)}): ${reason}.`, undefined, {
          cause: error,
        });
      if (tries % LOG_EVERY_TRIES === 0)
        logger?.warn({ servers: hosts(native), error: reason }, 'NATS does not answer; trying again');
      await sleep(clock, RETRY_MS);
    }
  }
}

async function narrate(connection: NatsConnection, { logger, onState }: ConnectOptions): Promise<void> {
  void connection.closed().then((error) => {
    if (error === undefined) return;
    logger?.error({ error: messageOf(error) }, 'connection to NATS closed for good');
    onState?.('closed');
  });
  for await (const status of connection.status()) {
    if (status.type === Events.Disconnect) {
      logger?.warn({ server: status.data }, 'connection to NATS lost');
      onState?.('lost');
    } else if (status.type === Events.Reconnect) {
      logger?.info({ server: status.data }, 'connection to NATS is back');
      onState?.('connected');
    } else if (status.type === Events.LDM) logger?.warn({ server: status.data }, 'the NATS server is about to stop');
    else if (status.type === Events.Error) logger?.error({ error: String(status.data) }, 'NATS reports an error');
  }
}

function parse(text: string): URL {
  if (!URL.canParse(text)) throw new TwinmeshError('bad_settings', 'NATS_URL holds something that is not a URL.');
  const url = new URL(text);
  if (url.protocol !== 'nats:' && url.protocol !== 'tls:')
    throw new TwinmeshError('bad_settings', 'NATS_URL takes nats:// and tls:// only.');
  return url;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new TwinmeshError(
      'bad_settings',
      'User or password of NATS_URL hold a % that stands for nothing; write it as %25.',
    );
  }
}

function hosts(options: ConnectionOptions): string {
  return [options.servers ?? []].flat().join(', ');
}

function readFile(setting: string, file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new TwinmeshError('bad_settings', `${setting} cannot be read: ${messageOf(error)}.`);
  }
}

function explained(error: unknown): string {
  return (error as { code?: unknown }).code === 'SERVER_OPT_NA'
    ? 'NATS_URL says tls:, and the server offers no TLS'
    : messageOf(error);
}

/** Waiting does not mend these. */
function isRefusal(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return (
    typeof code === 'string' &&
    ['AUTHORIZATION_VIOLATION', 'BAD_AUTHENTICATION', 'BAD_CREDS', 'SERVER_OPT_NA'].includes(code)
  );
}
