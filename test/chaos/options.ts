import { parseArgs } from 'node:util';
import type { ServerName } from './servers.ts';

export const HELP = `Runs a mesh of real processes on real servers, breaks it again and again, and checks the whole history.

  npm run chaos                                  ten minutes of everything that can be done on this machine
  npm run chaos -- --quick                       each fault once and no more, for the check of every change
  npm run chaos -- --profile million --record    a million acknowledged readings and a hundred faults at least
  npm run chaos -- --faults kill:host,SIGSTOP    only these, by name, name:target or target
  npm run chaos -- --list                        what there is

  --minutes N        how long faults go on (default 10)      --seed N     chooses faults, victims and times (default: the clock)
  --readings N       not before N are acknowledged ...        --every S    seconds from the end of a fault to the next at most (2)
  --least N          ... and N faults done, --minutes at most --rate N     readings a second (2000)
  --nodes N          twin hosts (default 3); 0: one node      --assets N   assets that send (240)
                     alone, with the log in its memory         --shards N   shards (24)
  --servers A,B      beside PostgreSQL and Mosquitto          --ttl MS     time without a beat until a node is dead (2000)
                     (default: nats; also redis, kafka)       --ack log|commit   when a source is told (log)
  --without-fence    takes the fence out of every node: the checkers have to find it, and it ends when they have
  --relays           no network namespaces and frozen disks, though they could be had
  --record           writes the table into docs/RELIABILITY.md
  --keep             leaves the folder with logs and acknowledgements

Exit code 0: every promise held. 1: one was broken, a fault could not be done, or a goal was not reached. 2: wrong arguments.
`;

export interface ChaosOptions {
  /** Faults end then at the latest. */
  minutes: number;
  /** Faults end earlier once so many readings are acknowledged and so many faults done; null: they do not. */
  goal: { readings: number; faults: number } | null;
  /** Each fault once, and no more. */
  onceEach: boolean;
  nodes: number;
  faults: string[];
  servers: Set<ServerName>;
  /** Further ones, where this machine has them. */
  welcome: Set<ServerName>;
  seed: number;
  everyMs: number;
  rate: number;
  assets: number;
  shards: number;
  ack: 'log' | 'commit';
  ttlMs: number;
  withoutFence: boolean;
  relays: boolean;
  record: boolean;
  keep: boolean;
  /** As they were given, for the report. */
  line: string;
}

const OPTIONAL: readonly ServerName[] = ['nats', 'redis', 'kafka'];
/** What a profile says where the command line does not. */
const USUAL = { minutes: '10', every: '2', rate: '2000', assets: '240', shards: '24', ttl: '2000', faults: '' };
const PROFILES: Record<string, Partial<typeof USUAL> & { readings?: string; least?: string; seed?: string }> = {
  usual: {},
  // Counted from the very start; settling and judging take the rest of nine and a half.
  quick: { minutes: '8', every: '0.3', rate: '400', seed: '1' },
  million: { minutes: '14', every: '1', rate: '1800', assets: '480', readings: '1000000', least: '100' },
  // Writers who wake up, and commits that arrive, after others have taken over.
  'without-fence': {
    rate: '600',
    shards: '48',
    every: '0.3',
    minutes: '1.5',
    faults: 'SIGSTOP:host,partition (what it sends):host,partition (both):host',
  },
};

/** Throws a sentence on what is wrong; 'help' and 'list' ask for text. */
export function readOptions(args: string[]): ChaosOptions | 'help' | 'list' {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: 'string' },
      readings: { type: 'string' },
      least: { type: 'string' },
      profile: { type: 'string' },
      nodes: { type: 'string', default: '3' },
      faults: { type: 'string' },
      servers: { type: 'string' },
      seed: { type: 'string' },
      every: { type: 'string' },
      rate: { type: 'string' },
      assets: { type: 'string' },
      shards: { type: 'string' },
      ack: { type: 'string', default: 'log' },
      ttl: { type: 'string' },
      quick: { type: 'boolean', default: false },
      'without-fence': { type: 'boolean', default: false },
      relays: { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.list) return 'list';
  const profile = values.profile ?? (values.quick ? 'quick' : values['without-fence'] ? 'without-fence' : 'usual');
  const said = PROFILES[profile];
  if (!said) throw new Error(`--profile is one of ${Object.keys(PROFILES).join(', ')}, not ${profile}.`);
  const number = (name: keyof typeof USUAL, min: number, max: number): number =>
    numberOf(name, values[name] ?? said[name] ?? USUAL[name], min, max);
  const nodes = Math.trunc(numberOf('nodes', values.nodes, 0, 20));
  const servers = new Set<ServerName>();
  for (const name of (values.servers ?? '').split(',').filter(Boolean)) {
    if (!OPTIONAL.includes(name as ServerName)) throw new Error(`--servers takes ${OPTIONAL.join(', ')}, not ${name}.`);
    servers.add(name as ServerName);
  }
  if (nodes > 0) servers.add('nats');
  if (values.ack !== 'log' && values.ack !== 'commit') throw new Error('--ack is log or commit.');
  const readings = values.readings ?? said.readings;
  const least = values.least ?? said.least;
  return {
    minutes: number('minutes', 0.1, 10_000),
    goal:
      readings === undefined && least === undefined
        ? null
        : { readings: numberOf('readings', readings ?? '0', 0, 1e9), faults: numberOf('least', least ?? '0', 0, 1e6) },
    onceEach: profile === 'quick',
    nodes,
    faults: (values.faults ?? said.faults ?? USUAL.faults)
      .split(',')
      .map((name) => name.trim())
      .filter(Boolean),
    servers,
    welcome: new Set(profile === 'quick' && values.servers === undefined ? ['redis', 'kafka'] : []),
    seed: Math.trunc(numberOf('seed', values.seed ?? said.seed ?? `${Date.now() % 2 ** 31}`, 0, 2 ** 32)),
    everyMs: number('every', 0, 3_600) * 1_000,
    rate: number('rate', 1, 1e6),
    assets: number('assets', 1, 100_000),
    shards: number('shards', 1, 4_096),
    ack: values.ack,
    ttlMs: number('ttl', 1_000, 600_000),
    withoutFence: values['without-fence'],
    relays: values.relays,
    record: values.record,
    keep: values.keep,
    line: args.filter((arg) => arg !== '--record' && arg !== '--keep').join(' '),
  };
}

function numberOf(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < min || value > max)
    throw new Error(`--${name} is a number from ${min} to ${max}, not ${text}.`);
  return value;
}
