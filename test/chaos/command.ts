import { spawnSync } from 'node:child_process';

/** Runs a program of the system and answers what it printed. Throws with what it said. */
export function command(program: string, ...args: string[]): string {
  const done = spawnSync(program, args, { encoding: 'utf8', timeout: 20_000 });
  if (done.status !== 0)
    throw new Error(`${program} ${args.join(' ')}: ${(done.stderr || String(done.error ?? done.signal)).trim()}`);
  return done.stdout;
}
