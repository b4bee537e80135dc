import { parseArgs } from 'node:util';
import { ERRORS, messageOf } from '../actors/protocol/errors.ts';
import { type Settings, SettingsError } from '../config/settings.ts';
import { EXIT, faultText } from './command-line.ts';
import { processSettings } from './config-file.ts';
import type { Finding } from './doctor/check.ts';
import { examine, PARTS } from './doctor/examination.ts';

/** `npm run -s doctor`: looks at each configured part and says what is wrong and what to do. */
const HELP = `Looks at every configured part, says what is wrong and what to do. It changes nothing, and may run beside a node;
in S3 it writes a small object of its own and takes it away again.

  npm run -s doctor                    all parts
  npm run -s doctor -- nats database   only these: ${PARTS.map((part) => (part.includes(' ') ? `"${part}"` : part)).join(' ')}
  npm run -s doctor -- --json          one JSON object: { worst, findings: [{ part, level, says, remedy }] }
  npm run -s doctor -- --strict        warnings count as well

Settings are those of npm start: the environment, twinmesh.config.json. Takes half of TTL_MS where there is a PostgreSQL, to see whose
beat moves. Exit code: 0 no fault; 1 warnings, with --strict; 2 a fault.
`;

export interface Told {
  text: string;
  code: number;
}

/** Throws nothing. */
export async function doctor(args: readonly string[], read: () => Settings = processSettings): Promise<Told> {
  let options: { json: boolean; strict: boolean; only: string[] };
  try {
    options = optionsOf(args);
  } catch (error) {
    return { text: `bad_request\n  ${messageOf(error)}\n  --help shows what there is.\n`, code: EXIT.faulty };
  }
  if (args.includes('--help') || args.includes('-h')) return { text: HELP, code: EXIT.ok };
  let findings: Finding[];
  try {
    const settings = read();
    const names = settings.notices.map((says): Finding => {
      return { part: 'settings', level: 'warning', says, remedy: 'Unset it, or read docs/operations.md.' };
    });
    const good: Finding[] = names.length > 0 ? names : [{ part: 'settings', level: 'ok', says: 'can be read' }];
    findings = [...(options.only.length === 0 ? good : []), ...(await examine(settings, options.only))];
  } catch (error) {
    if (!(error instanceof SettingsError)) return { text: faultText(error), code: EXIT.faulty };
    findings = error.faults.map((says) => {
      return { part: 'settings', level: 'fault', says, remedy: ERRORS.bad_settings.remedy };
    });
  }
  const { json, strict } = options;
  const worst = worstOf(findings);
  return {
    text: json ? `${JSON.stringify({ worst, findings }, null, 2)}\n` : tableOf(findings, worst),
    code: worst === 'fault' ? 2 : worst === 'warning' && strict ? 1 : 0,
  };
}

function optionsOf(args: readonly string[]) {
  const flag = { type: 'boolean', default: false } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { json: flag, strict: flag, help: { ...flag, short: 'h' } },
    allowPositionals: true,
  });
  for (const name of positionals)
    if (!(PARTS as readonly string[]).includes(name))
      throw new Error(`There is no part "${name}"; there is ${PARTS.join(', ')}.`);
  return { json: values.json, strict: values.strict, only: positionals };
}

function worstOf(findings: readonly Finding[]): Finding['level'] {
  if (findings.some(({ level }) => level === 'fault')) return 'fault';
  return findings.some(({ level }) => level === 'warning') ? 'warning' : 'ok';
}

/** A line a finding; its remedy stands behind an arrow. */
function tableOf(findings: readonly Finding[], worst: Finding['level']): string {
  const width = Math.max(...findings.map(({ part }) => part.length));
  const lines = findings.map(({ part, level, says, remedy }) =>
    `${level.padEnd(7)}  ${part.padEnd(width)}  ${oneLine(says)}${remedy === undefined ? '' : `  → ${oneLine(remedy)}`}`.trimEnd(),
  );
  const faults = findings.filter(({ level }) => level === 'fault').length;
  const warnings = findings.filter(({ level }) => level === 'warning').length;
  const end = worst === 'ok' ? 'Everything is well.' : `${faults} faults, ${warnings} warnings.`;
  return `${lines.join('\n')}\n\n${end}\n`;
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ');
}

if (import.meta.main) {
  const { text, code } = await doctor(process.argv.slice(2));
  process.stdout.write(text);
  // A client library may still hold a socket that it is closing.
  process.exit(code);
}
