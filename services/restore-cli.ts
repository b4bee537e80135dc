import { TwinmeshError } from '../actors/protocol/errors.ts';
import { restore } from './backup/restoration.ts';
import { type CommandLine, EXIT, runCommand } from './command-line.ts';
import { processSettings } from './config-file.ts';

/** `npm run restore -- --from FOLDER` */
const HELP = `Puts a backup back, on a machine that has nothing yet.

  npm run -s restore -- --from FOLDER

The database of DATABASE_URL must be empty, and the log of NATS_URL as well; for a backup of an embedded database,
DATA_DIR must hold none. What is not empty is refused. Set SHARDS as it was. The sums of every file are checked first.

What a restore that failed has left is no database that nodes start on: drop database and stream, and restore again.
Rights of other roles are not restored: npm run -s migrate -- --grants deploy/postgres/grants.sql gives them.
`;

export const restoreCommand: CommandLine = {
  help: HELP,
  verbs: {
    restore: {
      words: [],
      options: { from: { type: 'string' } },
      async run(_words, { from }) {
        if (typeof from !== 'string' || from === '')
          throw new TwinmeshError('bad_request', 'Say which: --from FOLDER; --help shows how.');
        const { takenAt, rows, log } = await restore(processSettings(), from, (step) =>
          process.stderr.write(`${step} …\n`),
        );
        const messages = log === null ? '' : `, ${log.messages} messages in the log`;
        return `Restored the state of ${takenAt}: ${rows.twins ?? 0} twins${messages}. Nodes can be started.`;
      },
    },
  },
};

if (import.meta.main) {
  const { text, code } = await runCommand(restoreCommand, ['restore', ...process.argv.slice(2)]);
  (code === EXIT.ok ? process.stdout : process.stderr).write(text.endsWith('\n') ? text : `${text}\n`);
  process.exitCode = code;
}
