import { resolve } from 'node:path';
import { Model } from '../models/model.ts';
import { type CommandLine, minuteOf, runProcess, tableText, type Verb } from './command-line.ts';
import { asLocalAdmin } from './local-admin.ts';
import type { ModelItem } from './models/model-item.ts';

/** `npm run models`: the register of models by hand. */
const HELP = `Models: what versions there are, which one answers, and how that is changed.

  npm run -s models -- list                      versions, status, where they are loaded, what was refused
  npm run -s models -- promote NAME VERSION      this version answers; the one before is retired
  npm run -s models -- rollback NAME             back to the version before the live one
  npm run -s models -- shadow NAME VERSION       it runs beside the live one and is only compared; none ends it
  npm run -s models -- check DIR                 loads a folder as a node would, without a server

  --reason TEXT   why, for the register (promote, rollback)

Before a change the nodes that run models try the version; where none of them can load it, nothing is changed. Where no such
node is there it is changed untried, and the answer says so. By itself the newest version of a name goes live where none of it
is, as on a fresh database; one that is found later is a candidate until it is promoted.

Works on the data folder (DATA_DIR or DATABASE_URL), through the server where one runs on it.
`;

interface Listed {
  items: ModelItem[];
  refused: { node: string; name: string; version: string; reason: string }[];
  inference: { nodes: string[]; down: { reason: string; since: string } | null };
}

interface Changed {
  items: ModelItem[];
  note: string | null;
}

const change = (name: string, verb: 'promote' | 'rollback' | 'shadow', params: object): Promise<Changed> =>
  asLocalAdmin((admin) =>
    admin.call({
      action: `models.${verb}`,
      method: 'POST',
      path: `/api/v1/models/${encodeURIComponent(name)}/${verb}`,
      params: { name, ...params },
    }),
  );

const REASON: Verb['options'] = { reason: { type: 'string' } };

export const modelsCommands: CommandLine = {
  help: HELP,
  verbs: {
    list: {
      words: [],
      async run() {
        const { items, refused, inference } = await asLocalAdmin(
          (admin) => admin.call<Listed>({ action: 'models.list', method: 'GET', path: '/api/v1/models', params: {} }),
          'reads',
        );
        const lines = [items.length === 0 ? 'No model is registered.' : table(items)];
        for (const { name, version, node, reason } of refused)
          lines.push(`${name}@${version} refused by ${node}: ${reason}`);
        lines.push(...refusals(items));
        if (inference.nodes.length === 0) lines.push('No node with the role inference is there.');
        if (inference.down)
          lines.push(`inference down since ${minuteOf(inference.down.since)}: ${inference.down.reason}`);
        return lines.join('\n');
      },
    },
    promote: {
      words: ['NAME', 'VERSION'],
      options: REASON,
      run: async ({ NAME, VERSION }, { reason }) =>
        changed(await change(NAME, 'promote', { version: VERSION, reason })),
    },
    rollback: {
      words: ['NAME'],
      options: REASON,
      run: async ({ NAME }, { reason }) => changed(await change(NAME, 'rollback', { reason })),
    },
    shadow: {
      words: ['NAME', 'VERSION'],
      run: async ({ NAME, VERSION }) =>
        changed(await change(NAME, 'shadow', { version: VERSION === 'none' ? null : VERSION })),
    },
    check: {
      words: ['DIR'],
      async run({ DIR }) {
        const model = await Model.load(resolve(DIR));
        const { card, bytes, id } = model;
        await model.retire();
        return `${id} is good: ${card.type}, ${card.inputs.length} inputs, ${bytes} bytes; it answers as its trainer said.`;
      },
    },
  },
};

/** What the register says now, and which nodes do not follow it. */
function changed({ items, note }: Changed): string {
  const wanted = items.filter(({ status }) => status === 'live' || status === 'shadow');
  return [table(items), ...refusals(wanted), ...(note ? [note] : [])].join('\n');
}

function refusals(items: readonly ModelItem[]): string[] {
  return items.flatMap(({ name, version, refused }) =>
    refused.map(({ node, reason }) => `${name}@${version} refused by ${node}: ${reason}`),
  );
}

function table(items: readonly ModelItem[]): string {
  return tableText(
    ['model', 'version', 'status', 'type', 'loaded on', 'since', 'replaced'],
    items.map((item) => [
      item.name,
      item.version,
      item.status,
      item.type,
      placesOf(item).join(', ') || '-',
      minuteOf(item.promotedAt),
      item.replaced ?? '-',
    ]),
  );
}

/** Of a version that nodes are to have loaded, also those that refuse it. */
function placesOf({ status, loaded, refused }: ModelItem): string[] {
  const places = loaded.map(({ node, as }) => (as === status ? node : `${node} (${as})`));
  if (status !== 'live' && status !== 'shadow') return places;
  return [...places, ...refused.map(({ node }) => `refused by ${node}`)];
}

if (import.meta.main) await runProcess(modelsCommands);
