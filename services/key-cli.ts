import { type CommandLine, minuteOf, runProcess, tableText } from './command-line.ts';
import { asLocalAdmin, everyItem } from './local-admin.ts';

/** `npm run -s key`: keys of people and programs. */
interface KeyItem {
  id: string;
  name: string;
  role: string;
  createdAt: string | Date;
  lastUsedAt: string | Date | null;
  revokedAt: string | Date | null;
}

const HELP = `Keys of people and programs.

  npm run -s key -- add NAME --role ROLE    makes a key and shows it once
  npm run -s key -- list                    every key: id, role, name, last used, revoked
  npm run -s key -- revoke ID               ends a key at once

ROLE  viewer      reads
      technician  also acknowledges and records maintenance
      operator    also commands
      admin       also manages keys, devices and replays

A lost key cannot be shown again: revoke it and add another. Devices: npm run -s device -- --help
Works on the data folder (DATA_DIR or DATABASE_URL), through the server where one runs on it.
`;

export const keyCommands: CommandLine = {
  help: HELP,
  verbs: {
    add: {
      words: ['NAME'],
      options: { role: { type: 'string' } },
      async run({ NAME }, { role }) {
        const request = { action: 'keys.create', method: 'POST', path: '/api/v1/keys' } as const;
        const made = await asLocalAdmin((admin) =>
          admin.call<{ id: string; role: string; key: string }>({ ...request, params: { name: NAME, role } }),
        );
        return `${made.key}\n\n${made.role}, id ${made.id}. Shown this once; revoke with: npm run -s key -- revoke ${made.id}`;
      },
    },
    list: {
      words: [],
      async run() {
        const keys = await asLocalAdmin(
          (admin) => everyItem<KeyItem>(admin, { action: 'keys.list', path: '/api/v1/keys' }),
          'reads',
        );
        const rows = keys.map((k) => [k.id, k.role, k.name, minuteOf(k.lastUsedAt), minuteOf(k.revokedAt)]);
        return tableText(['id', 'role', 'name', 'last used', 'revoked'], rows);
      },
    },
    revoke: {
      words: ['ID'],
      async run({ ID }) {
        const path = `/api/v1/keys/${encodeURIComponent(ID)}`;
        const { revoked } = await asLocalAdmin((admin) =>
          admin.call<{ revoked: string[] }>({ action: 'keys.revoke', method: 'DELETE', path, params: { id: ID } }),
        );
        return `revoked ${revoked.join(', ')}`;
      },
    },
  },
};

if (import.meta.main) await runProcess(keyCommands);
