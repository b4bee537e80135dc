import type { Tuning } from '../protocol/entry.ts';
import { DEFAULT_TUNING, type TwinState, tuningOf } from './state.ts';

/** The tuning in force for each kind, and whether a twin has yet to be told. */
export class Tunings {
  readonly #byKind = new Map<string, Tuning>();
  readonly #fallback: Tuning;

  constructor(latenessMs: number) {
    this.#fallback = latenessMs === DEFAULT_TUNING.latenessMs ? DEFAULT_TUNING : { version: 0, latenessMs, rules: {} };
  }

  of(kind: string): Tuning {
    return this.#byKind.get(kind) ?? this.#fallback;
  }

  set(kind: string, tuning: Tuning): void {
    this.#byKind.set(kind, Object.freeze({ ...tuning }));
  }

  /** True when the twin folds with other settings than those in force. A version seen before never comes back. */
  differs(state: TwinState): boolean {
    const now = this.of(state.kind.kind);
    const its = tuningOf(state);
    return (
      its !== now && (its.version < now.version || (its.version === now.version && its.latenessMs !== now.latenessMs))
    );
  }

  /** Lets restored twins share one object again where it says the same. */
  share(state: TwinState): void {
    const now = this.of(state.kind.kind);
    if (state.aside.tuning && JSON.stringify(state.aside.tuning) === JSON.stringify(now)) state.aside.tuning = now;
  }
}
