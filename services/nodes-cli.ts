import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { EXIT, faultText, isMendable, tableText } from './command-line.ts';
import { processSettings } from './config-file.ts';
import { control, dataOf } from './control-client.ts';
import type { NodeItem } from './nodes/node-item.ts';

/** `npm run nodes`: who owns what, live; and how a node is emptied. */
const HELP = `Nodes of the mesh: what each does and owns.

  npm run -s nodes                    the table, anew every second on a terminal (Ctrl-C ends it)
  npm run -s nodes -- --once          the table once
  npm run -s nodes -- --drain NAME    the node gives up its shards, one after the other, and claims none
  npm run -s nodes -- --undrain NAME  it takes its share again

  --url URL   gateway to ask, e.g. http://localhost:8080, with a key in TWINMESH_KEY (viewer; admin to drain);
              left out, the gateway that runs on this data folder (DATA_DIR) is asked
  --json      the answer as JSON

Drained nodes still answer for their other roles. Stopping a node (SIGTERM) drains it by itself.
`;

type Ask = <Data>(method: string, path: string) => Promise<Data>;

async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      help: { type: 'boolean', short: 'h' },
      once: { type: 'boolean' },
      json: { type: 'boolean' },
      url: { type: 'string' },
      drain: { type: 'string' },
      undrain: { type: 'string' },
    },
  });
  if (values.help) return print(HELP);
  const ask = values.url === undefined ? overSocket() : overHttp(values.url, process.env.TWINMESH_KEY);
  for (const verb of ['drain', 'undrain'] as const) {
    const name = values[verb];
    if (name === undefined) continue;
    const started = performance.now();
    await ask('POST', `/api/v1/nodes/${encodeURIComponent(name)}/${verb}`);
    const done = verb === 'drain' ? 'has given up its shards' : 'takes its share again';
    return print(`${name} ${done} (${((performance.now() - started) / 1000).toFixed(1)} s).\n`);
  }
  const live = process.stdout.isTTY && !values.once && !values.json;
  let before: { at: number; readings: Map<string, number> } | null = null;
  for (;;) {
    const { items } = await ask<{ items: NodeItem[] }>('GET', '/api/v1/nodes');
    if (values.json) return print(`${JSON.stringify(items, null, 2)}\n`);
    const at = performance.now();
    const rates = before === null ? null : ratesOf(items, before, at);
    print(`${live ? '\x1b[H\x1b[2J' : ''}${table(items, rates)}\n`);
    if (!live) return;
    before = { at, readings: new Map(items.map(({ node, readings }) => [node, readings])) };
    await sleep(1_000);
  }
}

function ratesOf(
  items: NodeItem[],
  before: { at: number; readings: Map<string, number> },
  at: number,
): Map<string, number> {
  const seconds = (at - before.at) / 1000;
  return new Map(
    items.map(({ node, readings }) => [
      node,
      Math.max(0, readings - (before.readings.get(node) ?? readings)) / seconds,
    ]),
  );
}

function table(items: NodeItem[], rates: Map<string, number> | null): string {
  const total = items.reduce((sum, { shards }) => sum + shards, 0);
  const rows = items.map((item) => [
    item.node,
    item.state,
    item.roles.join(','),
    `${String(item.shards).padStart(4)} ${'█'.repeat(total === 0 ? 0 : Math.round((item.shards / total) * 20))}`,
    String(item.twins),
    rates === null ? '-' : String(Math.round(rates.get(item.node) ?? 0)),
    String(item.fenced),
    `${Math.round(item.uptimeMs / 1000)} s`,
    `${item.memoryMb} MB`,
  ]);
  return tableText(['node', 'state', 'roles', 'shards', 'twins', 'readings/s', 'fenced', 'up', 'memory'], rows);
}

function overSocket(): Ask {
  const client = control(processSettings());
  return (method, path) => client.request(method, path);
}

function overHttp(url: string, key: string | undefined): Ask {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
    throw new TwinmeshError('bad_request', '--url takes http:// or https:// and the gateway.');
  if (!key) throw new TwinmeshError('unauthenticated', 'Put a key into TWINMESH_KEY.');
  return async <Data>(method: string, path: string): Promise<Data> => {
    const response = await fetch(new URL(path, url), { method, headers: { Authorization: `Bearer ${key}` } }).catch(
      (error: unknown) => {
        throw new TwinmeshError('unavailable', `The gateway cannot be reached: ${messageOf(error)}.`);
      },
    );
    return dataOf<Data>(response.status, await response.text());
  };
}

function print(text: string): void {
  process.stdout.write(text);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const usage = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS');
  const fault = usage ? new TwinmeshError('bad_request', `${messageOf(error)} --help shows what there is.`) : error;
  process.stderr.write(`${faultText(fault)}\n`);
  process.exitCode = isMendable(fault) ? EXIT.faulty : EXIT.crashed;
}
