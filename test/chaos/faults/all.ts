import type { Fault, Scene, Target } from '../fault.ts';
import { NODE_FAULTS } from './nodes.ts';
import { POSTGRES_FAULTS } from './postgres.ts';
import { SERVER_FAULTS } from './servers.ts';

/** Devices that send again what had been acknowledged: on purpose in bursts, beside the 5 % that they send twice anyway. */
const REPEATS: Fault = {
  name: 'duplicates in a burst',
  target: 'ingest',
  async inject({ ledger }) {
    return `${ledger.repeatSince(Date.now() - 3_000)} readings again`;
  },
};

export const FAULTS: readonly Fault[] = [...NODE_FAULTS, ...POSTGRES_FAULTS, ...SERVER_FAULTS, REPEATS];

/** Short names for the command line: `kill`, `kill:host`, `partition`, `nats`. */
export function matches(fault: Fault, wanted: string): boolean {
  const [name, target] = wanted.includes(':') ? wanted.split(':') : [wanted, null];
  if (target !== null && fault.target !== target) return false;
  return fault.name.toLowerCase().includes(name.toLowerCase()) || (target === null && fault.target === name);
}

/** Those that can be done to what is running. */
export function possible({ mesh }: Pick<Scene, 'mesh'>, wanted: readonly string[]): Fault[] {
  const { servers, options } = mesh;
  const there: Record<Target, boolean> = {
    host: true,
    // A node that does everything is a host.
    ingest: options.layout === 'split',
    gateway: options.layout === 'split',
    inference: options.layout === 'split',
    postgres: true,
    nats: servers.nats !== null,
    mosquitto: true,
    kafka: servers.kafka !== null,
    redis: servers.redis !== null,
  };
  return FAULTS.filter((fault) => there[fault.target] || fault === REPEATS).filter(
    (fault) => wanted.length === 0 || wanted.some((want) => matches(fault, want)),
  );
}
