import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { ThrownError } from './thread-message.ts';

/** Errors keep their code on the way between threads; what has none is a fault of ours. */
export function toThrown(error: unknown): ThrownError {
  if (error instanceof TwinmeshError) {
    const { code, message, details } = error;
    return { code, message, ...(details === undefined ? {} : { details }) };
  }
  return { code: 'internal', message: messageOf(error), ...(error instanceof Error ? { stack: error.stack } : {}) };
}

export function fromThrown({ code, message, details, stack }: ThrownError): TwinmeshError {
  const error = new TwinmeshError(code, message, details);
  if (stack !== undefined) error.stack = stack;
  return error;
}
