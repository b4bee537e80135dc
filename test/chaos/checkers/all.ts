import { messageOf } from '../../../actors/protocol/errors.ts';
import type { TwinView } from '../../../actors/protocol/view.ts';
import type { Audit } from '../audit.ts';
import { readTwin, type TwinFacts } from '../history.ts';
import type { Ledger } from '../ledger.ts';
import type { Checker } from './checker.ts';
import { events } from './events.ts';
import { nothingLost } from './nothing-lost.ts';
import { nothingTwice } from './nothing-twice.ts';
import { oneWriter } from './one-writer.ts';
import { order } from './order.ts';
import { predictions } from './predictions.ts';
import { replay } from './replay.ts';
import { rolling } from './rolling.ts';

export const CHECKERS: readonly Checker[] = [
  nothingLost,
  nothingTwice,
  order,
  oneWriter,
  rolling,
  events,
  replay,
  predictions,
];

export interface Verdict {
  name: string;
  violations: number;
  /** The first of them. */
  examples: string[];
}

const EXAMPLES = 5;

/** Reads the history of every twin once and lets all checkers look at it. */
export async function judge(
  audit: Audit,
  ledger: Ledger,
  views: ReadonlyMap<string, TwinView[]>,
  tell: (violation: string) => void,
): Promise<{ verdicts: Verdict[]; stored: number; events: number }> {
  const verdicts = new Map(CHECKERS.map(({ name }) => [name, { name, violations: 0, examples: [] as string[] }]));
  const note = (name: string, faults: readonly string[]): void => {
    const verdict = verdicts.get(name)!;
    verdict.violations += faults.length;
    for (const fault of faults) tell(`${name}: ${fault}`);
    for (const fault of faults) if (verdict.examples.length < EXAMPLES) verdict.examples.push(fault);
  };
  let stored = 0;
  let told = 0;
  for (const asset of ledger.assets) {
    const facts = await readTwin(audit, asset, views.get(asset.twinId) ?? []);
    stored += facts.rows.length;
    told += facts.events.length;
    for (const checker of CHECKERS) note(checker.name, judged(checker, facts, ledger));
  }
  for (const checker of CHECKERS) if (checker.whole) note(checker.name, await checker.whole(audit, ledger));
  return { verdicts: [...verdicts.values()], stored, events: told };
}

/** A journal that the product's own fold refuses is a violation and not the end of the judgement. */
function judged(checker: Checker, facts: TwinFacts, ledger: Ledger): string[] {
  try {
    return checker.twin?.(facts, ledger) ?? [];
  } catch (error) {
    return [`${facts.asset.twinId}: ${messageOf(error)}`];
  }
}
