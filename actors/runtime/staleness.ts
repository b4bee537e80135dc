import type { Clock } from '../protocol/clock.ts';
import { messageOf, TwinmeshError } from '../protocol/errors.ts';
import type { TwinId } from '../protocol/twin-id.ts';
import type { Stale } from '../protocol/view.ts';
import type { HostLogger } from './host-options.ts';
import { INFERENCE_REMEDY } from './prediction-view.ts';

/** Why telemetry may not be moving, for the whole host or for one twin, and since when. */
const POISONED_REMEMBERED = 1_000;

export class Staleness {
  readonly #clock: Clock;
  readonly #logger: HostLogger;
  readonly #poisoned = new Map<string, string>();
  #failingSince: { wallMs: number; monotonicMs: number } | null = null;
  /** A commit waits for a store that takes nothing: one that still answers reads, its disk being full, is down all the same. */
  cannotWrite = false;
  /** Since when the log takes nothing; asked on every read. */
  ingestPausedSince: () => number | null = () => null;
  /** Since when a model that twins of this kind ask does not answer; asked on every read of a twin. */
  inferenceFailingSince: (kind: string) => number | null = () => null;

  constructor(clock: Clock, logger: HostLogger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** For how long the store has not answered, ms; 0 while it does. */
  get failingMs(): number {
    return this.#failingSince === null ? 0 : Math.max(1, this.#clock.monotonic() - this.#failingSince.monotonicMs);
  }

  get isStoreFailing(): boolean {
    return this.#failingSince !== null;
  }

  storeFailed(error: unknown): void {
    if (this.#failingSince !== null) return;
    this.#failingSince = { wallMs: this.#clock.now(), monotonicMs: this.#clock.monotonic() };
    const told = error instanceof TwinmeshError ? { code: error.code, remedy: error.spec.remedy } : {};
    this.#logger.error({ error: messageOf(error), ...told }, 'the store does not answer; telemetry waits');
  }

  storeAnswered(): void {
    if (this.#failingSince === null || this.cannotWrite) return;
    this.#logger.info({ downMs: Math.round(this.failingMs) }, 'the store answers again');
    this.#failingSince = null;
  }

  /** A turn threw. */
  poisoned(twinId: string, why: string): void {
    this.#logger.error({ twinId, why }, 'a turn threw');
    this.#poisoned.set(twinId, new Date(this.#clock.now()).toISOString());
    if (this.#poisoned.size > POISONED_REMEMBERED) this.#poisoned.delete(this.#poisoned.keys().next().value!);
  }

  /** `null`: of the host as a whole. */
  of(twinId: TwinId | null): Stale | null {
    if (this.#failingSince !== null) {
      return {
        reason: 'store down',
        since: new Date(this.#failingSince.wallMs).toISOString(),
        remedy: 'Bring the database back; readings wait in the log and nothing acknowledged is lost.',
      };
    }
    const pausedSince = this.ingestPausedSince();
    if (pausedSince !== null) {
      return {
        reason: 'ingest paused',
        since: new Date(pausedSince).toISOString(),
        remedy: 'The log takes nothing: see /health/ready; sources wait and resend, nothing acknowledged is lost.',
      };
    }
    const poisonedAt = twinId === null ? undefined : this.#poisoned.get(twinId);
    if (poisonedAt !== undefined) {
      return {
        reason: 'poison',
        since: poisonedAt,
        remedy: 'A reading could not be folded; see the dead letters, mend the kind, replay it.',
      };
    }
    // says nothing of the host: telemetry goes on without
    const failingSince = twinId === null ? null : this.inferenceFailingSince(twinId.slice(0, twinId.indexOf(':')));
    if (failingSince !== null)
      return { reason: 'inference down', since: new Date(failingSince).toISOString(), remedy: INFERENCE_REMEDY };
    return null;
  }
}
