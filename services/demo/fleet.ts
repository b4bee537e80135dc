import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind, SimulatedAsset } from '../../actors/protocol/kind.ts';
import { type TwinId, twinIdOf } from '../../actors/protocol/twin-id.ts';

/**
 * The demo fleet: the simulators of the kinds, each speaking in its kind's first format at its own pace.
 *
 *  1. The same seed makes the same assets, with the same course of noise; times in messages are the clock's.
 *  2. Assets speak spread over their interval, not all at once.
 *  3. Times given to an asset only grow, whatever the wall clock does.
 *  4. What it saved, another fleet of the same seed goes on from: no asset jumps, whether the process was stopped, killed or
 *     asleep. Of a long pause an asset lives its interval and a minute; for the rest it stood still, as if it had been parked.
 *     Kinds whose simulator cannot save begin anew.
 */
export interface FleetOptions {
  kinds: readonly Kind[];
  seed: number;
  clock: Clock;
  /** For all kinds; null: each kind's own. */
  intervalMs: number | null;
  /** Divides the interval. */
  speedFactor: number;
  send(topic: string, message: Record<string, unknown>): void;
  /** Given what to go on from now and then, when a scenario starts and when the fleet stops. */
  keep?(saved: SavedFleet): void;
}

/** Plain JSON. `at`: when the asset last spoke, ms. */
export type SavedFleet = Record<TwinId, { at: number; state: Record<string, unknown> }>;

export interface Scenario {
  kind: string;
  scenario: string;
  description: string;
  /** Twins it can be started on. */
  twins: TwinId[];
}

interface Member {
  kind: Kind;
  index: number;
  asset: SimulatedAsset;
  topic: string;
  intervalMs: number;
  offsetMs: number;
  lastAt: number;
  timer: TimerHandle | null;
}

const MIN_INTERVAL_MS = 10;
const KEEP_EVERY_MS = 5_000;
/** How much of a pause an asset lives, beside its interval. */
const LIVED_MS = 60_000;

export class DemoFleet {
  readonly #options: FleetOptions;
  readonly #members = new Map<TwinId, Member>();
  #running = false;
  #keeping: TimerHandle | null = null;

  constructor(options: FleetOptions) {
    this.#options = options;
    for (const kind of options.kinds) {
      if (!kind.simulator) continue;
      const { demoCount, create } = kind.simulator;
      const interval = (options.intervalMs ?? kind.simulator.intervalMs) / options.speedFactor;
      const intervalMs = Math.max(MIN_INTERVAL_MS, interval);
      for (let index = 0; index < demoCount; index++) {
        const asset = create({ seed: options.seed, index });
        this.#members.set(twinIdOf(kind.kind, asset.id), {
          kind,
          index,
          asset,
          topic: topicOf(kind, asset.id),
          intervalMs,
          offsetMs: (intervalMs * index) / demoCount,
          lastAt: Number.NEGATIVE_INFINITY,
          timer: null,
        });
      }
    }
  }

  get twinIds(): TwinId[] {
    return [...this.#members.keys()];
  }

  /** Goes on from what was saved, before `start`. Answers the twins whose asset begins anew, because what was saved does not fit it. */
  resume(saved: SavedFleet): TwinId[] {
    const anew: TwinId[] = [];
    const now = this.#options.clock.now();
    for (const [twinId, member] of this.#members) {
      const entry = Object.hasOwn(saved, twinId) ? saved[twinId] : undefined;
      const { asset } = member;
      if (entry === undefined || !asset.save || !asset.resume) continue;
      try {
        if (!Number.isFinite(entry.at)) throw new TypeError('at must be a number');
        mustBeAlike(entry.state, asset.save());
        // Saved by a clock that was ahead of this one: its times come back with it.
        asset.resume(entry.state, Math.min(0, now - entry.at));
        member.lastAt = Math.min(entry.at, now);
      } catch {
        anew.push(twinId);
        member.asset = member.kind.simulator!.create({ seed: this.#options.seed, index: member.index });
      }
    }
    return anew;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    const now = this.#options.clock.monotonic();
    for (const member of this.#members.values()) this.#schedule(member, now + member.offsetMs);
    if (this.#options.keep) this.#keepOn();
  }

  stop(): void {
    if (!this.#running) return;
    this.#running = false;
    this.#keeping?.cancel();
    for (const member of this.#members.values()) member.timer?.cancel();
    this.#keep();
  }

  /** Every scenario of the kinds in the fleet. */
  scenarios(): Scenario[] {
    return this.#options.kinds.flatMap((kind) =>
      Object.entries(kind.simulator?.scenarios ?? {}).map(([scenario, description]) => ({
        kind: kind.kind,
        scenario,
        description,
        twins: [...this.#members].filter(([, member]) => member.kind === kind).map(([twinId]) => twinId),
      })),
    );
  }

  /** Starts a scenario; severity in (0, 1]. Throws not_found, bad_request. */
  inject(twinId: TwinId, scenario: string, severity: number): void {
    const member = this.#members.get(twinId);
    if (!member) throw new TwinmeshError('not_found', `${twinId} is not in the demo fleet.`);
    const known = Object.keys(member.kind.simulator?.scenarios ?? {});
    if (!known.includes(scenario)) {
      throw new TwinmeshError(
        'bad_request',
        `A ${member.kind.kind} has no scenario of this name; it has ${known.join(', ')}.`,
      );
    }
    if (!(severity > 0 && severity <= 1)) {
      throw new TwinmeshError('bad_request', 'severity must be above 0 and at most 1.');
    }
    member.asset.inject(scenario, severity);
    this.#keep();
  }

  #keepOn(): void {
    this.#keeping = this.#options.clock.after(KEEP_EVERY_MS, () => {
      this.#keep();
      this.#keepOn();
    });
  }

  #keep(): void {
    if (!this.#options.keep) return;
    const saved: SavedFleet = {};
    for (const [twinId, { asset, lastAt }] of this.#members)
      if (asset.save && lastAt > Number.NEGATIVE_INFINITY) {
        const state = savedBy(asset);
        if (state !== null) saved[twinId] = { at: lastAt, state };
      }
    this.#options.keep(saved);
  }

  #schedule(member: Member, due: number): void {
    const { clock } = this.#options;
    member.timer = clock.after(Math.max(0, due - clock.monotonic()), () => {
      if (!this.#running) return;
      this.#speak(member);
      // After a pause of the process it goes on from now: a device does not catch up either.
      const late = clock.monotonic() - due;
      this.#schedule(
        member,
        late > member.intervalMs ? clock.monotonic() + member.intervalMs : due + member.intervalMs,
      );
    });
  }

  #speak(member: Member): void {
    const before = member.lastAt;
    member.lastAt = Math.max(before + 1, this.#options.clock.now());
    const stoodMs = member.lastAt - before - member.intervalMs - LIVED_MS;
    const { asset } = member;
    if (stoodMs > 0 && before > Number.NEGATIVE_INFINITY) standStill(asset, stoodMs);
    const message = asset.next(member.lastAt);
    if (message !== null) this.#options.send(member.topic, message);
  }
}

/** Null where the simulator, which a kind brings along, throws: it begins anew at the next start. */
function savedBy(asset: SimulatedAsset): Record<string, unknown> | null {
  try {
    return asset.save?.() ?? null;
  } catch {
    return null;
  }
}

/** As far as the simulator can: otherwise it has lived through the pause. */
function standStill(asset: SimulatedAsset, stoodMs: number): void {
  const state = savedBy(asset);
  if (state === null) return;
  try {
    asset.resume?.(state, stoodMs);
  } catch {}
}

/** Throws where a simulator that has changed since could not go on from what it once saved: other members, or of another type. */
function mustBeAlike(saved: Record<string, unknown>, fresh: Record<string, unknown>): void {
  const names = Object.keys(fresh);
  const alike = (name: string) =>
    Object.hasOwn(saved, name) &&
    (saved[name] === null || fresh[name] === null || typeof saved[name] === typeof fresh[name]);
  if (names.length !== Object.keys(saved).length || !names.every(alike))
    throw new TypeError('saved by another simulator');
}

/** The topic of the kind's first format, or the one of every kind where that format has none. */
function topicOf(kind: Kind, id: string): string {
  const filter = kind.formats[0].mqtt?.[0];
  return filter === undefined ? `twins/${kind.kind}/${id}/telemetry` : filter.replace('{id}', id);
}
