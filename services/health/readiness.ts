import { type Clock, LATE, within } from '../../actors/protocol/clock.ts';
import { ERRORS } from '../../actors/protocol/errors.ts';
import type { HostStatus } from '../../actors/runtime/host-api.ts';

/**
 * Whether this node can serve: the store answers within a second and the twin host runs. Reasons are from a closed list,
 * because anybody may ask.
 */
export interface Readiness {
  ready: boolean;
  checks: { store: Check; host: Check };
}

export interface Check {
  ok: boolean;
  reason?: string;
  /** Since when, ISO 8601, where that is known. */
  since?: string;
  /** What to do about it. */
  remedy?: string;
}

const STATE_REMEDIES = {
  starting: 'Wait: the node is claiming its shards.',
  draining: 'The node is stopping: ask again once it has been started.',
  stopped: 'Start the node again.',
};

export interface ProbeOptions {
  clock: Clock;
  store(): Promise<void>;
  host(): Pick<HostStatus, 'state' | 'stale'>;
  onFault?: (check: string, error: unknown) => void;
  timeoutMs?: number;
}

export async function probe(options: ProbeOptions): Promise<Readiness> {
  const store = await storeCheck(options);
  const { state, stale } = options.host();
  const host: Check =
    stale !== null
      ? { ok: false, reason: stale.reason, since: stale.since, remedy: stale.remedy }
      : state !== 'running'
        ? { ok: false, reason: state, remedy: STATE_REMEDIES[state] }
        : { ok: true };
  return { ready: store.ok && host.ok, checks: { store, host } };
}

async function storeCheck({ clock, store, onFault, timeoutMs = 1000 }: ProbeOptions): Promise<Check> {
  const { remedy } = ERRORS.store_down;
  try {
    if ((await within(clock, store(), timeoutMs)) !== LATE) return { ok: true };
    return { ok: false, reason: `no answer within ${timeoutMs} ms`, remedy };
  } catch (error) {
    onFault?.('store', error);
    return { ok: false, reason: 'store down', remedy };
  }
}
