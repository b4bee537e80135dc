import type { NotificationPayload } from '../notify/notice.ts';

/** Whoever is told. An adapter knows one way of telling and keeps nothing. */
export interface Receiver {
  /** Resolves when the receiver has it. Throws Undelivered, or whatever the connection throws. */
  send(delivery: Delivery): Promise<void>;
  close(): void;
}

export interface Delivery {
  payload: NotificationPayload;
  /** The same at every attempt: a receiver that keeps it tells a repetition from a new one. */
  key: string;
  /** Wall time, ms. */
  nowMs: number;
  signal: AbortSignal;
}

export class Undelivered extends Error {
  /** False: the same message will be refused again. */
  readonly retryable: boolean;
  /** How long the receiver wants to be left alone, ms. */
  readonly retryAfterMs: number | null;

  constructor(message: string, retryable: boolean, retryAfterMs: number | null = null) {
    super(message);
    this.name = 'Undelivered';
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Without secrets, control characters and length. */
export function scrubbed(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) if (secret !== '') clean = clean.replaceAll(secret, '…');
  return clean
    .replace(/[\p{Cc}\p{Cs}]+/gu, ' ')
    .trim()
    .slice(0, 300);
}
