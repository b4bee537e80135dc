import type { TwinEvent } from '../../actors/protocol/event.ts';
import type { Outcome } from '../../actors/protocol/reading.ts';
import type { TwinView } from '../../actors/protocol/view.ts';
import type { Cut, ShardRow } from '../../actors/store/port.ts';
import type { Process } from './clock.ts';
import type { Node } from './cluster.ts';
import type { Sent } from './workload.ts';

/** Watches a run for one promise. Says so through `Trace.fail` when it is broken. */
export interface Checker {
  readonly name: string;
  onBeat?(node: string): void;
  onClaimed?(row: ShardRow, node: string): void;
  onCommitted?(cut: Cut, landed: ReadonlySet<number>, process: Process): void;
  /** A node hands events to the sink; `accepted` are those that the consumer had not passed yet. */
  onDelivery?(node: Node, events: readonly TwinEvent[]): void;
  /** A source was told that a reading is safe; with its outcome where the log waits for the commit. */
  onAcknowledged?(sent: Sent, outcome: Outcome | null): void;
  onRead?(read: Read): void;
  onCommand?(command: Commanded): void;
  onLog?(node: Node, message: string, fields: { [name: string]: unknown }): void;
  /** Faults are healed, all work is done. Views as the owners answer them. */
  atRest?(views: ReadonlyMap<string, TwinView>): void;
}

/** A read that was answered. */
export interface Read {
  /** −1: nobody in particular, who asks several at once. */
  client: number;
  twinId: string;
  /** Null: there is no such twin. */
  view: TwinView | null;
  /** Simulated ms at which the client asked. */
  askedAt: number;
  node: Node;
}

/** A command whose last attempt has ended. */
export interface Commanded {
  twinId: string;
  key: string;
  /** Null: it was never answered with success. */
  result: { revision: number; view: TwinView; repeated: boolean } | null;
  /** True when every attempt was refused for good. */
  refused: boolean;
}
