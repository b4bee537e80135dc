import { spawnSync } from 'node:child_process';
import { pbkdf2Sync, randomBytes, randomInt } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * `npm run env`: the secrets of one plant. Writes `.env` for compose, the password file and the certificates of the MQTT
 * broker, and Prometheus' copy of the metrics token, each secret random and new.
 *
 *  1. What is there is never overwritten: data that was written under a password is lost without it.
 *  2. Nothing is printed but names.
 *  3. `deploy/secrets` opens to its owner alone; inside, what a container of another user mounts can be read by it.
 *  4. A secret is letters and digits with a letter in front: it stands in URLs, NATS' configuration and YAML as it is.
 */
export const SECRETS = [
  'POSTGRES_SUPERUSER_PASSWORD',
  'POSTGRES_OWNER_PASSWORD',
  'POSTGRES_RUNTIME_PASSWORD',
  'POSTGRES_READER_PASSWORD',
  'NATS_HOST_PASSWORD',
  'NATS_INGEST_PASSWORD',
  'NATS_GATEWAY_PASSWORD',
  'NATS_HISTORY_PASSWORD',
  'NATS_INFERENCE_PASSWORD',
  'NATS_SYS_PASSWORD',
  'REDIS_PASSWORD',
  'KAFKA_PASSWORD',
  'MQTT_TWINMESH_PASSWORD',
  'MQTT_DEMO_PASSWORD',
  'METRICS_TOKEN',
  'GRAFANA_ADMIN_PASSWORD',
  'MINIO_ROOT_PASSWORD',
  'MINIO_TWINMESH_PASSWORD',
] as const;

type Secrets = Record<(typeof SECRETS)[number], string>;

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const SYMBOLS = `${LETTERS}0123456789`;
/** 32 of 62 symbols: 190 bits. */
const LENGTH = 32;
const FOR_CONTAINERS = 0o644;
const HEAD = '# Secrets of this plant, made by `npm run env`. Keep it out of version control and in your backup.';

export function randomSecret(): string {
  let secret = LETTERS[randomInt(LETTERS.length)];
  while (secret.length < LENGTH) secret += SYMBOLS[randomInt(SYMBOLS.length)];
  return secret;
}

/** A line of Mosquitto's password file: PBKDF2 with SHA-512, as mosquitto_passwd writes it. */
export function mosquittoPassword(user: string, password: string): string {
  const iterations = 101;
  const salt = randomBytes(12);
  const hash = pbkdf2Sync(password, salt, iterations, 64, 'sha512');
  return `${user}:$7$${iterations}$${salt.toString('base64')}$${hash.toString('base64')}`;
}

/** Writes everything into `folder` and answers what it wrote. Throws when anything of it is there. */
export function generate(folder: string): { files: string[]; secrets: Secrets } {
  const env = join(folder, '.env');
  const kept = join(folder, 'deploy', 'secrets');
  for (const there of [env, kept]) {
    if (existsSync(there)) throw new Error(`${there} is there already: what was made with its secrets needs them.`);
  }
  const secrets = Object.fromEntries(SECRETS.map((name) => [name, randomSecret()])) as Secrets;
  mkdirSync(kept, { mode: 0o700, recursive: true });
  const authority = join(kept, 'authority');
  const script = fileURLToPath(new URL('mosquitto/certificates.sh', import.meta.url));
  const made = spawnSync('bash', [script, authority], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`certificates: ${made.stderr || made.error?.message}`);
  const mosquitto = join(kept, 'mosquitto');
  mkdirSync(mosquitto);
  chmodSync(mosquitto, FOR_CONTAINERS | 0o111);
  for (const name of ['ca.crt', 'server.crt', 'server.key']) {
    copyFileSync(join(authority, name), join(mosquitto, name));
    chmodSync(join(mosquitto, name), FOR_CONTAINERS);
  }
  const passwords = [
    mosquittoPassword('twinmesh', secrets.MQTT_TWINMESH_PASSWORD),
    mosquittoPassword('demo', secrets.MQTT_DEMO_PASSWORD),
  ];
  const files: [file: string, mode: number, text: string][] = [
    [join(mosquitto, 'passwords'), FOR_CONTAINERS, `${passwords.join('\n')}\n`],
    [join(kept, 'metrics-token'), FOR_CONTAINERS, secrets.METRICS_TOKEN],
    [env, 0o600, `${HEAD}\n${SECRETS.map((name) => `${name}=${secrets[name]}`).join('\n')}\n`],
  ];
  for (const [file, mode, text] of files) {
    writeFileSync(file, text, { mode: 0o600, flag: 'wx' });
    chmodSync(file, mode);
  }
  return { files: [...files.map(([file]) => file), mosquitto, authority], secrets };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { files } = generate(resolve('.'));
    for (const file of files) console.log(`wrote ${file}`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  }
}
