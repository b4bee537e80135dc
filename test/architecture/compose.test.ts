import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { CATALOGUE } from '../../config/catalogue.ts';
import { loadSettings } from '../../config/settings.ts';
import { generate, randomSecret, SECRETS } from '../../deploy/generate-env.ts';
import { findCompose } from '../servers/compose.ts';
import { filesUnder, ROOT, textOf } from './tree.ts';

/** docker-compose.yml, the image, the settings and the documents hold together. */
interface Service {
  image?: string;
  build?: { target?: string };
  profiles?: string[];
  environment?: Record<string, unknown>;
  healthcheck?: { test?: string[] };
  deploy?: { resources?: { limits?: { cpus?: string; memory?: string } } };
  volumes?: string[];
  ports?: string[];
  networks?: string[];
  restart?: string;
  read_only?: boolean;
  tmpfs?: string[];
  cap_drop?: string[];
  security_opt?: string[];
  privileged?: boolean;
  command?: string[] | string;
  stop_grace_period?: string;
  depends_on?: Record<string, { condition: string }>;
}

const text = textOf('docker-compose.yml');
const compose = parse(text, { merge: true }) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  networks: Record<string, unknown>;
};
const services = Object.entries(compose.services);
const nodes = services.filter(([, service]) => /^twinmesh(-training)?:/.test(service.image ?? ''));
const dockerfile = textOf('Dockerfile');
/** Runs once and ends: others wait for its end, which is more than a health check. */
const oneShot = (service: Service) => service.restart === 'no';
const bind = (volume: string) => volume.split(':')[0];

describe('compose', () => {
  it('has every part of the plant', () => {
    expect(Object.keys(compose.services)).toEqual(
      expect.arrayContaining(
        [
          'nats',
          'timescaledb',
          'redis',
          'redpanda',
          'mosquitto',
          'prometheus',
          'alertmanager',
          'grafana',
          'loki',
          'jaeger',
          'minio',
          'mlflow',
        ].concat('host-1', 'host-2', 'ingest', 'history', 'inference', 'gateway', 'trainer'),
      ),
    );
  });

  it.each(services)('%s has a pinned image, a health check, limits and a way to restart', (_, service) => {
    // MinIO numbers its releases by their time.
    expect(service.image).toMatch(
      /^[a-z0-9./-]+:(v?\d+\.\d+\.\d+[a-z0-9.-]*|RELEASE\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)$/,
    );
    if (oneShot(service)) {
      const waits = services.some(([, other]) =>
        Object.values(other.depends_on ?? {}).some((need) => need.condition === 'service_completed_successfully'),
      );
      expect(waits).toBe(true);
    } else {
      expect(service.healthcheck?.test?.length).toBeGreaterThan(1);
      expect(service.restart).toBe('unless-stopped');
    }
    expect(service.deploy?.resources?.limits).toEqual({
      cpus: expect.stringMatching(/^\d+(\.\d+)?$/),
      memory: expect.stringMatching(/^\d+[mg]$/),
    });
    expect(service.networks).toEqual(['plant']);
    expect(service.security_opt).toContain('no-new-privileges:true');
    expect(service.privileged).toBeUndefined();
  });

  it('mounts only what is declared or there, and no socket of Docker', () => {
    const volumes = services.flatMap(([, service]) => service.volumes ?? []);
    const named = volumes.map(bind).filter((source) => !/^[./]/.test(source));
    expect([...new Set(named)].sort()).toEqual(Object.keys(compose.volumes).sort());
    const folders = volumes.filter((volume) => volume.startsWith('./'));
    // What `npm run env` makes is there once it has run.
    const missing = folders
      .map(bind)
      .filter((source) => !source.startsWith('./deploy/secrets/') && !existsSync(join(ROOT, source)));
    expect(missing).toEqual([]);
    expect(volumes.filter((volume) => /^[./]/.test(volume)).filter((volume) => !/:ro(,|$)/.test(volume))).toEqual([]);
    expect(text).not.toMatch(/docker\.sock/);
  });

  it('publishes the ports of the documents, on this machine unless BIND says otherwise', () => {
    const ports = services.flatMap(([name, service]) => (service.ports ?? []).map((port) => [name, port] as const));
    for (const [name, port] of ports)
      expect([name, port]).toEqual([name, expect.stringMatching(/^\$\{BIND:-127\.0\.0\.1\}:(\d+):\1$/)]);
    expect(Object.fromEntries(ports.map(([name, port]) => [port.split(':').at(-1), name]))).toMatchObject({
      8080: 'gateway',
      3000: 'grafana',
      9090: 'prometheus',
      1883: 'mosquitto',
      9002: 'mosquitto',
      9092: 'redpanda',
      5432: 'timescaledb',
      4222: 'nats',
      6379: 'redis',
      9000: 'minio',
      9001: 'minio',
      5000: 'mlflow',
    });
  });

  it('has no secret by default: each comes from what `npm run env` writes, and is missed without it', () => {
    const variables = [...text.matchAll(/\$\{([A-Z0-9_]+)(:[-?][^}]*)?\}/g)].map(([, name, rest]) => ({ name, rest }));
    const secrets = variables.filter(({ name }) => /PASSWORD|TOKEN|SECRET|KEY/.test(name));
    expect(new Set(secrets.map(({ name }) => name))).toEqual(new Set(SECRETS));
    for (const { name, rest } of secrets) expect([name, rest]).toEqual([name, ':?run npm run env']);
    // The others have a default that can be seen.
    for (const { name, rest } of variables.filter(({ name }) => !/PASSWORD|TOKEN/.test(name)))
      expect([name, rest]).toEqual([name, expect.stringMatching(/^:-/)]);
    const literal = services.flatMap(([name, service]) =>
      Object.entries(service.environment ?? {})
        .filter(([key, value]) => /PASSWORD|TOKEN|SECRET/.test(key) && !String(value).startsWith('${'))
        .map(([key]) => `${name}: ${key}`),
    );
    expect(literal).toEqual([]);
  });
});

describe('nodes in compose', () => {
  const filled = (environment: Record<string, unknown>) =>
    Object.fromEntries(
      Object.entries(environment).map(([name, value]) => [
        name,
        String(value).replace(/\$\{([A-Z0-9_]+)(?::-([^}]*))?[^}]*\}/g, (_, variable, fallback) =>
          SECRETS.includes(variable) ? randomSecret() : (fallback ?? ''),
        ),
      ]),
    );

  it('are hosts, ingest, history, inference and gateway, each under a name of its own', () => {
    const running = nodes.filter(([, service]) => !oneShot(service));
    const roles = running.map(([, service]) => service.environment?.ROLES);
    expect(roles.sort()).toEqual(['gateway', 'history', 'host', 'host', 'inference', 'inference', 'ingest', 'ingest']);
    const names = running.map(([, service]) => service.environment?.NODE_ID);
    expect(new Set(names).size).toBe(running.length);
  });

  it.each(nodes)('%s sets only settings that there are, to values that they take', (name, service) => {
    const environment = service.environment ?? {};
    expect(Object.keys(environment).filter((key) => !(key in CATALOGUE))).toEqual([]);
    expect(() => loadSettings(filled(environment))).not.toThrow();
    expect([name, loadSettings(filled(environment)).notices]).toEqual([name, []]);
  });

  it('agree on what has to be the same everywhere', () => {
    for (const setting of ['SHARDS', 'TTL_MS', 'LOG_MAX_BYTES', 'ACK', 'METRICS_PORT']) {
      const values = nodes
        .filter(([, service]) => !oneShot(service))
        .map(([, service]) => service.environment?.[setting]);
      expect([setting, new Set(values).size]).toEqual([setting, 1]);
    }
  });

  it('sign in as the role that they have', () => {
    for (const [name, service] of nodes) {
      const { ROLES, NATS_URL, DATABASE_URL } = service.environment ?? {};
      const role = oneShot(service) ? 'owner' : 'runtime';
      expect([name, DATABASE_URL]).toEqual([
        name,
        expect.stringContaining(`//twinmesh_${role}:\${POSTGRES_${role.toUpperCase()}_PASSWORD`),
      ]);
      if (!oneShot(service)) expect([name, NATS_URL]).toEqual([name, expect.stringContaining(`//${ROLES}:\${NATS_`)]);
    }
  });

  it('train where there is Python, with room for it, and share what they have made', () => {
    const training = nodes.filter(([, service]) => service.build?.target === 'training');
    expect(training.map(([name]) => name)).toEqual(['trainer']);
    for (const [, { image, profiles, environment, volumes, tmpfs }] of training) {
      expect([image, profiles]).toEqual([expect.stringMatching(/^twinmesh-training:/), ['training']]);
      expect(environment?.ROLES).toBe('inference');
      expect(environment?.S3_ENDPOINT).toBe(compose.services.inference.environment?.S3_ENDPOINT);
      // Rows are kept below HOME of the image, which must not be memory.
      expect(dockerfile).toMatch(/^ENV TRAINING_PYTHON=\/opt\/training\/bin\/python HOME=\/data$/m);
      expect([volumes, tmpfs?.some((each) => each.startsWith('/data'))]).toEqual([['training:/data'], false]);
    }
    for (const [name, { image, build }] of nodes.filter(([, service]) => service.build?.target === undefined))
      expect([name, image, build]).toEqual([name, compose.services.migrate.image, compose.services.migrate.build]);
  });

  it('run without rights: no capability, nothing to write but memory, time to stop', () => {
    for (const [name, service] of nodes) {
      expect([name, service.read_only, service.cap_drop]).toEqual([name, true, ['ALL']]);
      if (!oneShot(service))
        expect([name, Number.parseInt(service.stop_grace_period ?? '0', 10) > 5]).toEqual([name, true]);
    }
  });

  it('take fewer connections together than the database allows', () => {
    const allowed = Number(JSON.stringify(compose.services.timescaledb.command).match(/max_connections=(\d+)/)?.[1]);
    const asked = nodes.reduce((sum, [, service]) => sum + Number(service.environment?.DATABASE_POOL ?? 10), 0);
    expect(asked).toBeGreaterThan(0);
    expect(asked).toBeLessThan(allowed * 0.8);
  });

  it('are scraped by Prometheus, every one that always runs', () => {
    const { scrape_configs: jobs } = parse(textOf('deploy/prometheus/prometheus.yml'));
    const targets = jobs
      .find((job: { job_name: string }) => job.job_name === 'twinmesh')
      .static_configs.flatMap((each: { targets: string[] }) => each.targets)
      .sort();
    const wanted = nodes
      .filter(([, service]) => !oneShot(service) && service.profiles === undefined)
      .map(
        ([name, { environment }]) =>
          `${name}:${environment?.ROLES === 'gateway' ? environment.PORT : environment?.METRICS_PORT}`,
      );
    expect(targets).toEqual(wanted.sort());
  });
});

describe('files of deploy/', () => {
  it('are YAML that parses, each mounted or read by something', () => {
    const files = filesUnder('deploy', (path) => /\.ya?ml$/.test(path));
    expect(files.length).toBeGreaterThan(5);
    for (const file of files) expect([file, typeof parse(textOf(file))]).toEqual([file, 'object']);
    const mounted = services.flatMap(([, service]) => service.volumes ?? []).map((volume) => bind(volume).slice(2));
    const loose = files.filter((file) => !mounted.some((source) => file === source || file.startsWith(`${source}/`)));
    expect(loose).toEqual([]);
  });
});

describe('the image', () => {
  const stages = [...dockerfile.matchAll(/^FROM (\S+)(?: AS (\S+))?$/gm)].map(([, from, name]) => ({ from, name }));
  const textOfStage = (name: string) =>
    dockerfile.split(/^(?=FROM )/m).find((stage) => stage.split('\n')[0].endsWith(` AS ${name}`)) ?? '';

  it('has the Node of package.json, in every stage', () => {
    const { node } = JSON.parse(textOf('package.json')).dependencies;
    const names = new Set(stages.map(({ name }) => name));
    const foreign = stages.filter(({ from }) => !names.has(from)).map(({ from }) => from);
    expect(foreign).toEqual(Array(3).fill(`node:${node}-bookworm-slim`));
  });

  it('has no Python unless asked for, and then exactly the pinned packages, in place before it starts', () => {
    expect(stages.at(-1)).toEqual({ from: 'program', name: undefined });
    expect(stages.find(({ name }) => name === 'training')?.from).toBe('program');
    for (const stage of ['packages', 'program'])
      expect([stage, textOfStage(stage)]).toEqual([stage, expect.not.stringMatching(/python|pip/)]);
    expect(textOfStage('python')).toMatch(/^COPY models\/training\/requirements\.txt /m);
    expect(textOfStage('python')).toMatch(/pip install .*--only-binary=:all: -r \/tmp\/requirements\.txt$/m);
    // An environment works where it was made only.
    expect(textOfStage('training')).toMatch(/^COPY --from=python (\/opt\/training) \1$/m);
    expect(textOfStage('training').match(/^USER .+$/gm)).toEqual(['USER root', 'USER node']);
  });

  it('does not run as root and holds every file that the program imports', () => {
    expect(dockerfile).toMatch(/^USER node$/m);
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, files]) => files.split(' '));
    const ignored = textOf('.dockerignore').split('\n');
    for (const path of copied) {
      const sent = ignored.some((line) => `!${path}` === line || `!${path}`.startsWith(`${line}/`));
      expect([path, existsSync(join(ROOT, path)), sent]).toEqual([path, true, true]);
    }
    const rooms = ['services', 'mixins', 'actors', 'models', 'config'];
    const imports = filesUnder(
      '.',
      (path) => rooms.some((room) => path.startsWith(`${room}/`)) && path.endsWith('.ts'),
    ).flatMap((path) =>
      [...textOf(path).matchAll(/from '(\.\.?\/[^']+)'/g)].map(([, target]) => join(path, '..', target)),
    );
    const outside = imports.filter(
      (target) => !copied.some((room) => target === room || target.startsWith(`${room}/`)),
    );
    expect([...new Set(outside)]).toEqual([]);
  });
});

describe('npm run env', () => {
  const folder = mkdtempSync(join(tmpdir(), 'twinmesh-env-'));

  it('writes secrets that are random, readable by their owner alone, and never overwrites', () => {
    try {
      const { secrets } = generate(folder);
      expect(Object.keys(secrets)).toEqual([...SECRETS]);
      expect(new Set(Object.values(secrets)).size).toBe(SECRETS.length);
      for (const secret of Object.values(secrets)) expect(secret).toMatch(/^[A-Za-z][A-Za-z0-9]{31}$/);
      const env = readFileSync(join(folder, '.env'), 'utf8');
      expect(env.match(/^[A-Z_]+=\w{32}$/gm)).toHaveLength(SECRETS.length);
      const mode = (path: string) => statSync(join(folder, path)).mode & 0o777;
      expect([mode('.env'), mode('deploy/secrets'), mode('deploy/secrets/authority/ca.key')]).toEqual([
        0o600, 0o700, 0o600,
      ]);
      expect(() => generate(folder)).toThrow(/there already/);
      expect(readFileSync(join(folder, '.env'), 'utf8')).toBe(env);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('makes what git does not take', () => {
    const ignored = textOf('.gitignore').split('\n');
    expect(ignored).toEqual(expect.arrayContaining(['.env', 'deploy/secrets/']));
  });
});

const command = findCompose();

describe.skipIf(command === null)('docker compose config', () => {
  const config = (env: Record<string, string>, ...args: string[]) => {
    const [program, ...first] = command as string[];
    return spawnSync(program, [...first, '-f', join(ROOT, 'docker-compose.yml'), '--env-file', '/dev/null', ...args], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, HOME: tmpdir(), ...env },
    });
  };
  const secrets = Object.fromEntries(SECRETS.map((name) => [name, randomSecret()]));

  it('is valid, with every profile', () => {
    const done = config(secrets, '--profile', '*', 'config', '--format', 'json');
    expect([done.status, done.stderr]).toEqual([0, '']);
    const model = JSON.parse(done.stdout);
    expect(Object.keys(model.services).sort()).toEqual(Object.keys(compose.services).sort());
    expect(model.services['host-1'].environment.DATABASE_URL).toBe(
      `postgres://twinmesh_runtime:${secrets.POSTGRES_RUNTIME_PASSWORD}@timescaledb:5432/twinmesh`,
    );
  });

  it.each([...SECRETS])('refuses without %s', (name) => {
    const { [name]: _, ...rest } = secrets;
    const done = config(rest, '--profile', '*', 'config', '-q');
    expect(done.status).not.toBe(0);
    expect(done.stderr).toContain(name);
  });
});
