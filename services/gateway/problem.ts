import type { ServerResponse } from 'node:http';
import { ERRORS, type ErrorCode, TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * An error as clients see it: application/problem+json with a stable code. `status` is the word "error", as sensor
 * clients expect, and the number stands in `http_status` (docs/adr/0005-problem-status.md).
 */
export interface Problem {
  type: string;
  title: string;
  status: 'error';
  http_status: number;
  detail: string;
  code: ErrorCode;
  instance: string;
  request_id: string;
  remedy: string;
  retryable: boolean;
  /** What is wrong with which field, where several are. */
  errors?: { field: string; message: string }[];
}

interface Faulty {
  name?: string;
  code?: unknown;
  type?: string;
  message?: string;
  data?: unknown;
  details?: Record<string, unknown>;
}

interface FieldFault {
  type?: unknown;
  field?: unknown;
  message?: unknown;
  expected?: unknown;
  actual?: unknown;
}

/** Any thrown thing as an error of ours. An error from another node has lost its class and kept its code. */
export function asTwinmeshError(thrown: unknown): TwinmeshError {
  if (thrown instanceof TwinmeshError) return thrown;
  const error = (thrown ?? {}) as Faulty;
  if (typeof error.code === 'string' && Object.hasOwn(ERRORS, error.code))
    return new TwinmeshError(error.code as ErrorCode, String(error.message), error.details, { cause: thrown });
  switch (error.name) {
    case 'ValidationError': {
      const errors = fieldErrors(error.data);
      const first = errors[0]?.message ?? 'The parameters are not valid.';
      return new TwinmeshError('bad_request', first, { errors }, { cause: thrown });
    }
    case 'ServiceNotFoundError':
    case 'ServiceUnavailableError':
    case 'ServiceNotAvailableError':
    case 'RequestRejectedError':
    case 'DisconnectedError':
      return new TwinmeshError('unavailable', 'The service behind this path is not running.', undefined, {
        cause: thrown,
      });
    case 'RequestTimeoutError':
    case 'RequestSkippedError':
      return new TwinmeshError('deadline_exceeded', 'No answer came within the deadline.', undefined, {
        cause: thrown,
      });
    case 'QueueIsFullError':
      return new TwinmeshError('overloaded', 'Too many calls are waiting.', undefined, { cause: thrown });
    default:
      return new TwinmeshError('internal', 'Something failed inside.', undefined, { cause: thrown });
  }
}

function fieldErrors(data: unknown): { field: string; message: string }[] {
  if (!Array.isArray(data)) return [];
  return data.slice(0, 20).map((fault: FieldFault) => ({
    field: String(fault.field ?? ''),
    message: faultMessage(fault).slice(0, 300),
  }));
}

/** The validator's sentence; where a value is none of a list, one that names both. */
function faultMessage({ type, field, message, expected, actual }: FieldFault): string {
  if (type !== 'enumValue' && type !== 'stringEnum') return String(message ?? 'is not valid');
  const allowed = String(expected).replaceAll('"', '').split(/, */).join(', ');
  return `${field}: ${shortly(actual)} is none of ${allowed}.`;
}

function shortly(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').replace(/[^\x20-\x7e]/g, '?').slice(0, 60);
}

export function problemOf(error: TwinmeshError, instance: string, requestId: string): Problem {
  const title = error.code.replaceAll('_', ' ');
  const errors = error.details?.errors;
  return {
    type: `/docs#error-${error.code}`,
    title: title[0].toUpperCase() + title.slice(1),
    status: 'error',
    http_status: error.spec.status,
    detail: error.message,
    code: error.code,
    instance,
    request_id: requestId,
    remedy: error.spec.remedy,
    retryable: error.spec.retryable,
    ...(Array.isArray(errors) ? { errors: errors as Problem['errors'] } : {}),
  };
}

/** Answers with the problem, unless an answer has begun: then the connection is cut so that it cannot look complete. */
export function sendProblem(res: ServerResponse, problem: Problem, error: TwinmeshError, head: boolean): void {
  if (res.headersSent) {
    res.destroy();
    return;
  }
  const body = JSON.stringify(problem);
  res.statusCode = problem.http_status;
  res.removeHeader('ETag');
  res.setHeader('Cache-Control', 'no-store');
  res.setHeader('Content-Type', 'application/problem+json; charset=utf-8');
  res.setHeader('Content-Length', Buffer.byteLength(body));
  if (error.code === 'unauthenticated') res.setHeader('WWW-Authenticate', 'Bearer realm="twinmesh"');
  if (typeof error.details?.allow === 'string') res.setHeader('Allow', error.details.allow);
  const waitMs = error.details?.retryAfterMs;
  if (typeof waitMs === 'number') res.setHeader('Retry-After', Math.max(1, Math.ceil(waitMs / 1000)));
  else if (problem.http_status === 503) res.setHeader('Retry-After', 1);
  res.end(head ? undefined : body);
}
