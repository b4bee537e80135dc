/** So long what is on its way may take after Ctrl-C. */
const PATIENCE_MS = 10_000;

/** A signal that aborts on the first Ctrl-C (or SIGTERM). The second one, or too long a wait, ends the process at once. */
export function interruption(exitCode: number): AbortSignal {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(exitCode);
    process.stderr.write('\nstopping; once more ends at once\n');
    controller.abort();
    setTimeout(() => process.exit(exitCode), PATIENCE_MS).unref();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller.signal;
}
