import type { Audit } from '../audit.ts';
import type { TwinFacts } from '../history.ts';
import type { Ledger } from '../ledger.ts';

/** One promise, over the whole history of a run. */
export interface Checker {
  /** What the report counts, e.g. `lost`. */
  readonly name: string;
  /** Sentences, one a violation. */
  twin?(facts: TwinFacts, ledger: Ledger): string[];
  whole?(audit: Audit, ledger: Ledger): Promise<string[]>;
}
