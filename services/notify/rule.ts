import type { Severity } from '../../actors/protocol/entry.ts';
import type { Notice } from './notice.ts';
import type { QuietHours } from './quiet-hours.ts';

/** Who is told of what. A condition that is left out takes everything. Times in ms. */
export interface NotifyRule {
  name: string;
  /** `alert.raised`, or the part before the dot. */
  events: readonly string[];
  kinds: readonly string[] | null;
  severities: readonly Severity[] | null;
  /** Twin ids with `*` and `?`; what is of no twin is not of such a rule. */
  twins: readonly string[] | null;
  /** New healths: for `health.changed` alone. */
  health: readonly string[] | null;
  receivers: readonly string[];
  /** For so long nothing more of the same twin (or model), unless it is worse. */
  cooldownMs: number;
  escalate: readonly { afterMs: number; receivers: readonly string[] }[];
  quiet: QuietHours | null;
  /** Above so many within so long, the rest is told in one summary. */
  group: { above: number; withinMs: number } | null;
  /** Whether those who were told also hear of acknowledgement and end. */
  followUps: boolean;
}

export function isOfRule(rule: NotifyRule, notice: Notice): boolean {
  return (
    (rule.events.includes(notice.type) || rule.events.includes(notice.type.slice(0, notice.type.indexOf('.')))) &&
    (rule.kinds === null || rule.kinds.includes(notice.kind)) &&
    (rule.severities === null || rule.severities.includes(notice.severity)) &&
    (rule.health === null || notice.health === null || rule.health.includes(notice.health)) &&
    (rule.twins === null || rule.twins.some((glob) => notice.twinId !== null && matchesGlob(glob, notice.twinId)))
  );
}

/** `*` any characters, `?` one. Goes back to the last star alone: at most the product of both lengths in steps. */
export function matchesGlob(glob: string, text: string): boolean {
  let g = 0;
  let t = 0;
  let star = -1;
  let from = 0;
  while (t < text.length) {
    if (g < glob.length && glob[g] === '*') {
      star = g++;
      from = t;
    } else if (g < glob.length && (glob[g] === '?' || glob[g] === text[t])) {
      g++;
      t++;
    } else if (star >= 0) {
      g = star + 1;
      t = ++from;
    } else return false;
  }
  while (g < glob.length && glob[g] === '*') g++;
  return g === glob.length;
}
