import type { LogMessage, LogReader } from '../log/port.ts';
import type { Command } from '../protocol/entry.ts';
import type { Outcome } from '../protocol/reading.ts';
import type { Span } from '../protocol/trace.ts';
import { type ShardRow, TWIN_KEYS_PER_SHARD } from '../store/port.ts';
import type { Activation } from './activation.ts';
import type { Answer } from './answer.ts';
import type { CommandOptions, CommandResult } from './host-api.ts';
import type { Part } from './part.ts';
import { Residents } from './residents.ts';

export interface PendingCommand {
  twinId: string;
  command: Command;
  options: CommandOptions;
  /** Monotonic. */
  deadlineAt: number;
  resolve(result: CommandResult): void;
  reject(error: Error): void;
}

export interface PendingRead {
  twinId: string;
  resolve(activation: Activation): void;
  reject(error: Error): void;
}

/** A message that is being folded, perhaps over several cuts. */
export interface CurrentMessage {
  message: LogMessage;
  index: number;
  outcomes: Outcome[];
  /** Where its way is traced: its folding, and the event seq before it. */
  turn?: { span: Span; afterSeq: number };
}

/**
 * How large the cuts of a shard may be:
 *
 *     normal ──aborted commit──▶ alone ──aborts alone──▶ single ──aborts singly──▶ that reading to the dead letters
 *        ▲                         │ commits                │ past the messages it was entered for
 *        └─────────────────────────┴────────────────────────┘
 */
export type ShardMode = 'normal' | 'alone' | 'single';

/**
 * A shard that this host owns: marks, queue and resident twins. Thrown away whole when the fence says that it is no longer
 * ours, or when a commit did not land: `dead` is final, memory that was read again is a new object. Only an owner that nobody has
 * replaced takes it along into its next epoch (`renewing`).
 */
export class HostedShard {
  readonly shard: number;
  epoch: number;
  /** commit_no as last seen. */
  commitNo: number;
  /** Marks as folded: ahead of the store by the cut that is under way. */
  position: number;
  positionId: string | null;
  positionAt: number | null;
  eventSeq: number;
  /** Event seq as committed: what sinks may deliver. */
  committedSeq: number;
  readonly twins = new Residents();
  /** `twins.departures` when the twins of all that waits here were last seen to be resident; −1: they have to be looked for. */
  seenResident = -1;
  /** Activations with entries above their snapshot, oldest tail first. */
  readonly dirty = new Set<Activation>();
  readonly commands: PendingCommand[] = [];
  reads: PendingRead[] = [];
  /** Resident twins whose wake is due, and passive ones by id. */
  ticks: Activation[] = [];
  readonly wakes = new Set<string>();
  /** What models said of its twins: folded with its next part. */
  answers: Answer[] = [];
  inbox: LogMessage[] = [];
  current: CurrentMessage | null = null;
  reader: LogReader | null = null;
  readable = false;
  /** When work of it was gathered last, as a running number. */
  served = 0;
  mode: ShardMode;
  /** While in `single`: how many readings to go before trusting again. */
  careful = 0;
  /** Part under construction or on its way. */
  inFlight: Part | null = null;
  draining = false;
  /** Its final part is closed: nothing is folded any more. */
  sealed = false;
  /** Its memory is worth nothing (a turn threw, the log went back): waits for the commit under way, then is claimed anew. */
  poisoned = false;
  /** Claimed under the next epoch while its memory stays: nothing of it is sent or read until that is certain. */
  renewing = false;
  /** While above 0 nothing is taken from the log: it is being asked whether it went back. */
  doubted = 0;
  /** Mark of the reading last named under `~suspect`. */
  vouched = -1;
  dead = false;
  /** Set by the host: where a command goes whose part did not commit. */
  onLostCommand: ((pending: PendingCommand) => void) | null = null;
  /** Highest twin key handed out; −1 until asked of the store. */
  highestKey = -1;

  constructor(row: ShardRow, mode: ShardMode) {
    this.shard = row.shard;
    this.epoch = row.epoch;
    this.commitNo = row.commitNo;
    this.position = row.position;
    this.positionId = row.positionId;
    this.positionAt = row.positionAt;
    this.eventSeq = row.eventSeq;
    this.committedSeq = row.eventSeq;
    this.mode = mode;
  }

  /** After a commit: whether a careful mode may end. What killed or aborted was read before, so nothing is left to be careful about once that is gone. */
  get isTrusted(): boolean {
    if (this.mode !== 'single' || this.careful <= 0) return true;
    return this.inbox.length === 0 && this.current === null && !this.readable;
  }

  nextKey(): number {
    if (this.highestKey < 0) throw new Error('the highest twin key of the shard has not been read');
    this.highestKey = this.highestKey === 0 ? this.shard * TWIN_KEYS_PER_SHARD + 1 : this.highestKey + 1;
    return this.highestKey;
  }

  get hasWork(): boolean {
    if (this.sealed) return this.reads.length > 0;
    return (
      this.commands.length > 0 ||
      this.reads.length > 0 ||
      this.ticks.length > 0 ||
      this.wakes.size > 0 ||
      this.answers.length > 0 ||
      (!this.draining && ((this.readable && this.doubted === 0) || this.inbox.length > 0 || this.current !== null))
    );
  }
}
