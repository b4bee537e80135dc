import { type Clock, systemClock } from '../../actors/protocol/clock.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { Settings } from '../../config/settings.ts';
import { control } from '../control-client.ts';
import { type Check, type Finding, findingsOf, type Patient } from './check.ts';
import { clocks } from './clocks.ts';
import { dataDir } from './data-dir.ts';
import { databaseCheck, openPatientSql } from './database.ts';
import { kafka } from './kafka.ts';
import { memory, node } from './machine.ts';
import { mqtt } from './mqtt.ts';
import { nats } from './nats.ts';
import { objects } from './objects.ts';
import { otlp } from './otlp.ts';
import { ownership } from './ownership.ts';
import { ports } from './ports.ts';
import { redis } from './redis.ts';
import { sessions } from './sessions.ts';
import { tls } from './tls.ts';

/** Looks at every configured part, all at once, and answers the findings in the order of the checks. */
export async function examine(
  settings: Settings,
  only: readonly string[] = [],
  clock: Clock = systemClock,
): Promise<Finding[]> {
  let failure: unknown | null = null;
  let opened: Promise<Sql | null> | undefined;
  const sql = (): Promise<Sql | null> => {
    opened ??=
      settings.databaseUrl === null
        ? Promise.resolve(null)
        : openPatientSql(settings).catch((error: unknown) => {
            failure = error;
            return null;
          });
    return opened;
  };
  let answers: Promise<boolean> | undefined;
  const running = (): Promise<boolean> => {
    answers ??= control(settings)
      .request('GET', '/health/live')
      .then(
        () => true,
        () => false,
      );
    return answers;
  };
  const patient: Patient = { settings, clock, sql, running };
  const database = databaseCheck(async () => {
    await sql();
    return failure;
  });
  const checks: Check[] = [
    node,
    memory,
    clocks,
    dataDir,
    ports,
    tls,
    database,
    ownership,
    sessions,
    nats,
    mqtt,
    kafka,
    redis,
    objects,
    otlp,
  ];
  const chosen = only.length === 0 ? checks : checks.filter(({ part }) => only.includes(part));
  try {
    return (await Promise.all(chosen.map((check) => findingsOf(check, patient)))).flat();
  } finally {
    await (await opened?.catch(() => null))?.close();
  }
}

/** What can be looked at, by name. */
export const PARTS = [
  'node',
  'memory',
  'clock',
  'data folder',
  'ports',
  'tls',
  'database',
  'mesh',
  'sessions',
  'nats',
  'mqtt',
  'kafka',
  'redis',
  's3',
  'traces',
] as const;
