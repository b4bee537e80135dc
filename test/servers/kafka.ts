import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { freePort } from './free-port.ts';

/**
 * A real Kafka for tests: the one that TEST_KAFKA_BROKERS names, else a broker of our own (KRaft, one node) on free ports with
 * its log in a temporary folder. Its program comes from Maven once a machine, into ~/.cache/twinmesh/kafka-<version>.
 */
export interface KafkaServer {
  /** host:port, for KAFKA_BROKERS. */
  brokers: string[];
  /** Process id of our own broker; null for one that was found. It is another one after a restart. */
  readonly pid: number | null;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
  /** kill -9. The folder stays. */
  kill(): Promise<void>;
  /** Starts it again on the same ports and folder, ending it first where it runs. */
  restart(): Promise<void>;
}

export interface KafkaServerOptions {
  /** Needs a broker that it may kill: never the one of TEST_KAFKA_BROKERS. */
  own?: boolean;
  /** Clients sign in with SASL PLAIN over plaintext, as this user. */
  user?: string;
  password?: string;
  /** Further lines of server.properties. */
  config?: string;
}

/** Current when this was written; it runs on Java 17. */
export const KAFKA_VERSION = '4.1.1';

/** Why there is none is printed; with REQUIRE_SERVERS=1 it is an error. */
export async function findKafka(options: KafkaServerOptions = {}): Promise<KafkaServer | null> {
  const found = process.env.TEST_KAFKA_BROKERS;
  if (found && !options.own && options.user === undefined && options.config === undefined) return foreign(found);
  const missing = unavailable();
  if (missing !== null) {
    if (process.env.REQUIRE_SERVERS === '1') throw new Error(`REQUIRE_SERVERS=1, but ${missing}.`);
    console.warn(`Tests on a real Kafka are skipped: ${missing}.`);
    return null;
  }
  return await start(options);
}

async function start(options: KafkaServerOptions): Promise<KafkaServer> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'twinmesh-kafka-'));
  const port = await freePort();
  const properties = path.join(dir, 'server.properties');
  fs.writeFileSync(properties, configuration(dir, [port, await freePort(), await freePort()], options));
  const id = randomBytes(16).toString('base64url');
  const format = ['kafka.tools.StorageTool', 'format', '-t', id, '-c', properties];
  const formatted = spawnSync('java', java(...format), { encoding: 'utf8' });
  if (formatted.status !== 0) throw new Error(`Kafka's storage cannot be formatted: ${formatted.stderr}`);
  let child: ChildProcess | null = null;
  const killed = () => child?.kill('SIGKILL');
  process.once('exit', killed);

  const run = async (): Promise<void> => {
    const log = fs.openSync(path.join(dir, 'log'), 'a');
    child = spawn('java', java('kafka.Kafka', properties), { cwd: dir, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    for (let tries = 0; tries < 1200 && child.exitCode === null; tries++) {
      if (await answers(port)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    child.kill('SIGKILL');
    throw new Error(`Kafka did not start:\n${fs.readFileSync(path.join(dir, 'log'), 'utf8').slice(-2000)}`);
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = child;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill(signal);
    // A paused process ends only once it goes on.
    if (signal !== 'SIGKILL') ending.kill('SIGCONT');
    await ended;
  };

  await run();
  return {
    brokers: [`127.0.0.1:${port}`],
    get pid() {
      return child?.pid ?? null;
    },
    async stop() {
      process.off('exit', killed);
      // What it would write down in order is thrown away.
      await end('SIGKILL');
      fs.rmSync(dir, { recursive: true, force: true });
    },
    kill: () => end('SIGKILL'),
    async restart() {
      await end('SIGTERM');
      await run();
    },
  };
}

function configuration(dir: string, ports: readonly number[], options: KafkaServerOptions): string {
  const [port, insidePort, controllerPort] = ports;
  const { user, password = '', config = '' } = options;
  const login = 'org.apache.kafka.common.security.plain.PlainLoginModule required';
  const sasl =
    user === undefined
      ? []
      : [
          'listener.name.clients.sasl.enabled.mechanisms=PLAIN',
          `listener.name.clients.plain.sasl.jaas.config=${login} user_${user}="${password}";`,
        ];
  return [
    'process.roles=broker,controller',
    'node.id=1',
    `controller.quorum.voters=1@127.0.0.1:${controllerPort}`,
    `listeners=CLIENTS://127.0.0.1:${port},INSIDE://127.0.0.1:${insidePort},CONTROLLER://127.0.0.1:${controllerPort}`,
    `advertised.listeners=CLIENTS://127.0.0.1:${port},INSIDE://127.0.0.1:${insidePort}`,
    `listener.security.protocol.map=CLIENTS:${user === undefined ? 'PLAINTEXT' : 'SASL_PLAINTEXT'},INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT`,
    'inter.broker.listener.name=INSIDE',
    'controller.listener.names=CONTROLLER',
    ...sasl,
    `log.dirs=${path.join(dir, 'data')}`,
    'num.partitions=6',
    'offsets.topic.num.partitions=4',
    'offsets.topic.replication.factor=1',
    'transaction.state.log.replication.factor=1',
    'transaction.state.log.min.isr=1',
    'group.initial.rebalance.delay.ms=0',
    'group.min.session.timeout.ms=1000',
    // A killed broker may register again once its session is over.
    'broker.heartbeat.interval.ms=300',
    'broker.session.timeout.ms=1500',
    'num.network.threads=2',
    'num.io.threads=2',
    'log.cleaner.enable=false',
    config,
    '',
  ].join('\n');
}

/** A small heap, and quick to start rather than fast for days. */
function java(...args: string[]): string[] {
  return [
    '-Xmx384m',
    '-Xms128m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
    '-cp',
    path.join(cache(), '*'),
    ...args,
  ];
}

function foreign(brokers: string): KafkaServer {
  const refuse = () => Promise.reject(new Error('This broker was found (TEST_KAFKA_BROKERS); a test must not end it.'));
  return {
    brokers: brokers.split(',').map((broker) => broker.trim()),
    pid: null,
    stop: () => Promise.resolve(),
    kill: refuse,
    restart: refuse,
  };
}

const cache = () => path.join(os.homedir(), '.cache', 'twinmesh', `kafka-${KAFKA_VERSION}`);

/** Why no broker can be started here; null when its program is there, fetched now if need be. */
function unavailable(): string | null {
  const nowhere = 'TEST_KAFKA_BROKERS is not set';
  if (spawnSync('java', ['-version']).status !== 0) return `${nowhere} and there is no java`;
  if (fs.existsSync(cache())) return null;
  if (spawnSync('mvn', ['-v']).status !== 0) return `${nowhere}, and there is no mvn to fetch Kafka ${KAFKA_VERSION}`;
  fs.mkdirSync(path.dirname(cache()), { recursive: true });
  // Two test files may fetch at once: each in its own folder, and the first one done is used.
  const folder = fs.mkdtempSync(`${cache()}.fetching-`);
  try {
    fs.writeFileSync(path.join(folder, 'pom.xml'), POM);
    const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies';
    const args = ['-B', '-q', plugin, '-DincludeScope=runtime', `-DoutputDirectory=${path.join(folder, 'libs')}`];
    const fetched = spawnSync('mvn', args, { cwd: folder, encoding: 'utf8' });
    if (fetched.status !== 0) {
      const why = fetched.stdout || fetched.stderr || String(fetched.error);
      return `${nowhere}, and Maven cannot fetch Kafka ${KAFKA_VERSION}: ${why.slice(-500)}`;
    }
    try {
      fs.renameSync(path.join(folder, 'libs'), cache());
    } catch (error) {
      if (!fs.existsSync(cache())) throw error;
    }
    return null;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>twinmesh.test</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`;

/** An answer to ApiVersions (key 18, version 0, correlation 7): the broker serves. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      socket.write(Buffer.from('0000000a00120000000000070000', 'hex'));
    });
    const say = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('data', () => say(true));
    socket.on('error', () => say(false));
    socket.on('close', () => say(false));
    socket.setTimeout(1_000, () => say(false));
  });
}
