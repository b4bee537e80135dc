import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { S3Access } from '../../mixins/object-s3.ts';
import { freePort } from './free-port.ts';

/**
 * A real S3 server for tests: the one that TEST_S3_ENDPOINT, TEST_S3_BUCKET, TEST_S3_KEY and TEST_S3_SECRET name, else our own
 * Versity gateway on a free port with its buckets in a temporary folder. Its program: `versitygw` on the PATH, else one in
 * ~/.cache/twinmesh, else the pinned version is built there with Go (a minute, once a machine).
 */
export interface S3Server {
  access: S3Access;
  /** Folder of the bucket, to damage objects in; null for a server that was found. */
  bucketDir: string | null;
  /** Process id of our own server; null for one that was found. */
  readonly pid: number | null;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
}

/** Current when this was written; the Go checksum database vouches for its content. */
export const VERSITYGW_VERSION = 'v1.8.0';

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export async function findS3(): Promise<S3Server | null> {
  const endpoint = process.env.TEST_S3_ENDPOINT;
  if (endpoint) return foreign(endpoint);
  const program = installed() ?? build();
  if (typeof program !== 'string') {
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${program.missing}.`);
    console.warn(`Tests on a real S3 server are skipped: ${program.missing}.`);
    return null;
  }
  return await start(program);
}

async function start(program: string): Promise<S3Server> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-s3-'));
  const bucket = 'plant';
  const bucketDir = path.join(dir, 'buckets', bucket);
  const sidecar = path.join(dir, 'sidecar');
  for (const folder of [bucketDir, sidecar]) fs.mkdirSync(folder, { recursive: true });
  const port = await freePort();
  const access: S3Access = {
    endpoint: `http://127.0.0.1:${port}`,
    bucket,
    region: 'us-east-1',
    accessKeyId: `test${randomBytes(6).toString('hex')}`,
    secretAccessKey: randomBytes(20).toString('hex'),
  };
  const log = fs.openSync(path.join(dir, 'log'), 'a');
  // Its metadata beside the files: not every file system of a test machine has extended attributes.
  const args = ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', '--sidecar', sidecar, path.dirname(bucketDir)];
  const child: ChildProcess = spawn(program, args, {
    cwd: dir,
    stdio: ['ignore', log, log],
    env: {
      PATH: process.env.PATH,
      ROOT_ACCESS_KEY_ID: access.accessKeyId,
      ROOT_SECRET_ACCESS_KEY: access.secretAccessKey,
    },
  });
  fs.closeSync(log);
  const killed = () => child.kill('SIGKILL');
  process.once('exit', killed);
  for (let tries = 0; ; tries++) {
    if (await answers(access.endpoint)) break;
    if (tries === 300 || child.exitCode !== null) {
      child.kill('SIGKILL');
      throw new Error(`versitygw did not start:\n${fs.readFileSync(path.join(dir, 'log'), 'utf8').slice(-2000)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    access,
    bucketDir,
    get pid() {
      return child.pid ?? null;
    },
    async stop() {
      process.off('exit', killed);
      if (child.exitCode === null && child.signalCode === null) {
        const ended = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGTERM');
        await ended;
      }
      fs.rmSync(dir, { recursive: true, force: true });
    },
  };
}

function foreign(endpoint: string): S3Server {
  const { TEST_S3_BUCKET: bucket = '', TEST_S3_KEY: key = '', TEST_S3_SECRET: secret = '' } = process.env;
  return {
    access: { endpoint, bucket, region: 'us-east-1', accessKeyId: key, secretAccessKey: secret },
    bucketDir: null,
    pid: null,
    stop: () => Promise.resolve(),
  };
}

const cache = () => path.join(os.homedir(), '.cache', 'twinmesh', `versitygw-${VERSITYGW_VERSION.slice(1)}`);

function installed(): string | null {
  const folders = [cache(), ...(process.env.PATH ?? '').split(path.delimiter).filter(Boolean)];
  return folders.map((folder) => path.join(folder, 'versitygw')).find((file) => fs.existsSync(file)) ?? null;
}

function build(): string | { missing: string } {
  const go = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/local/go/bin']
    .map((folder) => path.join(folder, 'go'))
    .find((file) => fs.existsSync(file));
  const nowhere = `versitygw is neither on the PATH nor in ${cache()}, TEST_S3_ENDPOINT is not set`;
  if (go === undefined) return { missing: `${nowhere}, and there is no go to build it` };
  fs.mkdirSync(path.dirname(cache()), { recursive: true });
  // Two test files may build at once: each in its own folder, and the first one done is used.
  const folder = fs.mkdtempSync(`${cache()}.building-`);
  try {
    const target = `github.com/versity/versitygw/cmd/versitygw@${VERSITYGW_VERSION}`;
    const built = spawnSync(go, ['install', target], { encoding: 'utf8', env: { ...process.env, GOBIN: folder } });
    if (built.status !== 0)
      return { missing: `${nowhere}, and building it failed: ${(built.stderr || String(built.error)).slice(-500)}` };
    fs.mkdirSync(cache(), { recursive: true });
    fs.renameSync(path.join(folder, 'versitygw'), path.join(cache(), 'versitygw'));
    return path.join(cache(), 'versitygw');
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

async function answers(endpoint: string): Promise<boolean> {
  // Whatever it says about a request without a signature, it is there.
  return await fetch(endpoint, { signal: AbortSignal.timeout(1_000) }).then(
    () => true,
    () => false,
  );
}
