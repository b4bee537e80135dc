/**
 * Every error that crosses a boundary of the runtime: a stable code, a sentence, what the caller should do.
 * docs/ERRORS.md lists the same codes; a test keeps the two equal.
 */
export interface ErrorSpec {
  /** HTTP status the gateway answers with. */
  readonly status: number;
  /** True where the same call may succeed later without being changed. */
  readonly retryable: boolean;
  /** What the caller should do about it, one sentence. */
  readonly remedy: string;
}

export const ERRORS = {
  // refusals at the door: the reading itself is at fault
  not_json: { status: 400, retryable: false, remedy: 'Send valid JSON (or NDJSON, one object a line) in UTF-8.' },
  wrong_type: { status: 422, retryable: false, remedy: 'Send the field with the type that the format documents.' },
  missing_field: { status: 422, retryable: false, remedy: 'Add the field that the message names.' },
  not_finite: { status: 422, retryable: false, remedy: 'Send finite numbers; leave a metric out when it is unknown.' },
  out_of_range: {
    status: 422,
    retryable: false,
    remedy: 'Check the sensor and the unit: the value is physically impossible.',
  },
  unknown_kind: {
    status: 422,
    retryable: false,
    remedy: 'Use a kind that GET /api/v1/kinds lists, or add a kind file.',
  },
  unknown_metric: { status: 422, retryable: false, remedy: 'Send at least one metric of the kind.' },
  unknown_topic: { status: 404, retryable: false, remedy: 'Publish on a topic that docs/ingest.md lists.' },
  bad_id: { status: 422, retryable: false, remedy: 'Use 1 to 128 characters of A-Z a-z 0-9 . _ -' },
  bad_time: {
    status: 422,
    retryable: false,
    remedy: 'Send ISO 8601, or epoch seconds or milliseconds, between 1970 and 2200.',
  },
  future_time: { status: 422, retryable: false, remedy: 'Set the clock of the device, or raise MAX_SKEW_MS.' },
  too_large: { status: 413, retryable: false, remedy: 'Split the payload, or raise MAX_PAYLOAD_BYTES.' },
  too_deep: { status: 422, retryable: false, remedy: 'Send flat objects; nesting is limited.' },
  bad_text: { status: 422, retryable: false, remedy: 'Remove NUL characters and lone surrogates from text.' },
  duplicate_key: { status: 422, retryable: false, remedy: 'Send each key of an object once.' },
  conflicting_duplicate: {
    status: 409,
    retryable: false,
    remedy: 'The first reading of this identity stands; send a new time or id.',
  },
  not_yourself: {
    status: 403,
    retryable: false,
    remedy: 'A device may publish only as itself; enrol it as a gateway to speak for others.',
  },
  too_many_metrics: {
    status: 422,
    retryable: false,
    remedy: 'A twin learns up to 64 metrics; send further ones as another device.',
  },
  retired: { status: 410, retryable: false, remedy: 'The twin is retired; PUT it to take it into service again.' },
  poison: {
    status: 422,
    retryable: false,
    remedy: 'Folding this reading failed; see the dead letter, mend the kind, replay it.',
  },
  // callers
  bad_request: { status: 400, retryable: false, remedy: 'Correct the request as the message says.' },
  not_found: { status: 404, retryable: false, remedy: 'Check the id; list what exists.' },
  history_gone: {
    status: 410,
    retryable: false,
    remedy: 'Ask for a moment from the time on that the message names; history is kept as long as its retention says.',
  },
  method_not_allowed: { status: 405, retryable: false, remedy: 'Use a method that /openapi.json lists for this path.' },
  unauthenticated: { status: 401, retryable: false, remedy: 'Send a key: Authorization: Bearer tm_… or x-api-key.' },
  forbidden: { status: 403, retryable: false, remedy: 'Use a key with the role that the message names.' },
  conflict: { status: 409, retryable: false, remedy: 'Read the current state and decide again.' },
  precondition_failed: {
    status: 412,
    retryable: false,
    remedy: 'Read the twin again and send its newest ETag in If-Match.',
  },
  rate_limited: { status: 429, retryable: true, remedy: 'Wait as long as Retry-After says.' },
  not_available: {
    status: 501,
    retryable: false,
    remedy: 'This version does not have it: do without, and see README.md for what is not part of it.',
  },
  unsupported: { status: 415, retryable: false, remedy: 'Send application/json or application/x-ndjson.' },
  // the runtime
  not_owner: {
    status: 503,
    retryable: true,
    remedy: 'Ask the node that owns the shard now; routers refresh and retry.',
  },
  unavailable: { status: 503, retryable: true, remedy: 'Retry with backoff; see /health/ready for what is down.' },
  overloaded: { status: 503, retryable: true, remedy: 'Slow down; the queue of this shard is full.' },
  deadline_exceeded: { status: 504, retryable: true, remedy: 'Retry with the same idempotency key.' },
  inference_down: {
    status: 503,
    retryable: true,
    remedy: 'Retry later; telemetry goes on without. GET /api/v1/models says what is live and what is wrong.',
  },
  bad_model: {
    status: 422,
    retryable: false,
    remedy: 'Correct the model or its card as the message says; the version before stays live.',
  },
  store_down: { status: 503, retryable: true, remedy: 'Bring the database back; nothing acknowledged is lost.' },
  wrong_shard_count: {
    status: 500,
    retryable: false,
    remedy: 'Start with the SHARDS that the database was created with.',
  },
  newer_schema: {
    status: 500,
    retryable: false,
    remedy: 'Run the version of twinmesh that wrote this database, or a newer one.',
  },
  newer_snapshot: {
    status: 500,
    retryable: false,
    remedy: 'Run the version of twinmesh that wrote this snapshot, or a newer one.',
  },
  bad_settings: {
    status: 500,
    retryable: false,
    remedy: 'Correct the settings listed; npm start -- --help explains each.',
  },
  bad_kind: { status: 500, retryable: false, remedy: 'Correct the kind file as the message says.' },
  data_dir: {
    status: 500,
    retryable: false,
    remedy: 'Do what the message says: DATA_DIR has to be writable, have space, and be of one process at a time.',
  },
  internal: { status: 500, retryable: false, remedy: 'Report it with the request id; the log has the details.' },
} as const satisfies Record<string, ErrorSpec>;

export type ErrorCode = keyof typeof ERRORS;

/** The one error class of the runtime. `code` decides status, retryability and remedy. */
export class TwinmeshError extends Error {
  readonly code: ErrorCode;
  readonly details: Record<string, unknown> | undefined;

  constructor(code: ErrorCode, message: string, details?: Record<string, unknown>, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TwinmeshError';
    this.code = code;
    this.details = details;
  }

  get spec(): ErrorSpec {
    return ERRORS[this.code];
  }
}

/** A message as text, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
