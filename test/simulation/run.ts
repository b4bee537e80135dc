import { shardOf } from '../../actors/protocol/twin-id.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import { Progress } from './checkers/progress.ts';
import { type Cluster, type ClusterOptions, cluster, SHARDS } from './cluster.ts';
import { Faults } from './faults.ts';
import type { Broken } from './trace.ts';

/** One run: a cluster, a workload, rounds of faults, and rest after each, where everything is compared. */
export interface Outcome {
  seed: number;
  broken: Broken | null;
  /** Over everything that happened: equal for equal seeds. */
  hash: string;
  steps: number;
  /** Simulated ms. */
  timeMs: number;
  readings: number;
  faults: string[];
}

/** How long after the faults have stopped everything has to be done, ms. */
const BOUND_MS = 30_000;
/** Longer than any kind of the simulation waits for its devices, ms. */
const SILENCE_MS = 10_000;
/** A reading that kills its process does so several times before it is found out. */
const KILLER_BOUND_MS = 150_000;

export async function run(seed: number, options: ClusterOptions = {}): Promise<Outcome> {
  const c = cluster(seed, { ...options, log: options.log ?? (seed % 8 === 7 ? 'memory' : 'durable') });
  const faults = new Faults(c);
  const onRejection = (reason: unknown): void =>
    c.trace.fail(
      'process',
      `a rejection that nobody handles: ${String(reason instanceof Error ? reason.stack : reason)}`,
    );
  process.on('unhandledRejection', onRejection);
  try {
    c.workload.start();
    await c.run(3_000);
    for (let round = 0; round < 3 && !c.broken; round++) {
      faults.begin();
      await c.run(faults.lengthMs);
      faults.end();
      await rest(c, faults.names.includes('killer') ? KILLER_BOUND_MS : BOUND_MS);
      if (round < 2 && !c.broken) {
        c.workload.start();
        await c.run(500);
      }
    }
    // the devices stay silent: every twin has to notice
    await c.run(SILENCE_MS);
    if (!c.broken) await rest(c, BOUND_MS);
  } catch (error) {
    c.trace.fail('process', String(error instanceof Error ? error.stack : error));
  } finally {
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', onRejection);
  }
  let readings = 0;
  for (const { journal, backfill } of c.history.twins.values()) readings += journal.length + backfill.length;
  return {
    seed,
    broken: c.trace.broken,
    hash: c.trace.hash,
    steps: c.scheduler.steps,
    timeMs: c.scheduler.time,
    readings,
    faults: faults.names,
  };
}

/** Nothing new comes, nothing is out of order: within the bound all work has to be done, and then everything is compared. */
async function rest(c: Cluster, boundMs: number): Promise<void> {
  c.workload.stop();
  await finish(c, boundMs);
  if (c.broken) return;
  const views = await viewsOf(c);
  // asking takes time, in which a twin may have noticed its silence
  await finish(c, boundMs);
  if (c.broken) return;
  for (const checker of c.checkers) checker.atRest?.(views);
}

async function finish(c: Cluster, boundMs: number): Promise<void> {
  const progress = c.checkers.find((checker) => checker instanceof Progress)!;
  const since = c.scheduler.time;
  for (let what = progress.unfinished(); what !== null && !c.broken; what = progress.unfinished()) {
    if (c.scheduler.time - since > boundMs) progress.fail(boundMs, what);
    else await c.run(50);
  }
}

/** Every twin as its owner shows it. */
async function viewsOf(c: Cluster): Promise<Map<string, TwinView>> {
  const views = new Map<string, TwinView>();
  for (const { twinId } of c.history.twins.values()) {
    for (let attempt = 0; attempt < 40 && !views.has(twinId) && !c.broken; attempt++) {
      const node = c.ownerOf(shardOf(twinId, SHARDS));
      let answered = false;
      if (node) {
        node.host
          .get(twinId)
          .then((view) => views.set(twinId, view))
          .catch(() => {})
          .finally(() => {
            answered = true;
          });
      }
      await c.run(500, () => answered);
      if (!views.has(twinId)) await c.run(100);
    }
  }
  return views;
}
