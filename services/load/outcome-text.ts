import type { Kind } from '../../actors/protocol/kind.ts';
import { type Counts, ratiosOf } from './found.ts';
import type { Labels } from './labels.ts';
import type { Outcome, Told } from './outcome.ts';

/** So many of the moments at which a model was due make a fair picture of it. */
const ASKED_WELL = 0.9;

/** What twins made of a file of `sent` readings, for people. */
export function outcomeText(outcome: Outcome, kind: Kind, labels: Labels, sent: number): string {
  const { twins, readings, labelled, known } = outcome;
  const lines = [`what ${counted(twins, 'twin')} made of ${counted(readings, 'reading')} of these times`];
  if (known > 0) lines.push(`  ${number(known)} of them had been received before: sent again, they are duplicates`);
  if (readings < sent)
    lines.push(
      `  ${number(sent - readings)} of ${number(sent)} that were sent changed no twin: older than what the twin has seen (backfill goes to history alone), repeated, or refused (GET /api/v1/dead-letters)`,
    );
  const width = Math.max(10, ...[...outcome.told.keys()].map((name) => name.length));
  const line = (what: string, said: string) => lines.push(`  ${what.padEnd(width)}  ${said}`);
  const told = [...outcome.told].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, each] of told) line(name, toldText(each, kind));
  if (told.length === 0) line('models', 'none was due');
  else if (told.every(([, { answers }]) => answers === 0))
    line('models', 'no answer: GET /api/v1/models says which are there');
  else if (told.some(([, { answers, due }]) => answers < ASKED_WELL * due))
    line('', 'a slower --speed asks at more of the moments that were due, `npm run rescore` at all of them');
  const events = Object.entries(outcome.events).sort(([a], [b]) => (a < b ? -1 : 1));
  line('events', events.length === 0 ? 'none' : events.map(([type, n]) => `${type} ${number(n)}`).join(', '));
  if (labelled > 0) {
    const many = labelled > readings / 2 ? `; more than half: is ${labels.column} the column of labels?` : '';
    lines.push(`against ${counted(labelled, 'labelled reading')} (${[...labels.texts].join(', ')})${many}`);
    line('detectors', foundText(outcome.detectors, `of ${counted(readings, 'reading')}`));
    const scored = told.filter(([, each]) => each.scored > 0);
    for (const [name, each] of scored) {
      const asked = `of ${number(each.scored)} that it was asked about, ${number(each.labelled)} of them labelled`;
      line(name, foundText(each.found, asked));
    }
    if (scored.length > 0) line('either', foundText(outcome.either, `of ${counted(readings, 'reading')}`));
  } else if (labels.column !== null) {
    const why = labels.seen === 0 ? `has no column ${labels.column}` : `marks no anomaly in ${labels.column}`;
    lines.push(`  held against no labels: the file ${why}`);
  }
  if (outcome.incomplete.length > 0)
    lines.push(`  not counted: the journals of ${outcome.incomplete.join(', ')} have lost their beginning (retention)`);
  return lines.join('\n');
}

function toldText({ models, answers, due, scored, flagged, forecast, open }: Told, kind: Kind): string {
  if (answers === 0) return `due ${number(due)} times, no answer`;
  const parts = [`${counted(answers, 'answer')} of ${models.join(', ')}, due ${number(due)} times`];
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
  const { truePositives: tp, falsePositives: fp, falseNegatives: fn } = found;
  // of nothing found, or nothing to find, there is no share
  const share = (value: number, whole: number): string => (whole === 0 ? '–' : value.toFixed(3)).padEnd(5);
  return `precision ${share(precision, tp + fp)}  recall ${share(recall, tp + fn)}  F1 ${share(f1, tp + fp + fn)}  ${of}`;
}

function counted(n: number, what: string): string {
  return `${number(n)} ${what}${n === 1 ? '' : 's'}`;
}

function number(n: number): string {
  return n.toLocaleString('en-US');
}
