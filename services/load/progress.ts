import { sumOf, type Totals } from './totals.ts';

/** One line that tells how far it is: on a terminal it is overwritten, elsewhere written now and then. */
export interface ProgressState {
  title: string;
  sizeBytes: number;
  bytesRead(): number;
  totals: Totals;
  /** Lines that had been loaded before this run. */
  linesBefore: number;
  waiting(): string | null;
}

const EVERY_MS = { terminal: 500, elsewhere: 10_000 };

export class Progress {
  readonly #out: { write(text: string): unknown; isTTY?: boolean; columns?: number };
  readonly #state: ProgressState;
  readonly #startedAt = performance.now();
  readonly #timer: NodeJS.Timeout;
  #shown = false;

  constructor(out: { write(text: string): unknown; isTTY?: boolean; columns?: number }, state: ProgressState) {
    this.#out = out;
    this.#state = state;
    this.#timer = setInterval(() => this.#show(), out.isTTY ? EVERY_MS.terminal : EVERY_MS.elsewhere);
    this.#timer.unref();
  }

  get elapsedSeconds(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#shown && this.#out.isTTY) this.#out.write('\r\u001b[K');
  }

  #show(): void {
    const line = progressText(this.#state, this.elapsedSeconds);
    this.#shown = true;
    if (this.#out.isTTY) this.#out.write(`\r\u001b[K${line.slice(0, (this.#out.columns ?? 100) - 1)}`);
    else this.#out.write(`${line}\n`);
  }
}

export function progressText(state: ProgressState, elapsedSeconds: number): string {
  const { totals, sizeBytes } = state;
  const share = sizeBytes > 0 ? Math.min(1, state.bytesRead() / sizeBytes) : 1;
  const lines = totals.lines - state.linesBefore;
  const rate = elapsedSeconds > 0 ? lines / elapsedSeconds : 0;
  const left = share > 0 && share < 1 && lines > 0 ? (elapsedSeconds / share) * (1 - share) : null;
  const faults = sumOf(totals.rejected) + sumOf(totals.skipped);
  const parts = [
    state.title,
    `${Math.floor(share * 100)} %`,
    `${totals.lines.toLocaleString('en-US')} lines`,
    `${Math.round(rate).toLocaleString('en-US')}/s`,
  ];
  if (left !== null) parts.push(`${clockText(left)} left`);
  if (faults > 0) parts.push(`${faults.toLocaleString('en-US')} refused or skipped`);
  const waiting = state.waiting();
  if (waiting !== null) parts.push(`waiting: ${waiting}`);
  return parts.join('  ');
}

function clockText(seconds: number): string {
  const s = Math.ceil(seconds);
  const two = (n: number) => String(n).padStart(2, '0');
  return s >= 3600
    ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`
    : `${Math.floor(s / 60)}:${two(s % 60)}`;
}
