import type { Ledger } from './ledger.ts';
import type { Mesh } from './mesh.ts';

/** What a fault may touch. */
export interface Scene {
  readonly mesh: Mesh;
  readonly ledger: Ledger;
  readonly random: () => number;
}

export type Target =
  | 'host'
  | 'ingest'
  | 'gateway'
  | 'inference'
  | 'postgres'
  | 'nats'
  | 'mosquitto'
  | 'kafka'
  | 'redis';

/** What telemetry does without: while one of these is down, shards go on committing. */
export const BYSTANDERS: ReadonlySet<Target> = new Set<Target>(['kafka', 'redis', 'inference']);

/** One row of the table: a way to fail, and what fails. */
export interface Fault {
  readonly name: string;
  readonly target: Target;
  /** By what it is done here, for the table. */
  means?(scene: Scene): string;
  /** Begins it, ends it, and puts back what it took away. Answers a few words on what it was. */
  inject(scene: Scene): Promise<string>;
}

export function pick<T>(list: readonly T[], random: () => number): T {
  return list[Math.floor(random() * list.length)];
}

/** From a to b. */
export function between(a: number, b: number, random: () => number): number {
  return a + (b - a) * random();
}
