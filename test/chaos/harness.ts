import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../actors/protocol/clock.ts';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Verdict } from './checkers/all.ts';
import { staleCommits } from './checkers/one-writer.ts';
import { Draw } from './draw.ts';
import { BYSTANDERS, type Fault, type Scene } from './fault.ts';
import { possible } from './faults/all.ts';
import type { Ledger } from './ledger.ts';
import { Load } from './load.ts';
import { Mesh } from './mesh.ts';
import type { ChaosOptions } from './options.ts';
import type { Injected } from './record.ts';
import { allMoved, movedBetween, standing } from './recovery.ts';

/**
 * One run: a mesh under load, faults one after the other, rest, and judgement (load.ts).
 *
 *  1  After each fault every shard has to commit again within PROGRESS_WITHIN_MS, or that is a violation.
 *  2  While Redis or Kafka is down shards have to commit, or that is one as well.
 */
export const PROGRESS_WITHIN_MS = 30_000;
const FIRST_COMMITS_WITHIN_MS = 60_000;
const VIEWS_A_FAULT = 8;
/** Without the fence, a run ends when so many have been seen. */
const STALE_ENOUGH = 5;
const BROKEN_REST_MS = 5_000;
/** An outage shorter than this says nothing of what goes on meanwhile. */
const TELLING_MS = 3_000;

export const COUNTERS = [
  'twinmesh_commits_total',
  'twinmesh_commits_fenced_total',
  'twinmesh_commits_aborted_total',
  'twinmesh_commits_unknown_total',
  'twinmesh_readings_duplicate_total',
  'twinmesh_readings_poison_total',
] as const;

export interface Outcome {
  injected: Injected[];
  verdicts: Verdict[];
  counters: Record<string, number>;
  ledger: Ledger;
  stored: number;
  events: number;
  /** Under faults. */
  minutes: number;
  network: string;
  /** Faults that could be done and were not: the time was over. */
  undrawn: string[];
  goalReached: boolean;
}

export async function runChaos(options: ChaosOptions, print: (line: string) => void): Promise<Outcome> {
  const askedAt = performance.now();
  const mesh = await Mesh.start({
    hosts: options.nodes,
    layout: options.nodes === 0 ? 'alone' : 'split',
    ttlMs: options.ttlMs,
    shards: options.shards,
    ack: options.ack,
    servers: options.servers,
    welcome: options.welcome,
    relays: options.relays,
    withoutFence: options.withoutFence,
    print,
  });
  try {
    return await run(mesh, options, askedAt, print);
  } finally {
    await mesh.close(options.keep);
  }
}

async function run(
  mesh: Mesh,
  options: ChaosOptions,
  askedAt: number,
  print: (line: string) => void,
): Promise<Outcome> {
  const { minutes, everyMs, shards, assets, rate, seed, goal, onceEach } = options;
  const random = seededRandom(seed);
  const faults = possible({ mesh }, options.faults);
  if (faults.length === 0) throw new Error('None of these faults can be done here; --list shows them.');
  print(
    `${mesh.nodes.length} nodes; partitions by ${mesh.network.means}, stalls by ${mesh.servers.disks.postgres.means}; ` +
      `${faults.length} faults, seed ${seed}`,
  );
  const load = new Load(mesh, { assets, shards, rate, random, print });
  load.start();
  const since = Date.now();
  if ((await allMoved(mesh.audit, shards, since, FIRST_COMMITS_WITHIN_MS)) === null)
    throw new Error(`Shards do not move before any fault: ${await standing(mesh.audit, shards, since)}`);
  print(`every shard has committed ${((Date.now() - since) / 1000).toFixed(1)} s after the first reading`);

  const draw = new Draw(faults, random);
  const scene: Scene = { mesh, ledger: load.ledger, random };
  const injected: Injected[] = [];
  const startedAt = performance.now();
  const reached = (): boolean =>
    goal !== null && load.ledger.acknowledged >= goal.readings && injected.length >= goal.faults;
  // The check of every change has so many minutes in all, however slowly it started.
  const endsAt = (onceEach ? askedAt : startedAt) + minutes * 60_000;
  let stale = 0;
  const over = (): boolean => reached() || stale >= STALE_ENOUGH || (onceEach && injected.length >= faults.length);
  while (!over() && performance.now() < endsAt) {
    await sleep(everyMs * random());
    const one = await inject(scene, draw.next(), shards);
    injected.push(one);
    await load.look(VIEWS_A_FAULT);
    if (options.withoutFence) stale = (await staleCommits(mesh.audit)).length;
    print(`${String(injected.length).padStart(3)} ${lineOf(one, load.ledger, await mesh.counters(COUNTERS))}`);
  }
  const lasted = (performance.now() - startedAt) / 60_000;
  const goalReached = goal === null || reached();
  const counters = await mesh.counters(COUNTERS);
  print('no more faults; waiting until everything is acknowledged and committed');
  // A mesh without its fence may never come to rest, and what is looked for has been committed already.
  await (options.withoutFence ? load.rest(BROKEN_REST_MS, BROKEN_REST_MS) : load.rest());
  const { verdicts, stored, events } = await load.judge();
  const stuck = injected.filter((one) => one.failed === null && one.settledMs === null);
  verdicts.push({ name: 'stuck shards', violations: stuck.length, examples: stuck.slice(0, 5).map(stuckText) });
  const stopped = injected.filter((one) => one.movedMeanwhile !== null && one.movedMeanwhile < shards / 2);
  verdicts.push({
    name: 'telemetry stopped with Redis or Kafka',
    violations: stopped.length,
    examples: stopped
      .slice(0, 5)
      .map((one) => `${one.fault.name} on ${one.fault.target}: ${one.movedMeanwhile} shards`),
  });
  const drawn = new Set(injected.map(({ fault }) => fault));
  const undrawn = faults.filter((fault) => !drawn.has(fault)).map(({ name, target }) => `${name}:${target}`);
  const { ledger } = load;
  const { means: network } = mesh.network;
  return { injected, verdicts, counters, ledger, stored, events, minutes: lasted, network, undrawn, goalReached };
}

async function inject(scene: Scene, fault: Fault, shards: number): Promise<Injected> {
  const { audit } = scene.mesh;
  const begunAt = Date.now();
  const injecting = fault.inject(scene).then(
    (detail) => ({ detail, failed: null, endedAt: Date.now() }),
    (error) => ({ detail: '', failed: messageOf(error), endedAt: Date.now() }),
  );
  let over = false;
  const recovering = allMoved(audit, shards, begunAt, 10 * PROGRESS_WITHIN_MS, () => over);
  const { detail, failed, endedAt } = await injecting;
  const telling = BYSTANDERS.has(fault.target) && failed === null && endedAt - begunAt >= TELLING_MS;
  const movedMeanwhile = telling ? await movedBetween(audit, begunAt, endedAt) : null;
  const settledMs = failed === null ? await allMoved(audit, shards, endedAt, PROGRESS_WITHIN_MS) : null;
  over = true;
  const recoveredMs = (await recovering) ?? (settledMs === null ? null : settledMs + endedAt - begunAt);
  const standStill = failed === null && settledMs === null ? await standing(audit, shards, endedAt) : [];
  return {
    fault,
    detail,
    means: fault.means?.(scene) ?? null,
    lastedMs: endedAt - begunAt,
    recoveredMs,
    settledMs,
    standStill,
    movedMeanwhile,
    failed,
  };
}

function lineOf(
  { fault, detail, failed, recoveredMs }: Injected,
  ledger: Ledger,
  counters: Record<string, number>,
): string {
  const back = recoveredMs === null ? 'not back' : `back after ${(recoveredMs / 1000).toFixed(1)} s`;
  return (
    `${fault.target.padEnd(9)} ${fault.name.padEnd(30)} ${(failed ?? detail).slice(0, 200).padEnd(34)} ${back}; ` +
    `${ledger.acknowledged} acknowledged, ${counters.twinmesh_commits_fenced_total} fenced`
  );
}

function stuckText({ fault, detail, standStill }: Injected): string {
  return `${fault.name} on ${fault.target} (${detail}): shards ${standStill.join(', ')}`;
}
