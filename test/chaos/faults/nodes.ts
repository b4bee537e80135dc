import { setTimeout as sleep } from 'node:timers/promises';
import { between, type Fault, pick, type Scene, type Target } from '../fault.ts';
import type { Direction } from '../network.ts';
import type { ChaosNode } from '../node.ts';

/** What happens to a node: it dies, stands still, is cut off, or its clock is set. */
const NODES: readonly Target[] = ['host', 'ingest', 'gateway', 'inference'];

function victim({ mesh, random }: Scene, role: Target): ChaosNode {
  return pick(
    mesh.withRole(role).filter((node) => node.running),
    random,
  );
}

function kill(target: Target): Fault {
  return {
    name: 'kill -9',
    target,
    async inject(scene) {
      const { mesh, random } = scene;
      const node = victim(scene, target);
      await node.count(['twinmesh_commits_fenced_total']);
      await node.kill();
      // At once, as a supervisor does, or after others have taken over; alone there are no others.
      const atOnce = mesh.options.layout === 'alone' || random() < 0.3;
      const downMs = atOnce ? 100 : between(1.6, 2.4, random) * mesh.options.ttlMs;
      await sleep(downMs);
      node.start();
      await node.ready();
      return `${node.name}, ${Math.round(downMs)} ms down`;
    },
  };
}

function pause(target: Target): Fault {
  return {
    name: 'SIGSTOP',
    target,
    async inject(scene) {
      const node = victim(scene, target);
      const ms = between(1.2, 2.2, scene.random) * scene.mesh.options.ttlMs;
      node.signal('SIGSTOP');
      await sleep(ms);
      node.signal('SIGCONT');
      return `${node.name}, ${Math.round(ms)} ms`;
    },
  };
}

const DIRECTIONS: Record<string, Direction> = { both: 'both', 'what it sends': 'out', 'what it gets': 'in' };

function partition(target: Target, words: string): Fault {
  return {
    name: `partition (${words})`,
    target,
    means: ({ mesh }) => mesh.network.means,
    async inject(scene) {
      const node = victim(scene, target);
      const ms = between(1.2, 2.2, scene.random) * scene.mesh.options.ttlMs;
      node.link.partition(null, DIRECTIONS[words]);
      await sleep(ms);
      node.link.heal();
      return `${node.name}, ${Math.round(ms)} ms`;
    },
  };
}

function clock(target: Target, minutes: number): Fault {
  return {
    name: `clock ${minutes > 0 ? '+' : '−'}${Math.abs(minutes)} min`,
    target,
    async inject(scene) {
      const node = victim(scene, target);
      node.jumpClock(minutes * 60_000);
      await sleep(between(2_000, 4_000, scene.random));
      node.jumpClock(0);
      return node.name;
    },
  };
}

/** All nodes of the role get a tenth of a processor each: they answer, and late. */
function slow(target: Target): Fault {
  return {
    name: 'slow',
    target,
    async inject({ mesh, random }) {
      const nodes = mesh.withRole(target).filter((node) => node.running);
      const ms = between(3_000, 5_000, random);
      const until = performance.now() + ms;
      while (performance.now() < until) {
        for (const node of nodes) node.signal('SIGSTOP');
        await sleep(450);
        for (const node of nodes) node.signal('SIGCONT');
        await sleep(50);
      }
      return `${nodes.length} nodes, ${Math.round(ms)} ms`;
    },
  };
}

/** Nobody is left who answers for models. */
function allKilled(target: Target): Fault {
  return {
    name: 'kill -9 of all',
    target,
    async inject({ mesh, random }) {
      const nodes = mesh.withRole(target).filter((node) => node.running);
      await Promise.all(nodes.map((node) => node.kill()));
      const downMs = between(3_000, 5_000, random);
      await sleep(downMs);
      for (const node of nodes) node.start();
      await Promise.all(nodes.map((node) => node.ready()));
      return `${nodes.length} nodes, ${Math.round(downMs)} ms down`;
    },
  };
}

const ANY_NODE: readonly Fault[] = NODES.flatMap((target) => [
  kill(target),
  pause(target),
  ...Object.keys(DIRECTIONS).map((words) => partition(target, words)),
  clock(target, 5),
  clock(target, -5),
]);

export const NODE_FAULTS: readonly Fault[] = [...ANY_NODE, slow('inference'), allKilled('inference')];
