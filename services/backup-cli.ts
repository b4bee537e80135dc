import { TwinmeshError } from '../actors/protocol/errors.ts';
import { backUp } from './backup/backup.ts';
import { type CommandLine, EXIT, runCommand } from './command-line.ts';
import { processSettings } from './config-file.ts';

/** `npm run backup -- --to FOLDER` */
const HELP = `Takes a backup into a folder of its own.

  npm run -s backup -- --to FOLDER

FOLDER must be new or empty. It gets the database as of one moment, every message of the log that was not committed by
then, and manifest.json, which comes last: a folder without it is no backup. Only you can read it.

With DATABASE_URL nodes go on meanwhile; pg_dump has to be installed, of the version of the server or newer. The role
has to be one that may read every table. With NATS_URL the user is that of a host.
The embedded database is copied from DATA_DIR; stop the node first.

Restore: npm run -s restore -- --help
`;

export const backupCommand: CommandLine = {
  help: HELP,
  verbs: {
    backup: {
      words: [],
      options: { to: { type: 'string' } },
      async run(_words, { to }) {
        if (typeof to !== 'string' || to === '')
          throw new TwinmeshError('bad_request', 'Say where: --to FOLDER; --help shows how.');
        const { takenAt, rows, log, files } = await backUp(processSettings(), to, (step) =>
          process.stderr.write(`${step} …\n`),
        );
        const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
        const messages = log === null ? '' : `, ${log.messages} messages of the log`;
        const skipped = log?.skipped ? `\n${log.skipped} messages without a usable id were left out.` : '';
        return `${to}: state of ${takenAt}, ${rows.twins ?? 0} twins${messages}, ${(bytes / 1e6).toFixed(1)} MB.${skipped}`;
      },
    },
  },
};

if (import.meta.main) {
  const { text, code } = await runCommand(backupCommand, ['backup', ...process.argv.slice(2)]);
  (code === EXIT.ok ? process.stdout : process.stderr).write(text.endsWith('\n') ? text : `${text}\n`);
  process.exitCode = code;
}
