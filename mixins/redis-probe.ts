import { Redis } from 'ioredis';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { type TlsSettings, tlsFiles } from './tls.ts';

/** What can be seen of Redis with the credentials of this node; null for what it does not tell us. */
export interface RedisFacts {
  version: string | null;
  rttMs: number;
  usedBytes: number | null;
  /** 0: no limit. */
  maxBytes: number | null;
  policy: string | null;
  readOnlyReplica: boolean;
}

const WITHIN_MS = 5_000;

/** Throws `unauthenticated` (the sign-in is refused), `unavailable`. */
export async function probeRedis(url: string, tls: TlsSettings): Promise<RedisFacts> {
  let reason: string | null = null;
  const client = new Redis(url, {
    ...(url.startsWith('rediss:') ? { tls: { ...tlsFiles(tls), rejectUnauthorized: true } } : {}),
    lazyConnect: true,
    connectTimeout: WITHIN_MS,
    commandTimeout: WITHIN_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  client.on('error', (error) => {
    reason ??= messageOf(error);
  });
  try {
    await client.connect();
    const startedAt = performance.now();
    await client.ping();
    const rttMs = performance.now() - startedAt;
    const info = await client.info().catch(() => '');
    const member = (name: string): string | null => info.match(new RegExp(`^${name}:(.*?)\r?$`, 'm'))?.[1] ?? null;
    const number = (name: string): number | null => (member(name) === null ? null : Number(member(name)));
    return {
      version: member('redis_version'),
      rttMs,
      usedBytes: number('used_memory'),
      maxBytes: number('maxmemory'),
      policy: member('maxmemory_policy'),
      readOnlyReplica: member('role') === 'slave',
    };
  } catch (error) {
    const text = reason ?? messageOf(error);
    const code = /NOAUTH|WRONGPASS|invalid password|invalid username/i.test(`${text} ${messageOf(error)}`)
      ? 'unauthenticated'
      : 'unavailable';
    throw new TwinmeshError(code, text, undefined, { cause: error });
  } finally {
    client.disconnect();
  }
}
