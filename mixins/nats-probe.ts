import { connectNats } from '../actors/log/jetstream-connection.ts';
import type { Clock } from '../actors/protocol/clock.ts';
import { messageOf } from '../actors/protocol/errors.ts';
import type { Settings } from '../config/settings.ts';
import { natsAccess } from './nats-access.ts';

/** What can be seen of NATS with the credentials of this node, without changing anything. */
export interface NatsFacts {
  server: string;
  version: string;
  rttMs: number;
  authRequired: boolean;
  tls: boolean;
  jetstream: 'on' | 'off' | 'forbidden' | { failed: string };
  /** File storage of the account, bytes; a limit below 0 is none. */
  account: { used: number; limit: number } | null;
  stream: StreamFacts | 'missing' | 'forbidden' | null;
  /** Whether this user may delete streams. Asked about one that does not exist. */
  mayDelete: boolean | null;
}

export interface StreamFacts {
  storage: string;
  retention: string;
  discard: string;
  maxAgeNs: number;
  maxBytes: number;
  bytes: number;
  messages: number;
  replicas: number;
  /** Replicas that do not follow. */
  offline: number;
}

interface Answer {
  error?: { code: number; err_code: number; description: string };
  storage?: number;
  limits?: { max_storage: number };
  config?: {
    storage: string;
    retention: string;
    discard: string;
    max_age: number;
    max_bytes: number;
    num_replicas: number;
  };
  state?: { bytes: number; messages: number };
  cluster?: { replicas?: { current: boolean; offline?: boolean }[] };
}

const REQUEST_MS = 4_000;
const NO_STREAM = 10059;
/** No stream has this name, so that nothing is deleted. */
const NOWHERE = 'TWINMESH_DOCTOR_NOWHERE';

/** Throws `bad_settings` (refused), `unavailable` (not there). */
export async function probeNats(settings: Settings, clock: Clock, stream = 'TWINS'): Promise<NatsFacts> {
  const connection = await connectNats({ ...natsAccess(settings, 'doctor'), clock, firstWithinMs: 0 });
  try {
    const rttMs = await connection.rtt();
    const ask = async (subject: string): Promise<Answer | 'silent' | 'forbidden' | { failed: string }> => {
      try {
        const answer = await connection.request(subject, '', { timeout: REQUEST_MS });
        return JSON.parse(answer.string()) as Answer;
      } catch (error) {
        const code = String((error as { code?: unknown }).code);
        if (code === '503') return 'silent';
        if (/PERMISSIONS/.test(code)) return 'forbidden';
        return { failed: messageOf(error) };
      }
    };
    const { info } = connection;
    const facts: NatsFacts = {
      server: info?.server_name ?? connection.getServer(),
      version: info?.version ?? 'unknown',
      rttMs,
      authRequired: info?.auth_required === true,
      tls: info?.tls_required === true,
      jetstream: 'on',
      account: null,
      stream: null,
      mayDelete: null,
    };
    const account = await ask('$JS.API.INFO');
    if (account === 'silent' || (isAnswer(account) && account.error?.code === 503)) facts.jetstream = 'off';
    else if (account === 'forbidden') facts.jetstream = 'forbidden';
    else if (!isAnswer(account)) facts.jetstream = account;
    else if (account.error) facts.jetstream = { failed: account.error.description };
    else facts.account = { used: account.storage ?? 0, limit: account.limits?.max_storage ?? -1 };
    if (facts.jetstream === 'off') return facts;
    facts.stream = streamOf(await ask(`$JS.API.STREAM.INFO.${stream}`));
    const deletion = await ask(`$JS.API.STREAM.DELETE.${NOWHERE}`);
    facts.mayDelete = isAnswer(deletion)
      ? deletion.error?.err_code === NO_STREAM
      : deletion === 'forbidden'
        ? false
        : null;
    return facts;
  } finally {
    await connection.close();
  }
}

function isAnswer(answer: unknown): answer is Answer {
  return typeof answer === 'object' && answer !== null && !('failed' in answer);
}

function streamOf(answer: Answer | 'silent' | 'forbidden' | { failed: string }): NatsFacts['stream'] {
  if (answer === 'forbidden') return 'forbidden';
  if (!isAnswer(answer)) return null;
  if (answer.error?.err_code === NO_STREAM) return 'missing';
  const { config, state, cluster } = answer;
  if (config === undefined || state === undefined) return null;
  return {
    storage: config.storage,
    retention: config.retention,
    discard: config.discard,
    maxAgeNs: config.max_age,
    maxBytes: config.max_bytes,
    bytes: state.bytes,
    messages: state.messages,
    replicas: config.num_replicas,
    offline: (cluster?.replicas ?? []).filter(({ current, offline }) => !current || offline === true).length,
  };
}
