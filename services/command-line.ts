import { parseArgs } from 'node:util';
import { ERRORS, messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { SettingsError } from '../config/settings.ts';

/** What the command lines share: verbs with options, `--help`, faults as code, sentence and remedy, exit codes 0, 1, 2. */
export interface Verb {
  /** Words after the verb, by name: `['NAME']`. */
  words: readonly string[];
  options?: Record<string, { type: 'string' | 'boolean' }>;
  run(words: Record<string, string>, options: Record<string, string | boolean | undefined>): Promise<string>;
}

export interface CommandLine {
  help: string;
  verbs: Record<string, Verb>;
}

export const EXIT = { ok: 0, crashed: 1, faulty: 2 } as const;

/** Runs one command; answers what to print and the exit code. Throws nothing. */
export async function runCommand(line: CommandLine, args: readonly string[]): Promise<{ text: string; code: number }> {
  try {
    const [name, ...rest] = args;
    if (name === undefined || name === 'help' || args.includes('--help') || args.includes('-h')) {
      return { text: line.help, code: name === undefined ? EXIT.faulty : EXIT.ok };
    }
    const verb = Object.hasOwn(line.verbs, name) ? line.verbs[name] : undefined;
    if (!verb)
      throw new TwinmeshError('bad_request', `There is no "${name}"; there is ${Object.keys(line.verbs).join(', ')}.`);
    const { values, positionals } = parsed(verb, rest);
    if (positionals.length !== verb.words.length) {
      throw new TwinmeshError(
        'bad_request',
        `"${name}" takes ${verb.words.join(' ') || 'nothing more'}; --help shows how.`,
      );
    }
    const words = Object.fromEntries(verb.words.map((word, i) => [word, positionals[i]]));
    return { text: await verb.run(words, values), code: EXIT.ok };
  } catch (error) {
    return { text: faultText(error), code: isMendable(error) ? EXIT.faulty : EXIT.crashed };
  }
}

/** Runs the process' own command and sets its exit code. */
export async function runProcess(line: CommandLine): Promise<void> {
  const { text, code } = await runCommand(line, process.argv.slice(2));
  (code === EXIT.ok ? process.stdout : process.stderr).write(text.endsWith('\n') ? text : `${text}\n`);
  process.exitCode = code;
}

function parsed(verb: Verb, args: string[]) {
  try {
    return parseArgs({ args, options: verb.options ?? {}, allowPositionals: true, strict: true });
  } catch (error) {
    throw new TwinmeshError('bad_request', `${messageOf(error).split('.')[0]}; --help shows what there is.`);
  }
}

/** Whether whoever runs the command can do something about it. */
export function isMendable(error: unknown): boolean {
  return error instanceof SettingsError || (error instanceof TwinmeshError && error.code !== 'internal');
}

/** Code, sentences and remedy of what went wrong; the stack where it is a fault of ours. */
export function faultText(error: unknown): string {
  if (!isMendable(error)) return error instanceof Error ? `${error.stack ?? error.message}` : messageOf(error);
  const { code } = error as SettingsError | TwinmeshError;
  const sentences = error instanceof SettingsError ? error.faults : [messageOf(error)];
  return [code, ...sentences.map((sentence) => `  ${sentence}`), `  ${ERRORS[code].remedy}`].join('\n');
}

/** Rows under their titles, as wide as their widest cell. */
export function tableText(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  return [titles, ...rows]
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `2026-01-01T12:00` in UTC, `-` for never. */
export function minuteOf(time: string | Date | null): string {
  return time === null ? '-' : new Date(time).toISOString().slice(0, 16);
}
