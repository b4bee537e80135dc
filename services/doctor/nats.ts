import type { Settings } from '../../config/settings.ts';
import { type NatsFacts, probeNats, type StreamFacts } from '../../mixins/nats-probe.ts';
import { type Check, isLoopback, masked, type Tell } from './check.ts';
import { asTwinmesh } from './failure.ts';

/** NATS and JetStream: there, on, wide enough, and no more allowed than needed. */
const OLDEST = [2, 10] as const;
const MIB = 1_048_576;
const FULL = { warning: 0.8, fault: 0.95 };

export const nats: Check = {
  part: 'nats',
  applies: ({ natsUrl }) => natsUrl !== null,
  async look({ settings, clock }, tell) {
    const servers = masked(settings.natsUrl as string);
    let facts: NatsFacts;
    try {
      facts = await probeNats(settings, clock);
    } catch (thrown) {
      const error = asTwinmesh(thrown);
      if (error.code === 'bad_settings')
        tell.fault(
          error.message,
          'Correct user and password in NATS_URL, or NATS_CREDENTIALS_FILE, and the users in nats.conf.',
        );
      else
        tell.fault(
          `${servers}: ${error.message}`,
          'Start NATS, or correct NATS_URL. Sources are not acknowledged meanwhile, and resend.',
        );
      return;
    }
    server(facts, settings, tell);
    jetstream(facts, tell);
    if (typeof facts.stream === 'object' && facts.stream !== null) stream(facts.stream, settings, tell);
    rights(facts, settings, tell);
  },
};

function server({ version, server: name, rttMs }: NatsFacts, _: Settings, tell: Tell): void {
  const [major, minor] = version.split('.').map(Number);
  const says = `NATS ${version} (${name}) answers in ${rttMs} ms`;
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    tell.fault(
      `${says}: servers before 2.10 have faults in JetStream that lose or repeat messages`,
      'Upgrade the NATS servers.',
    );
  else tell.ok(says);
}

function jetstream({ jetstream: state, account }: NatsFacts, tell: Tell): void {
  if (state === 'off')
    tell.fault(
      'JetStream is off',
      'Start nats-server with -js, or put a jetstream block into nats.conf; switch it on for the account.',
    );
  else if (state === 'forbidden')
    tell.warning(
      'this user may not ask about JetStream',
      'Allow it to publish to $JS.API.INFO, so that the doctor can see it.',
    );
  else if (typeof state === 'object')
    tell.fault(
      `JetStream does not answer: ${state.failed}`,
      'Look at the log of the NATS servers: a cluster without quorum answers nothing.',
    );
  else if (account !== null && account.limit > 0 && account.used > FULL.warning * account.limit)
    tell.warning(
      `the JetStream account uses ${percent(account.used, account.limit)} of its storage`,
      'Raise the limit of the account, or make room.',
    );
  else tell.ok('JetStream is on');
}

function stream(facts: StreamFacts, settings: Settings, tell: Tell): void {
  const { bytes, maxBytes, messages, replicas, offline } = facts;
  if (facts.storage !== 'file' || facts.retention !== 'limits')
    tell.fault(
      `the stream TWINS has ${facts.storage} storage and retention ${facts.retention}`,
      'NATS cannot change that later: back the stream up, remove it, and restart a node, which makes it anew.',
    );
  if (facts.discard !== 'new' || facts.maxAgeNs !== 0)
    tell.fault(
      'the stream TWINS throws old messages away by itself',
      'Restart a node, which corrects it; find out who changed it.',
    );
  if (maxBytes !== settings.logMaxBytes)
    tell.warning(
      `the stream holds ${mib(maxBytes)}, and LOG_MAX_BYTES is ${mib(settings.logMaxBytes)}`,
      'Give all nodes the same LOG_MAX_BYTES and restart one; a smaller bound waits until the log has been trimmed.',
    );
  if (replicas !== settings.logReplicas)
    tell.warning(
      `the stream has ${replicas} replicas, and LOG_REPLICAS is ${settings.logReplicas}`,
      'Give all nodes the same LOG_REPLICAS and restart one.',
    );
  if (offline > 0)
    tell.warning(
      `${offline} of ${replicas} replicas do not follow`,
      'Bring the NATS servers back: the log survives the loss of fewer now.',
    );
  const share = maxBytes > 0 ? bytes / maxBytes : 0;
  const says = `the log holds ${messages} messages, ${mib(bytes)} of ${mib(maxBytes)}`;
  const remedy =
    'Look whether the hosts commit (npm run doctor: database, mesh); a full log refuses, and sources wait.';
  if (share > FULL.fault) tell.fault(says, remedy);
  else if (share > FULL.warning) tell.warning(says, remedy);
  else tell.ok(says);
}

function rights(facts: NatsFacts, settings: Settings, tell: Tell): void {
  if (facts.stream === 'missing') tell.ok('there is no stream yet: the first node that starts makes it');
  if (facts.stream === 'forbidden')
    tell.warning(
      'this user may not look at the stream TWINS',
      'Allow it $JS.API.STREAM.INFO.TWINS: nodes ask for it at start.',
    );
  const urls = (settings.natsUrl as string).split(',');
  if (!facts.authRequired && !urls.every(isLoopback))
    tell.warning('NATS lets everybody in', 'Give it users with the permissions of deploy/nats/nats.conf, and TLS.');
  else if (facts.authRequired && facts.mayDelete === true)
    tell.warning('this user may delete streams', 'Give each role the permissions of deploy/nats/nats.conf.');
}

const mib = (bytes: number): string => (bytes < 0 ? 'without bound' : `${(bytes / MIB).toFixed(1)} MiB`);
const percent = (part: number, whole: number): string => `${Math.round((100 * part) / whole)} %`;
