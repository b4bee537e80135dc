import type { Sql } from '../../actors/store/sql.ts';
import type { ModelCard } from '../../models/card.ts';
import { addCounts, type InputCounts, stabilityIndex } from '../../models/drift.ts';

/** How far what the live models are asked has moved from what they were trained on. */
export interface InputDrift {
  input: string;
  /** Population stability index; null where the card has no reference or too little was seen. */
  psi: number | null;
  drifting: boolean;
  /** Since when it drifts or does not; null where that was never judged. */
  since: Date | null;
  /** Share of rows without a value. */
  missing: number;
  /** By bin: where it begins (null: from the lowest), share in training, share seen. For a chart. */
  bins: { from: number | null; expected: number; observed: number }[];
}

export interface ModelDrift {
  model: string;
  version: string;
  kind: string;
  /** Rows that were looked at in the time asked for, and in how many of its hours there were some. */
  rows: number;
  hours: number;
  /** The largest index of its inputs. */
  worst: number | null;
  inputs: InputDrift[];
}

interface CountsRow {
  model: string;
  hour: Date;
  rows: string;
  counts: InputCounts[];
}

interface StateRow {
  model: string;
  input: string;
  version: string;
  drifting: boolean;
  since: Date;
}

/** Live versions, the one that drifts most first. `fromMs`: counts of this hour and later. */
export async function driftReport(sql: Sql, fromMs: number): Promise<ModelDrift[]> {
  const [live, counted, states] = await Promise.all([
    sql.query<{ card: ModelCard }>(`select card from models where status = 'live' order by name`),
    sql.query<CountsRow>(
      `select c.model, c.hour, c.rows::text as rows, c.counts from drift_counts c join models m on m.name = c.model and m.version = c.version
       where m.status = 'live' and c.hour >= $1`,
      [new Date(fromMs)],
    ),
    sql.query<StateRow>('select model, input, version, drifting, since from drift_states'),
  ]);
  return live
    .map(({ card }) => {
      const own = counted.filter(({ model }) => model === card.name);
      const counts = own.reduce<InputCounts[]>((sum, row) => addCounts(sum, row.counts), []);
      const rows = own.reduce((sum, row) => sum + Number(row.rows), 0);
      const judged = states.filter((s) => s.model === card.name && s.version === card.version);
      const hours = new Set(own.map(({ hour }) => hour.getTime())).size;
      return modelDrift(card, counts, { rows, hours }, judged);
    })
    .sort((a, b) => (b.worst ?? -1) - (a.worst ?? -1));
}

function modelDrift(
  card: ModelCard,
  counts: readonly InputCounts[],
  { rows, hours }: { rows: number; hours: number },
  states: readonly StateRow[],
): ModelDrift {
  const inputs = card.inputs.map(({ name, reference }, i): InputDrift => {
    const { bins, missing } = counts[i] ?? { bins: [], missing: 0 };
    const seen = bins.reduce((sum, n) => sum + n, 0);
    const psi = reference === undefined ? null : stabilityIndex(reference.shares, bins);
    const state = states.find(({ input }) => input === name);
    return {
      input: name,
      psi,
      drifting: state?.drifting ?? false,
      since: state?.since ?? null,
      missing: rows === 0 ? 0 : missing / rows,
      bins: (reference?.shares ?? []).map((expected, b) => ({
        from: b === 0 ? null : (reference?.edges[b - 1] ?? null),
        expected,
        observed: seen === 0 ? 0 : (bins[b] ?? 0) / seen,
      })),
    };
  });
  const worst = inputs.reduce<number | null>((max, { psi }) => (psi === null ? max : Math.max(max ?? 0, psi)), null);
  return { model: card.name, version: card.version, kind: card.kind, rows, hours, worst, inputs };
}

export interface DriftChange {
  model: string;
  version: string;
  kind: string;
  input: string;
  psi: number;
  drifting: boolean;
}

/** An input that drifts stays so until its index has fallen this far below the threshold: no flapping. */
const SETTLED = 0.8;
/** What was asked in fewer hours says more about the time of day than about drift. */
export const LEAST_HOURS = 6;

/**
 * Writes down which inputs have begun or ceased to drift, and answers those. Two nodes that judge at once write the same once:
 * the row is only changed where it says otherwise.
 */
export async function judgeDrift(sql: Sql, report: readonly ModelDrift[], threshold: number, nowMs: number) {
  const changes: DriftChange[] = [];
  for (const { model, version, kind, inputs } of report.filter(({ hours }) => hours >= LEAST_HOURS))
    for (const { input, psi } of inputs) {
      if (psi === null) continue;
      const change = await judgeInput(sql, { model, version, kind, input, psi, drifting: false }, threshold, nowMs);
      if (change !== null) changes.push(change);
    }
  return changes;
}

async function judgeInput(
  sql: Sql,
  judged: DriftChange,
  threshold: number,
  nowMs: number,
): Promise<DriftChange | null> {
  const { model, version, input, psi } = judged;
  const [before] = await sql.query<{ version: string; drifting: boolean }>(
    'select version, drifting from drift_states where model = $1 and input = $2',
    [model, input],
  );
  const drifted = before !== undefined && before.version === version && before.drifting;
  // of whichever version: those who were told that it drifts hear of the end
  const wasTold = before?.drifting ?? false;
  const drifting = psi > (drifted ? threshold * SETTLED : threshold);
  if (before !== undefined && before.version === version && before.drifting === drifting) return null;
  const written = await sql.query(
    `insert into drift_states (model, input, version, score, drifting, since) values ($1, $2, $3, $4, $5, $6)
     on conflict (model, input) do update set version = excluded.version, score = excluded.score, drifting = excluded.drifting, since = excluded.since
       where (drift_states.version, drift_states.drifting) is distinct from (excluded.version, excluded.drifting)
     returning model`,
    [model, input, version, psi, drifting, new Date(nowMs)],
  );
  // the first look at an input that does not drift is no news
  if (written.length === 0 || (!drifting && !wasTold)) return null;
  return { ...judged, drifting };
}

/** Counts older than this are not asked for any more. */
export async function forgetCounts(sql: Sql, beforeMs: number): Promise<void> {
  await sql.query('delete from drift_counts where hour < $1', [new Date(beforeMs)]);
}
