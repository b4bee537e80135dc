import { describe, expect, it } from 'vitest';
import { CATALOGUE, UNBUILT } from '../../../config/catalogue.ts';
import { helpText } from '../../../config/help.ts';
import { LIMITS } from '../../../config/limits.ts';
import { camelCase, type Environment, loadSettings, SettingsError } from '../../../config/settings.ts';

function faultsOf(env: Environment, file?: string): readonly string[] {
  try {
    loadSettings(env, file);
  } catch (error) {
    if (error instanceof SettingsError) return error.faults;
    throw error;
  }
  return [];
}

describe('settings', () => {
  it('start on their defaults, which satisfy every limit', () => {
    const settings = loadSettings({});
    expect(settings).toMatchObject({
      host: '127.0.0.1',
      port: 8080,
      mqttListenPort: 1883,
      mqttWsPort: 9002,
      dataDir: './data',
      demo: true,
      ack: 'log',
      shards: 256,
      latenessMs: 600_000,
      databaseUrl: null,
      mqttUrl: null,
      notices: [],
    });
    for (const limit of LIMITS) expect(limit.holds(settings), limit.otherwise(settings)).toBe(true);
    expect(Object.isFrozen(settings)).toBe(true);
  });

  it('put the environment over the file over the default', () => {
    const file = JSON.stringify({
      PORT: 9000,
      MQTT_LISTEN_PORT: 9001,
      DEMO: false,
      CORS_ORIGINS: ['https://a.example'],
    });
    const settings = loadSettings({ PORT: '9100', LOG_LEVEL: '' }, file);
    expect(settings).toMatchObject({ port: 9100, mqttListenPort: 9001, demo: false, logLevel: 'info' });
    expect(settings.corsOrigins).toEqual(['https://a.example']);
  });

  it('read every way of writing a value', () => {
    const settings = loadSettings({
      DEMO: 'No',
      ACK: 'COMMIT',
      SPEED_FACTOR: '2.5',
      CORS_ORIGINS: 'https://a.example, http://localhost:3000',
    });
    expect(settings).toMatchObject({ demo: false, ack: 'commit', speedFactor: 2.5 });
    expect(settings.corsOrigins).toEqual(['https://a.example', 'http://localhost:3000']);
  });

  it('report all faults together, each by name', () => {
    const faults = faultsOf(
      { PORT: 'eighty', SHARDS: '5000', DEMO: 'maybe', ACK: 'never', TTL_MS: '1.5', METRICS_TOKEN: 'short' },
      '{"PROT": 1, "latenessMs": 3, "zebra": 0}',
    );
    for (const name of ['PORT', 'SHARDS', 'DEMO', 'ACK', 'TTL_MS', 'METRICS_TOKEN']) {
      expect(faults.filter((fault) => fault.startsWith(`${name} `))).toHaveLength(1);
    }
    expect(faults).toContain('twinmesh.config.json: unknown key "PROT", did you mean PORT?');
    expect(faults).toContain('twinmesh.config.json: unknown key "latenessMs", did you mean LATENESS_MS?');
    expect(faults).toContain('twinmesh.config.json: unknown key "zebra".');
    expect(faults).toHaveLength(9);
  });

  it('refuse a file that is not an object, without quoting it', () => {
    expect(faultsOf({}, '{"METRICS_TOKEN": "hush-hush-hush-hush" oops')).toEqual([
      'twinmesh.config.json is not valid JSON.',
    ]);
    expect(faultsOf({}, '[1]')).toEqual(['twinmesh.config.json must hold one object of settings.']);
  });

  it('refuse an inherited name as a key of the file', () => {
    expect(faultsOf({}, '{"__proto__": {"PORT": 1}}')).toEqual(['twinmesh.config.json: unknown key "__proto__".']);
    expect(faultsOf({}, '{"constructor": 1}')).toHaveLength(1);
  });

  it('never repeat a value that may hold a secret', () => {
    const faults = faultsOf({
      DATABASE_URL: 'mysql://me:hush@db/x',
      MQTT_URL: 'hush',
      METRICS_TOKEN: 'hush hush hush hush hush',
      NATS_URL: 'nats://me:hush@mesh',
    });
    expect(faults).toHaveLength(4);
    expect(faults.join(' ')).not.toContain('hush');
  });

  it.each(Object.entries(UNBUILT).filter(([, { answer }]) => answer === 'refuse'))(
    'refuse %s, whose part is not built',
    (name) => {
      expect(faultsOf({ [name]: 'scheme://host:1' })).toEqual([
        expect.stringContaining('not available in this version'),
      ]);
      expect(faultsOf({}, JSON.stringify({ [name]: 'scheme://host:1' }))).toHaveLength(1);
      expect(faultsOf({ [name]: '' })).toEqual([]);
    },
  );

  it('note what has no effect', () => {
    expect(loadSettings({ FILTER_TODAY_ONLY: '1' }).notices).toEqual([expect.stringContaining('FILTER_TODAY_ONLY')]);
    expect(loadSettings({ AWS_ACCESS_KEY_ID: 'AKIA' }).notices).toEqual([]);
    expect(loadSettings({ MODEL_PATH: '/models' })).toMatchObject({ modelsDir: '/models', notices: [] });
    const both = loadSettings({ DATABASE_URL: 'postgres://u@a/d', PG_HOST: 'b', MQTT_URL: 'mqtt://a', MQTT_HOST: 'b' });
    expect(both).toMatchObject({ databaseUrl: 'postgres://u@a/d', mqttUrl: 'mqtt://a' });
    expect(both.notices).toHaveLength(2);
  });

  it('make URLs of the parts that existing deployments set', () => {
    const env = { PG_HOST: 'db', PG_USER: 'u@x', PG_PASSWORD: 'p/:@', PG_DATABASE: 'twins', MQTT_HOST: 'broker' };
    const settings = loadSettings(env);
    expect(settings.mqttUrl).toBe('mqtt://broker:1883');
    const parsed = new URL(settings.databaseUrl ?? '');
    expect([parsed.hostname, parsed.port, parsed.pathname]).toEqual(['db', '5432', '/twins']);
    expect([parsed.username, parsed.password].map(decodeURIComponent)).toEqual(['u@x', 'p/:@']);
    expect(loadSettings({ MQTT_HOST: '::1', MQTT_PORT: '1884' }).mqttUrl).toBe('mqtt://[::1]:1884');
    expect(faultsOf({ PG_HOST: 'db' })).toHaveLength(2);
    expect(faultsOf({ PG_USER: 'u' })).toEqual([expect.stringContaining('PG_HOST is missing')]);
  });

  it.each([
    [{ PASSIVATE_AFTER_MS: '1000', TTL_MS: '20000' }, 'PASSIVATE_AFTER_MS'],
    [{ HISTORY_RETENTION_DAYS: '1', LATENESS_MS: '86400000' }, 'HISTORY_RETENTION_DAYS'],
    [{ MAX_BODY_BYTES: '1000' }, 'MAX_BODY_BYTES'],
    [{ PORT: '1883' }, 'MQTT_LISTEN_PORT'],
  ] as [Environment, string][])('hold together: %o', (env, named) => {
    expect(faultsOf(env)).toEqual([expect.stringContaining(named)]);
  });

  it('may take any free port more than once', () => {
    expect(loadSettings({ PORT: '0', MQTT_LISTEN_PORT: '0', MQTT_WS_PORT: '0' })).toMatchObject({ port: 0 });
  });
});

describe('help', () => {
  it('lists every setting with its default, and every name that is refused', () => {
    const help = helpText();
    for (const [name, setting] of Object.entries(CATALOGUE)) {
      const line = help.split('\n').find((l) => l.startsWith(`  ${name}  `));
      expect(line, name).toContain(setting.form);
      expect(line, name).toMatch(/default \S/);
    }
    for (const name of Object.keys(UNBUILT)) expect(help).toContain(name);
    for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(110);
  });

  it('names each setting once, also in camelCase', () => {
    const names = Object.keys(CATALOGUE).map(camelCase);
    expect(new Set(names).size).toBe(names.length);
    expect(camelCase('MQTT_LISTEN_PORT')).toBe('mqttListenPort');
  });
});
