import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../actors/protocol/clock.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { loadSettings, type Settings } from '../../config/settings.ts';
import { type Finding, findingsOf } from '../../services/doctor/check.ts';
import { examine } from '../../services/doctor/examination.ts';
import { sessionsCheck } from '../../services/doctor/sessions.ts';
import { Metrics } from '../../services/metrics.ts';
import { makeCertificates } from '../servers/certificates.ts';
import { findMosquittoServer } from '../servers/mosquitto.ts';
import { findNats } from '../servers/nats.ts';
import { startOtlp } from '../servers/otlp.ts';
import { findPostgres } from '../servers/postgres.ts';
import { findRedis } from '../servers/redis.ts';
import { findMosquitto, Mosquitto } from './mosquitto.ts';

const folder = mkdtempSync(join(tmpdir(), 'tm-doctor-'));
const postgres = await findPostgres();
const nats = await findNats({
  config: `accounts {
    A { jetstream: enabled, users: [
      { user: able, password: secret-of-able },
      { user: meek, password: secret-of-meek, permissions: {
        publish: { deny: ["$JS.API.STREAM.DELETE.>"] } } },
      { user: blind, password: secret-of-blind, permissions: { publish: ["nowhere"] } } ] }
    B { users: [{ user: plain, password: secret-of-plain }] }
  }`,
  user: 'able',
  password: 'secret-of-able',
});
const redis = await findRedis({ own: true, password: 'secret-of-redis' });
const mosquitto = await findMosquittoServer();

afterAll(async () => {
  await Promise.all([postgres?.stop(), nats?.stop(), redis?.stop(), mosquitto?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

const DATABASE = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' };
const settings = (env: Record<string, string>): Settings =>
  loadSettings({ DATA_DIR: folder, TTL_MS: '1000', SHARDS: '8', ...env });
const bad = (findings: Finding[]) => findings.filter(({ level }) => level !== 'ok');
const says = (text: RegExp | string) =>
  typeof text === 'string' ? expect.stringContaining(text) : expect.stringMatching(text);

describe.skipIf(postgres === null)('PostgreSQL', () => {
  let url: string;
  let sql: Pg;
  beforeAll(async () => {
    url = await (postgres as NonNullable<typeof postgres>).database();
    sql = await Pg.open({ url });
  });
  afterAll(() => sql?.close());
  const of = (env: Record<string, string>, ...parts: string[]) => examine(settings(env), parts);

  it('that is empty is well, and what the test server is careless about is said', async () => {
    const found = await of({ DATABASE_URL: url }, 'database', 'mesh', 'sessions', 'clock');
    expect(found.filter(({ level }) => level === 'fault')).toEqual([]);
    expect(found).toContainEqual(expect.objectContaining({ part: 'mesh', says: says('the database is empty') }));
    expect(found).toContainEqual(expect.objectContaining({ part: 'clock', says: says('within the round trip') }));
    expect(bad(found).map(({ says }) => says)).toContain('postgres is a superuser');
  });

  it('that holds another number of shards, silent nodes and shards without owner', async () => {
    const store = new PostgresStore(sql);
    await store.open((await loadKinds([])).all(), 8);
    await sql.query(`insert into nodes (node, beat) values ('gone', 7)`);
    await sql.query(`update shards set owner = 'gone', epoch = 1 where shard < 3`);
    await sql.query(`update shards set event_seq = 50000 where shard = 0`);
    await sql.query(`insert into sink_cursors (sink, shard, seq) values ('old', 0, 10), ('~suspect', 0, 1)`);
    let beat = 0;
    const beating = setInterval(() => {
      beat++;
      void sql.query(`insert into nodes (node, beat) values ('alive', $1) on conflict (node) do update set beat = $1`, [
        beat,
      ]);
    }, 50);
    try {
      const found = await of({ DATABASE_URL: url, SHARDS: '16' }, 'mesh');
      expect(bad(found)).toEqual([
        expect.objectContaining({
          level: 'fault',
          says: 'the database has 8 shards, and SHARDS is 16',
          remedy: says('SHARDS=8'),
        }),
        expect.objectContaining({ level: 'warning', says: 'silent: gone' }),
        expect.objectContaining({ level: 'warning', says: 'of 8 shards 5 have no owner and 3 a silent one' }),
        expect.objectContaining({ level: 'warning', says: 'sink old is 49990 events behind' }),
      ]);
      expect(found).toContainEqual(expect.objectContaining({ level: 'ok', says: '1 living: alive' }));
    } finally {
      clearInterval(beating);
    }
  });

  it('that somebody holds a transaction open on', async () => {
    const client = new pg.Client({ connectionString: url, application_name: 'forgetful' });
    await client.connect();
    try {
      await client.query('begin');
      await client.query('select 1');
      const patient = { settings: settings({ DATABASE_URL: url }), clock: systemClock, sql: async () => sql };
      const examined = (oldS: number) => findingsOf(sessionsCheck(oldS), { ...patient, running: async () => false });
      expect(await examined(10)).toEqual([expect.objectContaining({ level: 'ok' })]);
      expect(await examined(0)).toEqual([
        expect.objectContaining({
          level: 'warning',
          says: says(/^forgetful \(pid \d+\) has a transaction open for 0 s, idle$/),
          remedy: says(/pg_terminate_backend\(\d+\)/),
        }),
      ]);
    } finally {
      await client.end();
    }
  });

  it('that is down, unknown or refuses us', async () => {
    const down = await of(DATABASE, 'database', 'mesh', 'sessions');
    expect(down).toEqual([expect.objectContaining({ level: 'fault', says: says('127.0.0.1:1 cannot be used') })]);
    const elsewhere = new URL(url);
    elsewhere.pathname = '/nowhere';
    expect(await of({ DATABASE_URL: elsewhere.toString() }, 'database')).toEqual([
      expect.objectContaining({ level: 'fault', says: says('the database does not exist') }),
    ]);
  });

  it.skipIf(postgres?.pid === null)('with a wrong password', async () => {
    const [{ file }] = await sql.query<{ file: string }>(`select current_setting('hba_file') as file`);
    const before = readFileSync(file, 'utf8');
    await sql.query(`create role careful login password 'right'`);
    writeFileSync(file, `host all careful 127.0.0.1/32 scram-sha-256\n${before}`);
    try {
      await sql.query('select pg_reload_conf()');
      const as = new URL(url);
      as.username = 'careful';
      as.password = 'wr0ng-secret';
      // The server reloads when it gets to it.
      let found: Finding[] = [];
      for (let tries = 0; tries < 50 && found[0]?.level !== 'fault'; tries++)
        found = await of({ DATABASE_URL: as.toString() }, 'database');
      expect(found).toEqual([
        expect.objectContaining({ level: 'fault', says: says('the password is refused'), remedy: says('PG_PASSWORD') }),
      ]);
      expect(JSON.stringify(found)).not.toContain('wr0ng');
      as.password = 'right';
      const right = await of({ DATABASE_URL: as.toString() }, 'database');
      expect(right.filter(({ level }) => level === 'fault').map(({ says }) => says)).toEqual([
        'careful may not create tables in the schema public',
      ]);
    } finally {
      writeFileSync(file, before);
      await sql.query('select pg_reload_conf()');
    }
  });

  it('shows its pool and its statements in the metrics', async () => {
    const metrics = new Metrics(systemClock);
    const own = await Pg.open({ url, onAcquired: metrics.database.acquired });
    metrics.followPools(() => own.pools);
    await own.query('select 1');
    const sleeping = own.query('select pg_sleep(0.3)');
    await own.query('select 1');
    const text = await metrics.text();
    expect(text).toContain('twinmesh_database_pool_connections{pool="ordinary",state="active"} 1');
    expect(text).toContain('twinmesh_database_pool_connections{pool="priority",state="idle"} 1');
    expect(text).toContain('twinmesh_database_pool_max{pool="priority"} 2');
    expect(text).toMatch(/twinmesh_database_acquire_duration_ms_count 4\b/);
    await sleeping;
    await own.close();
    metrics.close();
  });
});

describe.skipIf(nats === null)('NATS', () => {
  const as = (user: string, password = `secret-of-${user}`) =>
    examine(settings({ ...DATABASE, NATS_URL: `nats://${user}:${password}@127.0.0.1:${nats?.port}` }), ['nats']);

  it('with JetStream is well, apart from rights that nobody needs', async () => {
    expect(bad(await as('meek'))).toEqual([]);
    expect(bad(await as('able'))).toEqual([
      expect.objectContaining({ level: 'warning', says: 'this user may delete streams' }),
    ]);
  });

  it('without JetStream, without rights, or with a wrong password', async () => {
    expect(bad(await as('plain'))).toEqual([
      expect.objectContaining({ level: 'fault', says: 'JetStream is off', remedy: says('-js') }),
    ]);
    expect(bad(await as('blind')).map(({ says }) => says)).toEqual([
      'this user may not ask about JetStream',
      'this user may not look at the stream TWINS',
    ]);
    const wrong = await as('able', 'wr0ng-secret');
    expect(wrong).toEqual([expect.objectContaining({ level: 'fault', remedy: says('NATS_URL') })]);
    expect(JSON.stringify(wrong)).not.toMatch(/wr0ng|secret-of/);
  });

  it('whose stream is not ours, nearly full, or throws away', async () => {
    const { connect, DiscardPolicy } = await import('nats');
    const connection = await connect({ servers: `127.0.0.1:${nats?.port}`, user: 'able', pass: 'secret-of-able' });
    const manager = await connection.jetstreamManager();
    const stream = { name: 'TWINS', subjects: ['twins.log.*'], max_bytes: 1_048_576, discard: DiscardPolicy.Old };
    await manager.streams.add(stream);
    await connection.jetstream().publish('twins.log.1', new Uint8Array(900_000));
    const found = bad(
      await examine(
        settings({
          ...DATABASE,
          NATS_URL: `nats://meek:secret-of-meek@127.0.0.1:${nats?.port}`,
          LOG_MAX_BYTES: '2097152',
        }),
        ['nats'],
      ),
    );
    await manager.streams.delete('TWINS');
    await connection.close();
    expect(found).toEqual([
      expect.objectContaining({ level: 'fault', says: says('throws old messages away') }),
      expect.objectContaining({ level: 'warning', says: 'the stream holds 1.0 MiB, and LOG_MAX_BYTES is 2.0 MiB' }),
      expect.objectContaining({ level: 'warning', says: says('the log holds 1 messages, 0.9 MiB of 1.0 MiB') }),
    ]);
  });

  it('that is not there', async () => {
    const found = await examine(settings({ ...DATABASE, NATS_URL: 'nats://127.0.0.1:1' }), ['nats']);
    expect(found).toEqual([expect.objectContaining({ level: 'fault', remedy: says('Start NATS') })]);
  });
});

describe.skipIf(redis === null)('Redis', () => {
  const of = (REDIS_URL: string) => examine(settings({ REDIS_URL }), ['redis']);

  it('answers, and should have a bound', async () => {
    const found = await of((redis as NonNullable<typeof redis>).url);
    expect(found[0]).toMatchObject({ level: 'ok', says: says(/^Redis \d+\.\d+.* answers in/) });
    expect(bad(found)).toEqual([expect.objectContaining({ level: 'warning', says: says('maxmemory 0') })]);
  });

  it('with a wrong password, or not there', async () => {
    const wrong = await of(`redis://:wr0ng-secret@127.0.0.1:${redis?.port}`);
    expect(wrong).toEqual([expect.objectContaining({ level: 'fault', says: says('the sign-in is refused') })]);
    expect(JSON.stringify(wrong)).not.toContain('wr0ng');
    const gone = await of('redis://127.0.0.1:1');
    expect(gone).toEqual([expect.objectContaining({ level: 'fault', says: says('127.0.0.1:1 cannot be used') })]);
  });
});

describe.skipIf(mosquitto === null)('Mosquitto', () => {
  const of = (MQTT_URL: string) => examine(settings({ MQTT_URL, DEMO: 'off' }), ['mqtt']);

  it('lets us in, hands out what we read, and shares it', async () => {
    const found = await of((mosquitto as NonNullable<typeof mosquitto>).url);
    expect(found).toEqual([expect.objectContaining({ level: 'ok', says: says('(MQTT 5)') })]);
  });

  it('that wants another password, or is not there', async () => {
    const broker = new Mosquitto(findMosquitto() as string, ['allow_anonymous false']);
    await broker.start();
    try {
      const found = await of(`mqtt://me:wr0ng-secret@127.0.0.1:${broker.port}`);
      expect(found).toEqual([
        expect.objectContaining({ level: 'fault', says: says('refuses the sign-in'), remedy: says('MQTT_URL') }),
      ]);
      expect(JSON.stringify(found)).not.toContain('wr0ng');
    } finally {
      await broker.remove();
    }
    expect(await of('mqtt://127.0.0.1:1')).toEqual([
      expect.objectContaining({ level: 'fault', says: says('cannot be used') }),
    ]);
  });
});

describe('the trace collector', () => {
  it('takes an empty request, or it is said why not', async () => {
    const receiver = await startOtlp();
    const of = (endpoint: string) => examine(settings({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }), ['traces']);
    expect(await of(receiver.endpoint)).toEqual([expect.objectContaining({ level: 'ok', says: says('1 %') })]);
    expect(await of(`${receiver.endpoint}/other`)).toEqual([
      expect.objectContaining({ level: 'fault', says: says('404'), remedy: says('4318') }),
    ]);
    receiver.status = 503;
    expect(await of(receiver.endpoint)).toEqual([expect.objectContaining({ level: 'fault', says: says('503') })]);
    await receiver.close();
    expect(await of(receiver.endpoint)).toEqual([
      expect.objectContaining({ level: 'warning', says: says('does not answer') }),
    ]);
  });
});

describe('Kafka', () => {
  it('that is not there', async () => {
    const found = await examine(settings({ KAFKA_BROKERS: '127.0.0.1:1' }), ['kafka']);
    expect(found).toEqual([
      expect.objectContaining({ level: 'fault', says: says('127.0.0.1:1'), remedy: says('Start Kafka') }),
    ]);
  });
});

describe('TLS files', () => {
  it('belong together, are there, and hold what they should', async () => {
    const { caFile, clientCertFile, clientKeyFile, keyFile } = makeCertificates(folder);
    const of = (ca: string, cert: string, key: string) =>
      examine(settings({ TLS_CA_FILE: ca, TLS_CERT_FILE: cert, TLS_KEY_FILE: key }), ['tls']);
    const good = await of(caFile, clientCertFile, clientKeyFile);
    expect(good.at(-1)).toMatchObject({ level: 'ok', says: 'TLS_KEY_FILE belongs to TLS_CERT_FILE' });
    // They live for two days.
    expect(bad(good).map(({ level, says }) => [level, /expires on/.test(says)])).toEqual([
      ['warning', true],
      ['warning', true],
    ]);
    const faults = async (...files: [string, string, string]) =>
      (await of(...files)).filter(({ level }) => level === 'fault').map(({ says }) => says);
    expect(await faults(caFile, clientCertFile, keyFile)).toEqual(['TLS_KEY_FILE is the key of another certificate']);
    expect(await faults(caFile, clientKeyFile, clientKeyFile)).toEqual([says('no certificate in PEM form')]);
    expect(await faults(join(folder, 'none.pem'), clientCertFile, clientKeyFile)).toEqual([says('ENOENT')]);
    copyFileSync(caFile, join(folder, 'broken.key'));
    expect(await faults(caFile, clientCertFile, join(folder, 'broken.key'))).toEqual([says('no private key')]);
  });
});
