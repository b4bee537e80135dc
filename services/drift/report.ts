import type { Sql } from '../../actors/store/sql.ts';
import type { ModelCard } from '../../models/card.ts';
import { addCounts, chanceIndex, type InputCounts, stabilityIndex } from '../../models/drift.ts';
import { changeState } from './outbox.ts';

/** How far what the live models are asked has moved from what they were trained on. */
export interface InputDrift {
  input: string;
  /** Population stability index; null where the card has no reference or too little was seen. */
  psi: number | null;
  /** What the index reaches by chance in a fleet of so few assets: it drifts above the threshold and this. Default 0. */
  chance?: number;
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
  /** Twins of the kind that spoke in that time, ASSETS_AT_MOST at most. */
  assets?: number;
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

/** Of so many assets chance has no say any more. */
const ASSETS_AT_MOST = 10_000;
/** Inputs that are the time itself come round once a day. */
const TIME = /^time\./;
/** The hour that has just begun may have no counts yet. */
const NEARLY_A_DAY_H = 23;

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
  const assets = await assetsOf(sql, [...new Set(live.map(({ card }) => card.kind))], fromMs);
  return live
    .map(({ card }) => {
      const own = counted.filter(({ model }) => model === card.name);
      const counts = own.reduce<InputCounts[]>((sum, row) => addCounts(sum, row.counts), []);
      const rows = own.reduce((sum, row) => sum + Number(row.rows), 0);
      const judged = states.filter((s) => s.model === card.name && s.version === card.version);
      const hours = new Set(own.map(({ hour }) => hour.getTime())).size;
      return modelDrift(card, counts, { rows, hours, assets: assets.get(card.kind) ?? 0 }, judged);
    })
    .sort((a, b) => (b.worst ?? -1) - (a.worst ?? -1));
}

function modelDrift(
  card: ModelCard,
  counts: readonly InputCounts[],
  { rows, hours, assets }: { rows: number; hours: number; assets: number },
  states: readonly StateRow[],
): ModelDrift {
  const inputs = card.inputs.map(({ name, reference }, i): InputDrift => {
    const { bins, missing } = counts[i] ?? { bins: [], missing: 0 };
    const seen = bins.reduce((sum, n) => sum + n, 0);
    const isEarly = TIME.test(name) && hours < NEARLY_A_DAY_H;
    const psi = reference === undefined || isEarly ? null : stabilityIndex(reference.shares, bins);
    const state = states.find(({ input }) => input === name);
    return {
      input: name,
      psi,
      chance: psi === null || assets === 0 || reference === undefined ? 0 : chanceIndex(reference.shares, assets),
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
  return { model: card.name, version: card.version, kind: card.kind, rows, hours, assets, worst, inputs };
}

async function assetsOf(sql: Sql, kinds: readonly string[], fromMs: number): Promise<Map<string, number>> {
  const assets = new Map<string, number>();
  for (const kind of kinds) {
    const [{ count }] = await sql.query<{ count: number }>(
      `select count(*)::int as count from
         (select 1 from twins where kind = $1 and not retired and received_at >= $2 limit ${ASSETS_AT_MOST}) spoke`,
      [kind, new Date(fromMs)],
    );
    assets.set(kind, count);
  }
  return assets;
}

export interface DriftChange {
  model: string;
  /** The live version; where there is none any more, the one it was told of. */
  version: string;
  kind: string;
  input: string;
  /** Null where it ended without having been judged. */
  psi: number | null;
  drifting: boolean;
  /** Why it ended; null where it begins. */
  reason: DriftEnd | null;
}

/**
 *   settled       the index has fallen
 *   input_gone    the version that is live now does not have the input
 *   no_reference  it has, without a reference to judge it by
 *   model_gone    no version of the model is live
 *   not_judged    for UNJUDGED_MS there was too little to judge it by
 */
export type DriftEnd = 'settled' | 'input_gone' | 'no_reference' | 'model_gone' | 'not_judged';

/** An input that drifts stays so until its index has fallen this far below the threshold: no flapping. */
const SETTLED = 0.8;
/** What was asked in fewer hours says more about the time of day than about drift. */
export const LEAST_HOURS = 6;
/**
 * A plant that stands still over a weekend, or holidays, has not ceased to drift by that: its state is kept while there is too little
 * to judge it by. What was last seen longer ago than this says nothing of what comes: it is judged anew then.
 */
export const UNJUDGED_DAYS = 7;
const UNJUDGED_MS = UNJUDGED_DAYS * 86_400_000;
/** `judged_at` is as precise as this: it is not written every minute. */
const JUDGED_STEP_MS = 3_600_000;

interface JudgedState {
  model: string;
  input: string;
  version: string;
  /** Null where a node of the version before has written it. */
  kind: string | null;
  score: number;
  drifting: boolean;
  judged_at: Date;
}

/**
 * Writes down which inputs have begun or ceased to drift, with what is to be said of it (outbox.ts), and answers those. `report` is of
 * all live versions. Whoever was told that an input drifts hears of the end, also where another version is live by then, it is not
 * judged any more, or the model is gone. Nodes that judge at once write the same once.
 */
export async function judgeDrift(
  sql: Sql,
  report: readonly ModelDrift[],
  threshold: number,
  nowMs: number,
): Promise<DriftChange[]> {
  const states = await sql.query<JudgedState>(
    'select model, input, version, kind, score, drifting, judged_at from drift_states',
  );
  const before = new Map(states.map((state) => [keyOf(state), state]));
  const changes: DriftChange[] = [];
  const told = (change: DriftChange | null) => void (change !== null && changes.push(change));
  const judged = new Set<string>();
  for (const { model, version, kind, inputs } of report.filter(({ hours }) => hours >= LEAST_HOURS))
    for (const { input, psi, chance = 0 } of inputs) {
      if (psi === null) continue;
      const key = keyOf({ model, input });
      judged.add(key);
      told(await judgeInput(sql, before.get(key), { model, version, kind, input, psi }, threshold + chance, nowMs));
    }
  const standing = states.filter(({ drifting }) => drifting);
  await noteJudged(
    sql,
    standing.filter((state) => judged.has(keyOf(state))),
    nowMs,
  );
  for (const state of standing) if (!judged.has(keyOf(state))) told(await endUnjudged(sql, state, report, nowMs));
  return changes;
}

/** A space is in neither. */
const keyOf = ({ model, input }: { model: string; input: string }) => `${model} ${input}`;

async function judgeInput(
  sql: Sql,
  before: JudgedState | undefined,
  judged: Pick<DriftChange, 'model' | 'version' | 'kind' | 'input'> & { psi: number },
  threshold: number,
  nowMs: number,
): Promise<DriftChange | null> {
  const { version, psi } = judged;
  const drifted = before !== undefined && before.version === version && before.drifting;
  const drifting = psi > (drifted ? threshold * SETTLED : threshold);
  if (before !== undefined && before.version === version && before.drifting === drifting) return null;
  // the first look at an input that does not drift is no news; that it drifted, of whichever version, is
  const told = drifting || (before?.drifting ?? false);
  const change: DriftChange = { ...judged, drifting, reason: drifting ? null : 'settled' };
  const written = await changeState(sql, { change, before, version, told }, nowMs);
  return written && told ? change : null;
}

/** The end of what is not judged any more; null while it may be again. */
async function endUnjudged(
  sql: Sql,
  state: JudgedState,
  report: readonly ModelDrift[],
  nowMs: number,
): Promise<DriftChange | null> {
  const { model, input } = state;
  const live = report.find((each) => each.model === model);
  const reason = whyNeverAgain(live, input) ?? (nowMs - state.judged_at.getTime() >= UNJUDGED_MS ? 'not_judged' : null);
  if (reason === null) return null;
  const { version, kind } = live ?? { version: state.version, kind: state.kind ?? '' };
  const change: DriftChange = { model, version, kind, input, psi: null, drifting: false, reason };
  const written = await changeState(sql, { change, before: state, version: state.version, told: true }, nowMs);
  return written ? change : null;
}

function whyNeverAgain(live: ModelDrift | undefined, input: string): DriftEnd | null {
  if (live === undefined) return 'model_gone';
  const found = live.inputs.find((each) => each.input === input);
  if (found === undefined) return 'input_gone';
  return found.bins.length === 0 ? 'no_reference' : null;
}

async function noteJudged(sql: Sql, judged: readonly JudgedState[], nowMs: number): Promise<void> {
  const due = judged.filter(({ judged_at }) => nowMs - judged_at.getTime() >= JUDGED_STEP_MS);
  if (due.length === 0) return;
  await sql.query(
    `update drift_states s set judged_at = greatest(s.judged_at, $1::timestamptz) from unnest($2::text[], $3::text[]) j(model, input)
     where s.model = j.model and s.input = j.input`,
    [new Date(nowMs), due.map(({ model }) => model), due.map(({ input }) => input)],
  );
}

/** Counts older than this are not asked for any more. */
export async function forgetCounts(sql: Sql, beforeMs: number): Promise<void> {
  await sql.query('delete from drift_counts where hour < $1', [new Date(beforeMs)]);
}
