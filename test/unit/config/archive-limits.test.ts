import { describe, expect, it } from 'vitest';
import { type Environment, loadSettings, SettingsError } from '../../../config/settings.ts';

const faultsOf = (env: Environment): readonly string[] => {
  try {
    loadSettings(env);
    return [];
  } catch (error) {
    if (error instanceof SettingsError) return error.faults;
    throw error;
  }
};

const S3 = { S3_ENDPOINT: 'http://minio:9000', S3_BUCKET: 'plant', AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's' };
const MESH = { NATS_URL: 'nats://n:4222', DATABASE_URL: 'postgres://d/t', MQTT_URL: 'mqtt://b' };

describe('settings of the archive', () => {
  it('hold where they fit together', () => {
    expect(faultsOf({ ...S3 })).toEqual([]);
    expect(faultsOf({ ARCHIVE_AFTER_DAYS: '7', HISTORY_RETENTION_DAYS: '7', ARCHIVE_KEEP_DAYS: '8' })).toEqual([]);
    expect(faultsOf({ ARCHIVE_AFTER_DAYS: '7', ARCHIVE_KEEP_DAYS: '0', HISTORY_RETENTION_DAYS: '0' })).toEqual([]);
    expect(faultsOf({ ...MESH, ...S3, ARCHIVE_AFTER_DAYS: '7' })).toEqual([]);
    expect(faultsOf({ ...MESH, ARCHIVE_DIR: '/mnt/archive', ARCHIVE_AFTER_DAYS: '7' })).toEqual([]);
  });

  it.each(Object.keys(S3).slice(1))('S3_ENDPOINT needs %s, and says so without a secret', (name) => {
    const { [name as keyof typeof S3]: _, ...rest } = S3;
    expect(faultsOf(rest)).toEqual([`S3_ENDPOINT needs ${name}.`]);
  });

  it.each([
    [{ ARCHIVE_AFTER_DAYS: '31', HISTORY_RETENTION_DAYS: '30' }, 'HISTORY_RETENTION_DAYS (30)'],
    [{ ARCHIVE_AFTER_DAYS: '7', ARCHIVE_KEEP_DAYS: '7' }, 'ARCHIVE_KEEP_DAYS (7)'],
    [{ ...MESH, ARCHIVE_AFTER_DAYS: '7' }, 'a folder that all nodes share'],
  ])('%j does not fit together', (env, sentence) => {
    expect(faultsOf(env)).toEqual([expect.stringContaining(sentence)]);
  });
});
