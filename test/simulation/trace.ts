/** What a run leaves behind: a hash over everything that happened, and the first promise that was broken. */
export class Trace {
  readonly #print: ((line: string) => void) | null;
  readonly #time: () => number;
  #low = 0x811c9dc5;
  #high = 0x1b873593;
  /** The first promise that was broken; the run ends with it. */
  broken: Broken | null = null;
  lines = 0;

  constructor(time: () => number, print: ((line: string) => void) | null) {
    this.#time = time;
    this.#print = print;
  }

  /** Something happened. */
  note(who: string, what: string): void {
    this.lines++;
    const line = `${this.#time().toFixed(3)} ${who} ${what}`;
    for (let i = 0; i < line.length; i++) {
      this.#low = Math.imul(this.#low ^ line.charCodeAt(i), 0x01000193);
      this.#high = Math.imul(this.#high ^ line.charCodeAt(i), 0x85ebca6b) + i;
    }
    this.#print?.(line);
  }

  fail(checker: string, message: string): void {
    if (this.broken !== null) return;
    this.broken = { checker, message, time: this.#time() };
    this.note(checker, `BROKEN ${message}`);
  }

  get hash(): string {
    return (this.#low >>> 0).toString(16).padStart(8, '0') + (this.#high >>> 0).toString(16).padStart(8, '0');
  }
}

export interface Broken {
  checker: string;
  message: string;
  /** Simulated ms. */
  time: number;
}
