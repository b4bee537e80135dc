import type { Block } from './block.ts';

/** What became of lines and readings; plain data, so that a checkpoint can hold it. */
export interface Totals {
  lines: number;
  accepted: number;
  duplicates: number;
  /** Of the accepted, those that went into history only: older than what their twins have folded. Null where nobody says. */
  backfilled: number | null;
  /** By code. */
  rejected: Record<string, number>;
  /** Lines that held no reading, by reason. */
  skipped: Record<string, number>;
  /** Readings older than history is kept. */
  beyondRetention: number;
}

/** What a delivery says about one block. */
export interface Delivered {
  accepted: number;
  duplicates: number;
  backfilled: number | null;
  rejected: { code: string; message: string }[];
}

export function noTotals(): Totals {
  return { lines: 0, accepted: 0, duplicates: 0, backfilled: 0, rejected: {}, skipped: {}, beyondRetention: 0 };
}

export function addBlock(totals: Totals, block: Block, delivered: Delivered): void {
  totals.lines += block.lines;
  totals.accepted += delivered.accepted;
  totals.duplicates += delivered.duplicates;
  totals.backfilled =
    totals.backfilled === null || delivered.backfilled === null ? null : totals.backfilled + delivered.backfilled;
  for (const { code } of delivered.rejected) totals.rejected[code] = (totals.rejected[code] ?? 0) + 1;
  for (const [reason, lines] of Object.entries(block.skipped))
    totals.skipped[reason] = (totals.skipped[reason] ?? 0) + lines;
}

export function sumOf(counts: Record<string, number>): number {
  let sum = 0;
  for (const count of Object.values(counts)) sum += count;
  return sum;
}

const WHY: Record<string, string> = {
  no_sensor_data: 'lines of 4 parts, a time without measurements',
  part_count: 'as many parts as no layout has',
  bad_time: 'no date and time where they belong',
  bad_mote_id: 'no whole number where the mote belongs',
  not_a_number: 'text where a measurement belongs',
  too_long: 'longer than a line may be',
  column_count: 'other than as many cells as the header has',
  unclosed_quote: 'a quote that is not closed on its line',
  no_values: 'all measurements blank',
  no_time: 'the time is blank',
  no_id: 'the id is blank',
};

/** The summary of one file, for people. */
export function summaryText(title: string, totals: Totals, seconds: number, linesBefore = 0): string {
  const number = (n: number) => n.toLocaleString('en-US');
  const row = (name: string, n: number, more = '') =>
    `  ${name.padEnd(12)}${number(n).padStart(12)}  ${more}`.trimEnd();
  const listed = (counts: Record<string, number>) =>
    Object.entries(counts)
      .sort((a, b) => b[1] - a[1])
      .map(([name, n]) => `${name} ${number(n)}`)
      .join(', ');
  const now = totals.lines - linesBefore;
  const rate = seconds > 0 ? ` (${number(Math.round(now / seconds))} lines/s)` : '';
  const before = linesBefore > 0 ? `, ${number(linesBefore)} of them before` : '';
  const lines = [`${title}: ${number(totals.lines)} lines${before}, in ${seconds.toFixed(1)} s${rate}`];
  const backfill = totals.backfilled
    ? `${number(totals.backfilled)} of them as backfill: history only, not folded`
    : '';
  lines.push(row('stored', totals.accepted, backfill));
  lines.push(row('duplicates', totals.duplicates));
  lines.push(row('rejected', sumOf(totals.rejected), listed(totals.rejected)));
  lines.push(row('skipped', sumOf(totals.skipped), listed(totals.skipped)));
  for (const reason of Object.keys(totals.skipped)) if (WHY[reason]) lines.push(`    ${reason}: ${WHY[reason]}`);
  return lines.join('\n');
}
