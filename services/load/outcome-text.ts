import type { Kind } from '../../actors/protocol/kind.ts';
import { type Counts, ratiosOf } from './found.ts';
import type { Outcome, Told } from './outcome.ts';

/** What twins made of a file, for people. */
export function outcomeText(outcome: Outcome, kind: Kind): string {
  const { twins, readings, labelled } = outcome;
  const lines = [`what ${counted(twins, 'twin')} made of ${counted(readings, 'reading')} of these times`];
  const width = Math.max(10, ...[...outcome.told.keys()].map((name) => name.length));
  const line = (what: string, said: string) => lines.push(`  ${what.padEnd(width)}  ${said}`);
  const told = [...outcome.told].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, each] of told) line(name, toldText(each, kind));
  if (told.length === 0) line('models', 'no answer: none was due, or there is no inference (GET /api/v1/models)');
  const events = Object.entries(outcome.events).sort(([a], [b]) => (a < b ? -1 : 1));
  line('events', events.length === 0 ? 'none' : events.map(([type, n]) => `${type} ${number(n)}`).join(', '));
  if (labelled > 0) {
    lines.push(`against ${counted(labelled, 'labelled reading')}`);
    line('detectors', foundText(outcome.detectors, `of ${counted(readings, 'reading')}`));
    const scored = told.filter(([, each]) => each.scored > 0);
    for (const [name, each] of scored) {
      const asked = `of ${number(each.scored)} that it was asked about, ${number(each.labelled)} of them labelled`;
      line(name, foundText(each.found, asked));
    }
    if (scored.length > 0) line('either', foundText(outcome.either, `of ${counted(readings, 'reading')}`));
  }
  if (outcome.incomplete.length > 0)
    lines.push(`  not counted: the journals of ${outcome.incomplete.join(', ')} have lost their beginning (retention)`);
  return lines.join('\n');
}

function toldText({ models, answers, scored, flagged, forecast, open }: Told, kind: Kind): string {
  const parts = [`${counted(answers, 'answer')} of ${models.join(', ')}`];
  if (scored > 0) parts.push(`${number(flagged)} above the threshold`);
  for (const [metric, { count, error, stays }] of Object.entries(forecast)) {
    const unit = kind.metrics[metric]?.unit ?? '';
    const off = `${(error / count).toPrecision(3)} ${unit}`.trim();
    parts.push(`${metric} off by ${off} on average (if it stayed as it was: ${(stays / count).toPrecision(3)})`);
  }
  if (open > 0) parts.push(`${number(open)} of times that no reading lies near`);
  return parts.join('; ');
}

function foundText(found: Counts, of: string): string {
  const { precision, recall, f1 } = ratiosOf(found);
  return `precision ${precision.toFixed(3)}  recall ${recall.toFixed(3)}  F1 ${f1.toFixed(3)}  ${of}`;
}

function counted(n: number, what: string): string {
  return `${number(n)} ${what}${n === 1 ? '' : 's'}`;
}

function number(n: number): string {
  return n.toLocaleString('en-US');
}
