import { type Clock, LATE, within } from '../../actors/protocol/clock.ts';
import { ERRORS } from '../../actors/protocol/errors.ts';
import type { HostStatus } from '../../actors/runtime/host-api.ts';

/**
 * Whether this node can serve: the store answers within a second and the twin host runs. Reasons are from a closed list,
 * because anybody may ask.
 */
export interface Readiness {
  ready: boolean;
  /** `mesh` only where there is one. */
  checks: { store: Check; host: Check; mesh?: Check };
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
  drained: 'The node was drained by hand and owns nothing: undrain it, or stop it.',
  stopped: 'Start the node again.',
};

export interface ProbeOptions {
  clock: Clock;
  store(): Promise<void>;
  /** The twin host of this node, where it has one. */
  host?(): Pick<HostStatus, 'state' | 'stale'>;
  /** Roles that no node of the mesh has, as far as this one knows. */
  missing?(): readonly string[];
  onFault?: (check: string, error: unknown) => void;
  timeoutMs?: number;
}

export async function probe(options: ProbeOptions): Promise<Readiness> {
  const store = await storeCheck(options);
  const host: Check = options.host === undefined ? { ok: true } : hostCheck(options.host());
  const checks = { store, host, ...(options.missing && { mesh: meshCheck(options.missing()) }) };
  return { ready: Object.values(checks).every(({ ok }) => ok), checks };
}

function hostCheck({ state, stale }: Pick<HostStatus, 'state' | 'stale'>): Check {
  if (stale !== null) return { ok: false, reason: stale.reason, since: stale.since, remedy: stale.remedy };
  // A host that gave up its shards on purpose still answers for the rest of the node.
  if (state === 'running' || state === 'drained') return { ok: true };
  return { ok: false, reason: state, remedy: STATE_REMEDIES[state] };
}

function meshCheck(missing: readonly string[]): Check {
  if (missing.length === 0) return { ok: true };
  const remedy = 'Start a node with that role, or wait for it to be found; npm run nodes shows who is there.';
  return { ok: false, reason: `no node with the role ${missing.join(', ')}`, remedy };
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
