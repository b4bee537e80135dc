import { describe, expect, it } from 'vitest';
import { SettingsError } from '../../../config/settings.ts';
import { cronOf } from '../../../services/training/schedule.ts';

const nothing = async () => undefined;

describe('TRAINING_SCHEDULE', () => {
  it('is five fields in UTC', () => {
    const cron = cronOf('30 2 * * *', nothing);
    expect(cron?.nextRun(new Date('2026-07-01T12:00:00Z'))?.toISOString()).toBe('2026-07-02T02:30:00.000Z');
    cron?.stop();
    expect(cronOf(null, nothing)).toBeUndefined();
  });

  it('with seconds, or out of range, is told by its name', () => {
    for (const schedule of ['*/5 * * * * *', '61 * * * *', 'whenever it suits'])
      expect(() => cronOf(schedule, nothing), schedule).toThrow(SettingsError);
  });
});
