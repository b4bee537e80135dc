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
}

export interface Scenario {
  kind: string;
  scenario: string;
  description: string;
  /** Twins it can be started on. */
  twins: TwinId[];
}

interface Member {
  kind: Kind;
  asset: SimulatedAsset;
  topic: string;
  intervalMs: number;
  offsetMs: number;
  lastAt: number;
  timer: TimerHandle | null;
}

const MIN_INTERVAL_MS = 10;

export class DemoFleet {
  readonly #options: FleetOptions;
  readonly #members = new Map<TwinId, Member>();
  #running = false;

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

  start(): void {
    if (this.#running) return;
    this.#running = true;
    const now = this.#options.clock.monotonic();
    for (const member of this.#members.values()) this.#schedule(member, now + member.offsetMs);
  }

  stop(): void {
    this.#running = false;
    for (const member of this.#members.values()) member.timer?.cancel();
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
    member.lastAt = Math.max(member.lastAt + 1, this.#options.clock.now());
    const message = member.asset.next(member.lastAt);
    if (message !== null) this.#options.send(member.topic, message);
  }
}

/** The topic of the kind's first format, or the one of every kind where that format has none. */
function topicOf(kind: Kind, id: string): string {
  const filter = kind.formats[0].mqtt?.[0];
  return filter === undefined ? `twins/${kind.kind}/${id}/telemetry` : filter.replace('{id}', id);
}
