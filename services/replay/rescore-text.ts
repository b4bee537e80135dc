import type { DifferenceItem, RescoreItem } from '../../actors/store/queries/rescore-list.ts';
import type { Change, What } from './comparison.ts';
import type { RescoreSummary } from './rescoring.ts';

/** A rescoring as its command prints it. */
const WHATS: Record<What, string> = { alert: 'alerts', anomaly: 'anomalies', maintenance: 'recommended actions' };
const COLUMNS: (Change | 'was' | 'now')[] = ['was', 'now', 'same', 'gained', 'lost', 'earlier', 'later'];
const SHOWN = 20;

type Table = (titles: readonly string[], rows: readonly (readonly string[])[]) => string;

export function rescoreText(item: RescoreItem, differences: readonly DifferenceItem[], table: Table): string {
  const head = `${item.model}@${item.version}, ${item.from} to ${item.to}`;
  if (item.state !== 'done' || item.summary === null) return `${head}: ${item.state}. ${item.error ?? ''}`.trim();
  const summary = item.summary as unknown as RescoreSummary;
  const { twins, readings, answers, elapsedMs, shortened, skipped } = summary;
  const tally = (Object.keys(WHATS) as What[]).map((what) => [
    WHATS[what],
    ...COLUMNS.map((column) => String(summary.tally[what][column])),
  ]);
  const lines = [
    head,
    `${count(twins.done)} twins, ${count(readings)} readings in ${(elapsedMs / 1000).toFixed(1)} s (${count(rate(readings, elapsedMs))} a second); ${count(answers.was)} answers were journaled, ${count(answers.now)} are of this version, ${count(answers.refused)} it refused`,
  ];
  if (shortened + skipped > 0)
    lines.push(
      `${count(shortened)} twins begin later than asked for, and ${count(skipped)} are left out: their history has been dropped`,
    );
  if (readings === 0) lines.push(...hintOf(item, summary));
  lines.push('', table(['', ...COLUMNS], tally));
  if (differences.length > 0) {
    const rows = differences
      .slice(0, SHOWN)
      .map((d) => [d.change, d.what, d.twinId, d.name, d.wasAt ?? '-', d.nowAt ?? '-']);
    lines.push('', table(['change', 'what', 'twin', 'name', 'was at', 'now at'], rows));
    if (differences.length > SHOWN)
      lines.push(`and ${count(differences.length - SHOWN)} more: GET /api/v1/rescores/${item.id}, or --json`);
  }
  return lines.join('\n');
}

/** Why there was nothing to fold, and what to type. */
function hintOf(
  { model, version, kind, twins }: RescoreItem,
  { received, kinds, ...summary }: RescoreSummary,
): string[] {
  if (summary.twins.total === 0)
    return [
      `There is ${twins === null ? 'no twin' : 'none of these twins'} of a kind that asks ${model} (${kinds.join(', ')}).`,
    ];
  if (!received) return ['These twins have no readings.'];
  const { first, last } = received;
  const span =
    'No reading was received in that span: --from and --to are times of receipt, not the event times that data carry.';
  const has = `What these twins have was received from ${first} to ${last}.`;
  const options = [
    ...(kind === null ? [] : [`--kind ${kind}`]),
    ...(twins ?? []).slice(0, SHOWN).map((twin) => `--twin ${twin}`),
  ];
  const command = ['npm run rescore --', `--model ${model}`, `--version ${version}`, `--from ${first}`, ...options];
  return [span, `${has} All of it: ${command.join(' ')}`];
}

function rate(readings: number, elapsedMs: number): number {
  return elapsedMs > 0 ? Math.round((readings / elapsedMs) * 1000) : 0;
}

function count(n: number): string {
  return n.toLocaleString('en-US');
}
