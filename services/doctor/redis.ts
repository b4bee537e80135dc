import { probeRedis, type RedisFacts } from '../../mixins/redis-probe.ts';
import { type Check, placeOf } from './check.ts';
import { asTwinmesh } from './failure.ts';

/** Redis, which is a luxury: without it each gateway counts and caches by itself. */
export const redis: Check = {
  part: 'redis',
  applies: ({ redisUrl }) => redisUrl !== null,
  async look({ settings }, tell) {
    const place = placeOf(settings.redisUrl as string, 6379);
    let facts: RedisFacts;
    try {
      facts = await probeRedis(settings.redisUrl as string, settings);
    } catch (thrown) {
      const error = asTwinmesh(thrown);
      if (error.code === 'unauthenticated')
        tell.fault(`${place}: the sign-in is refused`, 'Correct user and password in REDIS_URL.');
      else
        tell.fault(
          `${place} cannot be used: ${error.message}`,
          'Start it, or correct REDIS_URL. Meanwhile each gateway counts and caches by itself; telemetry does not need it.',
        );
      return;
    }
    tell.ok(
      `Redis${facts.version === null ? '' : ` ${facts.version}`} at ${place} answers in ${facts.rttMs.toFixed(1)} ms`,
    );
    if (facts.readOnlyReplica) tell.fault('this server is a replica and only reads', 'Point REDIS_URL at the primary.');
    const { policy, maxBytes } = facts;
    if (maxBytes === 0)
      tell.warning('Redis has no memory limit (maxmemory 0)', 'Set maxmemory, and maxmemory-policy allkeys-lru.');
    else if (policy === 'noeviction')
      tell.warning(
        'Redis refuses writes once it is full (maxmemory-policy noeviction)',
        'Set maxmemory-policy allkeys-lru: nothing in it is the only copy.',
      );
  },
};
