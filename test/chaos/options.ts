import { parseArgs } from 'node:util';
import type { ServerName } from './servers.ts';

export const HELP = `Runs a mesh of real processes on real servers, breaks it again and again, and checks the whole history.

  npm run chaos -- --minutes 10                  everything that can be done on this machine
  npm run chaos -- --quick                       the profile of the check of every change: ten minutes in all
  npm run chaos -- --faults kill:host,SIGSTOP    only these, by name, name:target or target
  npm run chaos -- --list                        what there is

  --minutes N        how long faults go on (default 10)      --seed N     chooses faults, victims and times (default: the clock)
  --nodes N          twin hosts (default 3); 0: one node      --every S    seconds from the end of a fault to the next at most (2)
                     alone, with the log in its memory         --rate N     readings a second (2000)
  --servers A,B      beside PostgreSQL and Mosquitto          --assets N   assets that send (240)
                     (default: nats; also redis, kafka)       --shards N   shards (24)
  --ack log|commit   when a source is told (log)              --ttl MS     time without a beat until a node is dead (2000)
  --without-fence    takes the fence out of every node: the checkers have to find it
  --record           writes the table into docs/RELIABILITY.md
  --keep             leaves the folder with logs and acknowledgements

Exit code 0: every promise held. 1: one was broken, or a fault could not be done. 2: wrong arguments.
`;

export interface ChaosOptions {
  minutes: number;
  nodes: number;
  faults: string[];
  servers: Set<ServerName>;
  seed: number;
  everyMs: number;
  rate: number;
  assets: number;
  shards: number;
  ack: 'log' | 'commit';
  ttlMs: number;
  withoutFence: boolean;
  record: boolean;
  keep: boolean;
  /** As they were given, for the report. */
  line: string;
}

const OPTIONAL: readonly ServerName[] = ['nats', 'redis', 'kafka'];

/** Throws a sentence on what is wrong; 'help' and 'list' ask for text. */
export function readOptions(args: string[]): ChaosOptions | 'help' | 'list' {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: 'string' },
      nodes: { type: 'string', default: '3' },
      faults: { type: 'string', default: '' },
      servers: { type: 'string' },
      seed: { type: 'string' },
      every: { type: 'string', default: '2' },
      rate: { type: 'string', default: '2000' },
      assets: { type: 'string', default: '240' },
      shards: { type: 'string', default: '24' },
      ack: { type: 'string', default: 'log' },
      ttl: { type: 'string', default: '2000' },
      quick: { type: 'boolean', default: false },
      'without-fence': { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.list) return 'list';
  const number = (name: string, text: string, min: number, max: number): number => {
    const value = Number(text);
    if (!Number.isFinite(value) || value < min || value > max)
      throw new Error(`--${name} is a number from ${min} to ${max}, not ${text}.`);
    return value;
  };
  const nodes = Math.trunc(number('nodes', values.nodes, 0, 20));
  const servers = new Set<ServerName>();
  for (const name of (values.servers ?? (nodes > 0 ? 'nats' : '')).split(',').filter(Boolean)) {
    if (!OPTIONAL.includes(name as ServerName)) throw new Error(`--servers takes ${OPTIONAL.join(', ')}, not ${name}.`);
    servers.add(name as ServerName);
  }
  if (nodes > 0) servers.add('nats');
  if (values.ack !== 'log' && values.ack !== 'commit') throw new Error('--ack is log or commit.');
  return {
    // Starting, settling and checking take the rest of the ten.
    minutes: number('minutes', values.minutes ?? (values.quick ? '7.5' : '10'), 0.1, 10_000),
    nodes,
    faults: values.faults
      .split(',')
      .map((name) => name.trim())
      .filter(Boolean),
    servers,
    seed: Math.trunc(number('seed', values.seed ?? `${Date.now() % 2 ** 31}`, 0, 2 ** 32)),
    everyMs: number('every', values.every, 0, 3_600) * 1_000,
    rate: number('rate', values.rate, 1, 1e6),
    assets: number('assets', values.assets, 1, 100_000),
    shards: number('shards', values.shards, 1, 4_096),
    ack: values.ack,
    ttlMs: number('ttl', values.ttl, 1_000, 600_000),
    withoutFence: values['without-fence'],
    record: values.record,
    keep: values.keep,
    line: args.filter((arg) => arg !== '--record' && arg !== '--keep').join(' '),
  };
}
