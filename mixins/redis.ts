import { Redis } from 'ioredis';
import type { Clock } from '../actors/protocol/clock.ts';
import { messageOf } from '../actors/protocol/errors.ts';
import { type TlsSettings, tlsFiles } from './tls.ts';

/**
 * Redis, for what several nodes share and each could do alone.
 *
 *  1  Nobody waits for it: a command that is not answered within COMMAND_MS has failed, and then nobody asks for REST_MS.
 *  2  Nothing is kept for later: without a connection a command fails at once, and none is sent twice.
 *  3  A lost connection is opened again for ever; going and coming back are told once.
 */
export interface RedisOptions {
  /** redis:// or rediss://, with user, password and database. */
  url: string;
  tls: TlsSettings;
  clock: Clock;
  logger: { info(facts: object, text: string): void; warn(facts: object, text: string): void };
  backoffMs?: { first: number; most: number };
}

export interface RedisStatus {
  connected: boolean;
  /** Why it is away. */
  reason: string | null;
  commands: number;
  /** Commands that were answered by an error or not in time, and those that were not even sent. */
  failed: number;
}

const COMMAND_MS = 250;
const REST_MS = 1_000;

export class RedisLink {
  readonly #client: Redis;
  readonly #options: RedisOptions;
  #commands = 0;
  #failed = 0;
  #restUntil = 0;
  #reason: string | null = 'not connected yet';
  /** What has been told. */
  #told: boolean | null = null;

  /** Opens the connection. Throws `bad_settings` for a TLS file that cannot be read. */
  constructor(options: RedisOptions) {
    this.#options = options;
    const { url, tls, backoffMs: { first, most } = { first: 200, most: 5_000 } } = options;
    this.#client = new Redis(url, {
      ...(url.startsWith('rediss:') ? { tls: { ...tlsFiles(tls), rejectUnauthorized: true } } : {}),
      lazyConnect: true,
      connectTimeout: 3_000,
      commandTimeout: COMMAND_MS,
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      retryStrategy: (times) => Math.min(most, first * 2 ** Math.min(times - 1, 10)),
    });
    this.#client.on('ready', () => this.#is(null));
    this.#client.on('error', (error) => this.#is(messageOf(error) || 'no connection'));
    this.#client.on('close', () => this.#is(this.#reason ?? 'the connection was lost'));
    this.#client.connect().catch((error) => this.#is(messageOf(error)));
  }

  status(): RedisStatus {
    return { connected: this.#reason === null, reason: this.#reason, commands: this.#commands, failed: this.#failed };
  }

  /** What the command answers; null while Redis is away, or when it fails. `command` never answers undefined. */
  async run<T>(command: (client: Redis) => Promise<T>): Promise<{ answer: T } | null> {
    const { clock } = this.#options;
    if (this.#client.status !== 'ready' || clock.monotonic() < this.#restUntil) {
      this.#failed++;
      return null;
    }
    this.#commands++;
    try {
      const answer = await command(this.#client);
      if (this.#reason !== null) this.#is(null);
      return { answer };
    } catch (error) {
      this.#failed++;
      this.#restUntil = clock.monotonic() + REST_MS;
      this.#is(messageOf(error));
      return null;
    }
  }

  close(): void {
    this.#told = null;
    this.#client.removeAllListeners('close');
    this.#client.disconnect();
  }

  #is(reason: string | null): void {
    this.#reason = reason;
    const up = reason === null;
    if (up === this.#told) return;
    this.#told = up;
    const { logger } = this.#options;
    if (up) logger.info({}, 'Redis is there');
    else logger.warn({ reason }, 'Redis is away: this node counts and caches by itself');
  }
}
