import { DOOR_LIMITS, Door } from '../../actors/ingress/door.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind, SimulatedAsset } from '../../actors/protocol/kind.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import type { Fork } from '../../actors/runtime/fork.ts';
import { M } from '../../actors/runtime/layout.ts';
import { metricOffset } from '../../actors/runtime/state.ts';

/**
 * A failure scenario of the kind's simulator, told as readings of a twin that is there.
 *
 * The simulated asset has values and a wear of its own; the twin has others. Each metric is moved by what lies between the two at
 * the beginning, and kept in its physical range: what the scenario adds is that of the simulator, where it begins is the twin. How
 * the metrics hang together is the simulated asset's, and holds less the further the two are apart.
 */
const SEED = 1;
/** A simulated asset may be silent at first. */
const FIRST_TRIES = 100;

/** Readings behind the event time `from`, a step apart. Throws bad_request where the kind has no simulator or no such scenario. */
export function scenarioReadings(
  fork: Fork,
  from: number,
  scenario: { name: string; severity: number },
  stepMs: number,
  steps: number,
): Reading[] {
  const { kind, twinId } = fork.state;
  if (kind.simulator === undefined)
    throw new TwinmeshError('bad_request', `The kind ${kind.kind} has no simulator, and so no scenarios.`);
  if (!Object.hasOwn(kind.simulator.scenarios, scenario.name))
    throw new TwinmeshError(
      'bad_request',
      `scenario: there is no "${scenario.name.slice(0, 60)}" for ${kind.kind}; there is ${Object.keys(kind.simulator.scenarios).join(', ')}.`,
    );
  const asset = kind.simulator.create({ seed: SEED, index: 0 });
  let at = from;
  const first = begin(kind, asset, at, stepMs);
  const offsets = offsetsOf(fork, first);
  asset.inject(scenario.name, scenario.severity);
  const door = new Door({ ...DOOR_LIMITS, maxSkewMs: Number.MAX_SAFE_INTEGER });
  const id = twinId.slice(kind.kind.length + 1);
  const readings: Reading[] = [];
  for (let step = 0; step < steps; step++) {
    at += stepMs;
    // it goes on where its first message was, step by step with the twin
    const message = asset.next(first.at + (step + 1) * stepMs);
    if (message === null) continue;
    const { values, unit } = kind.formats[0].decode(message, undefined);
    readings.push(door.admit(kind, { id, at, values: moved(kind, values, offsets), unit }, at));
  }
  return readings;
}

function begin(
  kind: Kind,
  asset: SimulatedAsset,
  from: number,
  stepMs: number,
): { at: number; values: Record<string, unknown> } {
  for (let i = 0; i < FIRST_TRIES; i++) {
    const at = from + i * stepMs;
    const message = asset.next(at);
    if (message !== null) return { at, values: kind.formats[0].decode(message, undefined).values };
  }
  return { at: from + FIRST_TRIES * stepMs, values: {} };
}

/** What has to be added to the simulated asset's values to be the twin's. */
function offsetsOf(fork: Fork, first: { values: Record<string, unknown> }): Map<string, number> {
  const offsets = new Map<string, number>();
  for (const [name, value] of Object.entries(first.values)) {
    const m = metricOffset(fork.state, name);
    if (typeof value !== 'number' || m < 0 || fork.state.n[m + M.COUNT] === 0) continue;
    offsets.set(name, fork.state.n[m + M.LAST] - value);
  }
  return offsets;
}

function moved(
  kind: Kind,
  values: Record<string, unknown>,
  offsets: ReadonlyMap<string, number>,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      if (typeof value !== 'number') return [name, value];
      const metric = kind.metrics[name];
      const shifted = value + (offsets.get(name) ?? 0);
      return [name, metric === undefined ? shifted : Math.min(metric.max, Math.max(metric.min, shifted))];
    }),
  );
}
