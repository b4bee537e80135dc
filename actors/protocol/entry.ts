import type { Reading } from './reading.ts';

/**
 * Journal entries: everything that changes a twin, in order of `revision` (1, 2, 3, … without a hole).
 * A twin is a pure fold over them; `receivedAt` is the only clock the fold sees.
 */
export type Entry = ReadingEntry | CommandEntry | TickEntry | TuningEntry | PredictionEntry;

interface Stamp {
  revision: number;
  /** When the runtime received it, milliseconds since the epoch. */
  receivedAt: number;
}

export interface ReadingEntry extends Stamp {
  type: 'reading';
  reading: Reading;
}

export interface CommandEntry extends Stamp {
  type: 'command';
  command: Command;
}

/** Time itself: written by the host when the twin's `wakeAt` is due. */
export interface TickEntry extends Stamp {
  type: 'tick';
}

/** Settings that the fold depends on, journaled so that replay sees what live saw. */
export interface TuningEntry extends Stamp {
  type: 'tuning';
  tuning: Tuning;
}

/** An answer of the inference service about the state at `basedOn`. */
export interface PredictionEntry extends Stamp {
  type: 'prediction';
  name: string;
  basedOn: number;
  prediction: Record<string, unknown>;
}

/** Changes of a rule by an operator, merged over the rule of the kind. */
export interface RuleOverride {
  enabled?: boolean;
  above?: number;
  below?: number;
  hysteresis?: number;
  holdMs?: number;
  cooldownMs?: number;
  severity?: Severity;
}

export interface Tuning {
  /** Grows with every change; a twin whose own is lower gets a tuning entry before its next fold. */
  version: number;
  /** Lateness window, milliseconds of event time. */
  latenessMs: number;
  rules: Record<string, RuleOverride>;
}

export type Severity = 'info' | 'warning' | 'high' | 'critical';
export const SEVERITIES: readonly Severity[] = ['info', 'warning', 'high', 'critical'];

/** Who asked, under which idempotency key; `key` makes a retry harmless. */
export interface CommandHeader {
  key: string;
  by: string;
}

export type Command = CommandHeader &
  (
    | { name: 'desired'; patch: Record<string, unknown> }
    | { name: 'maintenance'; work: string; at: number; details?: Record<string, string | number | boolean> }
    | { name: 'acknowledge'; alert: string; note?: string }
    | { name: 'resolve'; alert: string; note?: string }
    | { name: 'silence'; alert: string; untilMs: number; note?: string }
    | { name: 'retire' }
    | { name: 'restore' }
    | { name: 'offline'; reason: string }
    | { name: 'attributes'; patch: Record<string, string | number | boolean | null> }
  );
