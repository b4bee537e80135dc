import { existsSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';

/**
 * Reads the result files of the test runner for `.ci/run`: which files to run once more, what failed, and the last line,
 * "N passed, N failed". A file that does not load, an unhandled error or coverage under its threshold fails the run without
 * failing a test: it counts as one failure, so that the line never says less than the exit code.
 */
interface Assertion {
  status: string;
  fullName: string;
  failureMessages: string[];
}

interface File {
  name: string;
  status: string;
  message: string;
  assertionResults: Assertion[];
}

interface Result {
  numPassedTests: number;
  numFailedTests: number;
  testResults: File[];
}

function read(path: string): Result | null {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Result) : null;
}

function failedOf(result: Result | null): File[] {
  return (result?.testResults ?? []).filter(({ status }) => status === 'failed');
}

/** Failures of a file: its failed tests, or itself where it did not load. */
function count(file: File): number {
  return Math.max(1, file.assertionResults.filter(({ status }) => status === 'failed').length);
}

function tell(files: readonly File[]): void {
  for (const { name, message, assertionResults } of files) {
    const failed = assertionResults.filter(({ status }) => status === 'failed');
    if (failed.length === 0) console.log(`FAILED ${relative('.', name)}: ${message.slice(0, 600)}`);
    for (const { fullName, failureMessages } of failed)
      console.log(`FAILED ${relative('.', name)} › ${fullName}\n  ${(failureMessages[0] ?? '').slice(0, 600)}`);
  }
}

function verdict(first: Result | null, again: Result | null, status: string, chaos: string): number {
  const stillFailed = failedOf(again);
  const names = new Set(stillFailed.map(({ name }) => name));
  const ran = new Set((again?.testResults ?? []).map(({ name }) => name));
  const lost = failedOf(first).filter(({ name }) => !ran.has(name) || names.has(name));
  const mended = failedOf(first).filter((file) => !lost.includes(file));
  let failed = lost.reduce((sum, file) => sum + count(file), 0);
  const passed =
    (first?.numPassedTests ?? 0) + mended.reduce((sum, file) => sum + count(file), 0) + (chaos === '0' ? 1 : 0);
  if (chaos !== '0') failed++;
  if (failed === 0 && (passed === 0 || (status !== '0' && mended.length === 0))) failed = 1;
  for (const { name } of mended) console.log(`passed only by itself: ${relative('.', name)}`);
  tell(mended.length > 0 || stillFailed.length === 0 ? lost : stillFailed);
  if (chaos !== '0') console.log('FAILED npm run chaos -- --quick');
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

const [what, ...files] = process.argv.slice(2);
if (what === 'files') for (const { name } of failedOf(read(files[0]))) console.log(name);
else if (what === 'tell') tell(failedOf(read(files[0])));
else if (what === 'verdict') process.exitCode = verdict(read(files[0]), read(files[1]), files[2], files[3]);
else throw new Error(`files, tell or verdict, not ${what}`);
