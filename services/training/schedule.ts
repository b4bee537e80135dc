import { Cron } from 'croner';
import { messageOf } from '../../actors/protocol/errors.ts';
import { SettingsError } from '../../config/settings.ts';

/** TRAINING_SCHEDULE: five fields, UTC; with six it would be seconds. Undefined where there is none. Throws SettingsError. */
export function cronOf(schedule: string | null, work: () => Promise<void>): Cron | undefined {
  if (schedule === null) return undefined;
  try {
    return new Cron(schedule, { timezone: 'UTC', unref: true, mode: '5-part' }, work);
  } catch (error) {
    throw new SettingsError([`TRAINING_SCHEDULE is no cron expression of five fields: ${messageOf(error)}`]);
  }
}
