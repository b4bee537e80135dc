/**
 * Flags for Node processes that live for seconds. The embedded database is WebAssembly, and optimising it costs a second of
 * a processor at every start: what is over so soon runs on the baseline compiler. Nothing else changes.
 */
export const SHORT_LIVED: readonly string[] = ['--liftoff-only'];

/** The same for a process started from here, where this one runs with them: a benchmark has the compiler that users have. */
export function inherited(): string[] {
  return process.execArgv.filter((flag) => SHORT_LIVED.includes(flag));
}
