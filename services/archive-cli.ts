import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type CommandLine, EXIT, runCommand, tableText } from './command-line.ts';
import { asLocalAdmin, everyItem, type LocalAdmin } from './local-admin.ts';

/** `npm run archive`: what the cold archive holds, whether it still does, and archiving now. */
const HELP = `The cold archive: whole days of history as Parquet.

  npm run -s archive -- --list      its days, with files, readings and bytes
  npm run -s archive -- --now       archives what is due, and what came late, now
  npm run -s archive -- --verify    reads every file and compares it with what was written

Asks the server that runs on this data folder; where none does, it opens the database itself. Nodes archive by
themselves where ARCHIVE_AFTER_DAYS is set.
`;

interface FileItem {
  kind: string;
  day: string;
  rows: number;
  bytes: number;
  late: boolean;
}

async function list(admin: LocalAdmin): Promise<string> {
  const files = await everyItem<FileItem>(admin, { action: 'archive.list', path: '/api/v1/archive' });
  if (files.length === 0) return 'Nothing has been archived.';
  const days = [...Map.groupBy(files, ({ kind, day }) => `${day} ${kind}`).values()];
  const sum = (of: FileItem[], what: 'rows' | 'bytes') => of.reduce((all, file) => all + file[what], 0);
  const rows = days.map((day) => [
    day[0].day,
    day[0].kind,
    String(day.length),
    String(sum(day, 'rows')),
    (sum(day, 'bytes') / 1e6).toFixed(1),
    String(
      sum(
        day.filter(({ late }) => late),
        'rows',
      ),
    ),
  ]);
  return tableText(['day', 'kind', 'files', 'readings', 'MB', 'late'], rows);
}

async function now(admin: LocalAdmin): Promise<string> {
  for (;;) {
    const answer = await admin.call<Record<string, number> & { done: boolean; complete: boolean }>({
      action: 'archive.run',
      method: 'POST',
      path: '/api/v1/archive/run',
      params: {},
    });
    if (!answer.done) {
      process.stderr.write('it goes on …\n');
      continue;
    }
    const { rows, files, lateRows, expiredFiles } = answer;
    const rest = answer.complete ? '' : '\nAnother node is at it too: ask again.';
    return `${rows} readings in ${files} files, ${lateRows} of them came late; ${expiredFiles} files had expired.${rest}`;
  }
}

async function verify(admin: LocalAdmin): Promise<string> {
  const faults: string[] = [];
  let checked = 0;
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page: { checked: number; faults: string[]; nextCursor: string | null } = await admin.call({
      action: 'archive.verify',
      method: 'POST',
      path: '/api/v1/archive/verify',
      params: { limit: 100, ...(cursor === undefined ? {} : { cursor }) },
    });
    checked += page.checked;
    faults.push(...page.faults);
    cursor = page.nextCursor;
  }
  if (faults.length > 0)
    throw new TwinmeshError(
      'conflict',
      `${faults.length} of ${checked} files are not as they were written.\n  ${faults.join('\n  ')}`,
    );
  return `${checked} files are as they were written.`;
}

const VERBS = { list, now, verify };

export const archiveCommand: CommandLine = {
  help: HELP,
  verbs: {
    archive: {
      words: [],
      options: { list: { type: 'boolean' }, now: { type: 'boolean' }, verify: { type: 'boolean' } },
      async run(_words, options) {
        const chosen = (Object.keys(VERBS) as (keyof typeof VERBS)[]).filter((name) => options[name]);
        if (chosen.length !== 1)
          throw new TwinmeshError('bad_request', 'Say one of --list, --now, --verify; --help shows how.');
        return await asLocalAdmin(VERBS[chosen[0]], 'reads');
      },
    },
  },
};

if (import.meta.main) {
  const { text, code } = await runCommand(archiveCommand, ['archive', ...process.argv.slice(2)]);
  (code === EXIT.ok ? process.stdout : process.stderr).write(text.endsWith('\n') ? text : `${text}\n`);
  process.exitCode = code;
}
