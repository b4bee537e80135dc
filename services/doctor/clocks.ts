import { execFile } from 'node:child_process';
import type { Check } from './check.ts';

/** The clock of this machine: synchronised, and together with that of the database, by which nodes can be compared. */
const APART_MS = { warning: 1_000, fault: 60_000 };

export const clocks: Check = {
  part: 'clock',
  async look({ settings, sql, clock }, tell) {
    const synchronised = await isSynchronised();
    const remedy = 'Switch time synchronisation on: timedatectl set-ntp true, or chrony.';
    if (synchronised === false) tell.warning('this machine does not synchronise its clock', remedy);
    else if (synchronised) tell.ok('this machine synchronises its clock');
    const db = settings.databaseUrl === null ? null : await sql();
    if (db === null) {
      if (synchronised === null) tell.ok('nothing here tells whether the clock is synchronised');
      return;
    }
    const before = clock.now();
    const [{ at }] = await db.query<{ at: number }>(
      `select (extract(epoch from clock_timestamp()) * 1000)::float8 as at`,
    );
    const after = clock.now();
    // Within the round trip nobody knows.
    const apartMs = at < before ? before - at : at > after ? at - after : 0;
    const says = `clock and database are ${apartMs < 1 ? 'within the round trip' : `${Math.round(apartMs)} ms apart`}`;
    const skew = `${remedy} Readings are stamped and judged (MAX_SKEW_MS) by the clock of the node; ownership does not depend on it.`;
    if (apartMs > APART_MS.fault) tell.fault(says, skew);
    else if (apartMs > APART_MS.warning) tell.warning(says, skew);
    else tell.ok(says);
  },
};

/** Null where the system does not tell. */
function isSynchronised(): Promise<boolean | null> {
  return new Promise((resolve) => {
    execFile('timedatectl', ['show', '-p', 'NTPSynchronized', '--value'], { timeout: 2_000 }, (error, stdout) => {
      const said = stdout?.trim();
      resolve(error || (said !== 'yes' && said !== 'no') ? null : said === 'yes');
    });
  });
}
