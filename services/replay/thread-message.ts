import type { ErrorCode } from '../../actors/protocol/errors.ts';
import type { PredictAnswer, PredictRequest } from '../../actors/protocol/prediction.ts';
import type { RescoreRequest } from './rescoring.ts';
import type { WhatIfRequest } from './what-if.ts';

/** What a replay thread and its owner say to each other. */
export interface ThreadSettings {
  /** A pool of its own; null: statements go to the owner, whose database is embedded. */
  databaseUrl: string | null;
  applicationName: string;
  /** Folders of kinds beside those of the project. */
  kindFolders: readonly string[];
}

/** One piece of work. Plain data: it crosses threads. */
export type Task =
  | { type: 'at'; twinId: string; at: number }
  | { type: 'what-if'; twinId: string; request: WhatIfRequest; nowMs: number }
  | { type: 'rescore'; id: string; request: RescoreRequest; modelPath: string };

/** An error on its way between threads. */
export interface ThrownError {
  code: ErrorCode;
  message: string;
  details?: Record<string, unknown>;
  stack?: string;
}

/** What a thread wants of its owner. */
export type Ask =
  | { what: 'query'; text: string; params: readonly unknown[]; name?: string }
  | { what: 'predict'; request: PredictRequest };

export type FromThread =
  | { type: 'ready' }
  | { type: 'ask'; id: number; ask: Ask }
  | { type: 'progress'; progress: unknown }
  | { type: 'done'; result: unknown }
  | { type: 'failed'; error: ThrownError };

export type ToThread =
  | { type: 'run'; task: Task }
  | { type: 'answer'; id: number; answer: unknown[] | PredictAnswer }
  | { type: 'refusal'; id: number; error: ThrownError };
