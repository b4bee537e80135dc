import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BYSTANDERS, between, type Fault, type Scene, type Target } from '../fault.ts';
import type { Direction } from '../network.ts';
import { copyFolder } from '../servers.ts';

/** What happens to a server of any kind: it dies, restarts, stands still, is cut off, or its disk stalls. */
type Stoppable = Exclude<Target, 'host' | 'ingest' | 'gateway' | 'inference'>;

interface Running {
  readonly pid: number | null;
  kill?(): Promise<void>;
  restart(): Promise<void>;
}

function serverOf({ mesh: { servers } }: Scene, target: Stoppable): Running {
  const server = servers[target];
  if (server === null) throw new Error(`There is no ${target} in this run.`);
  return server;
}

/**
 * What Mosquitto 2.0 forgets though it has acknowledged it, and devices send again:
 *  - killed, what it had not written down (it does every second);
 *  - restarted in whatever way, its shared subscriptions (ordinary ones it restores): until an ingest node has subscribed
 *    again it acknowledges and drops.
 */
const UNWRITTEN_MS = 10_000;
const RESUBSCRIBED_AFTER_MS = 3_000;

/** Long enough to see that everything else goes on. */
function bystanderMs({ random }: Scene): number {
  return between(4_000, 6_000, random);
}

/** Around the ttl: sometimes nodes give up meanwhile, sometimes not. */
function outageMs(scene: Scene, target: Stoppable): number {
  if (BYSTANDERS.has(target)) return bystanderMs(scene);
  return between(1.2, 2.2, scene.random) * scene.mesh.options.ttlMs;
}

async function sendAgain({ ledger }: Scene, sinceMs: number): Promise<void> {
  await sleep(RESUBSCRIBED_AFTER_MS);
  ledger.resendSince(
    sinceMs,
    ledger.assets.filter((asset) => asset.way === 'mqtt'),
  );
}

function kill(target: Stoppable): Fault {
  return {
    name: 'kill -9',
    target,
    async inject(scene) {
      const server = serverOf(scene, target);
      const downMs = BYSTANDERS.has(target) ? bystanderMs(scene) : between(200, 1_500, scene.random);
      await server.kill?.();
      const killedAt = Date.now();
      await sleep(downMs);
      await server.restart();
      if (target === 'mosquitto') await sendAgain(scene, killedAt - UNWRITTEN_MS);
      return `${Math.round(downMs)} ms down`;
    },
  };
}

function restart(target: Stoppable): Fault {
  return {
    name: 'restart',
    target,
    async inject(scene) {
      const begunAt = Date.now();
      await serverOf(scene, target).restart();
      const tookMs = Date.now() - begunAt;
      if (target === 'mosquitto') await sendAgain(scene, begunAt);
      return `${tookMs} ms`;
    },
  };
}

function pause(target: Stoppable): Fault {
  return {
    name: 'SIGSTOP',
    target,
    async inject(scene) {
      const { pid } = serverOf(scene, target);
      const ms = outageMs(scene, target);
      const pids = pid === null ? [] : withChildren(pid);
      signal(pids, 'SIGSTOP');
      await sleep(ms);
      signal(pids, 'SIGCONT');
      return `${Math.round(ms)} ms`;
    },
  };
}

const DIRECTIONS: Record<string, Direction> = { both: 'both', 'what it gets': 'out', 'what it sends': 'in' };

/** Between it and all nodes. */
function partition(target: Stoppable, words: string): Fault {
  return {
    name: `partition (${words})`,
    target,
    means: ({ mesh }) => mesh.network.means,
    async inject(scene) {
      const { mesh } = scene;
      const ms = outageMs(scene, target);
      for (const node of mesh.nodes) node.link.partition([target], DIRECTIONS[words]);
      await sleep(ms);
      for (const node of mesh.nodes) node.link.heal();
      return `${Math.round(ms)} ms`;
    },
  };
}

function stall(target: 'postgres' | 'nats'): Fault {
  return {
    name: '2 s disk stall',
    target,
    means: ({ mesh }) => mesh.servers.disks[target].means,
    async inject({ mesh: { servers } }) {
      const disk = servers.disks[target];
      if (disk.means === 'frozen file system') {
        disk.freeze();
        await sleep(2_000);
        disk.thaw();
      } else {
        const pids = servers.writers(target).flatMap(withChildren);
        signal(pids, 'SIGSTOP');
        await sleep(2_000);
        signal(pids, 'SIGCONT');
      }
      return disk.means;
    },
  };
}

/**
 * NATS comes back with its streams as they were some seconds before. What the log had taken and the database had not yet is
 * gone with the disk, which no acknowledgement by the log survives: whoever sent it since the copy sends it again. What
 * had been committed must neither be lost nor count twice, and what comes after must not be passed over, though the log
 * grows over positions that it had given out before.
 */
function olderLog(): Fault {
  return {
    name: 'log restored from an older copy',
    target: 'nats',
    async inject({ mesh, ledger, random }) {
      const { nats } = mesh.servers;
      if (!nats?.storeDir) throw new Error('There is no NATS server of our own.');
      const copy = join(mesh.folder, 'older-log');
      await nats.kill();
      copyFolder(nats.storeDir, copy);
      const copiedAt = Date.now();
      await nats.restart();
      const ms = between(2_000, 4_000, random);
      await sleep(ms);
      await nats.kill();
      copyFolder(copy, nats.storeDir);
      await nats.restart();
      const again = ledger.resendSince(copiedAt);
      return `${Math.round(ms)} ms taken back, ${again} readings sent again`;
    },
  };
}

function withChildren(pid: number): number[] {
  const { stdout } = spawnSync('pgrep', ['-P', `${pid}`], { encoding: 'utf8' });
  return [pid, ...stdout.split('\n').filter(Boolean).map(Number)];
}

function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // It has ended meanwhile.
    }
  }
}

const SERVERS: readonly Stoppable[] = ['postgres', 'nats', 'mosquitto', 'kafka', 'redis'];

export const SERVER_FAULTS: readonly Fault[] = [
  ...SERVERS.flatMap((target) => [
    ...(target === 'postgres' ? [] : [kill(target), restart(target)]),
    pause(target),
    ...Object.keys(DIRECTIONS).map((words) => partition(target, words)),
  ]),
  stall('postgres'),
  stall('nats'),
  olderLog(),
];
