import type { Severity } from '../../actors/protocol/entry.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { NoticeAction, NotificationPayload } from './notice.ts';

/**
 * Notifications and what decides on them, in the database: the next owner of a shard and the next start of a node go on from
 * there. Times in ms outside, timestamptz inside; they are those of the clock that is handed in, never the server's.
 *
 *      waiting ──claimed, sent──▶ sent
 *         │ ├──refused for good, too many attempts, too old──▶ dead
 *         │ └──over before it was told──▶ dropped
 */
export interface NewNotification {
  receiver: string;
  dedupKey: string;
  eventId: string | null;
  rule: string;
  thread: string;
  action: NoticeAction;
  twinId: string | null;
  kind: string | null;
  severity: Severity;
  /** Waits for the end of quiet hours, or of a cooldown. */
  held: boolean;
  nextAtMs: number;
  payload: NotificationPayload;
}

export interface Cooldown {
  rule: string;
  /** The twin, or what else is told of: column `twin_id`. */
  subject: string;
  untilMs: number;
  /** Of the worst severity told. */
  rank: number;
}

export interface Burst {
  rule: string;
  openedAtMs: number;
  closesAtMs: number;
  told: number;
  heldBack: number;
  rank: number;
  /** Titles of the first that were held back. */
  sample: string[];
}

export interface Escalation {
  rule: string;
  alertId: string;
  step: number;
  dueAtMs: number;
  eventId: string;
  payload: NotificationPayload;
}

/** What one receiver was told in a thread. */
export interface Told {
  thread: string;
  receiver: string;
  rule: string;
  /** Notifications that were sent, or are about to be. */
  told: number;
  /** Those held for quiet hours and not sent: their ids. */
  held: number[];
}

/** Everything that follows from some events, to be written in one statement. */
export interface Decisions {
  notifications: NewNotification[];
  cooldowns: Cooldown[];
  bursts: Burst[];
  escalations: Escalation[];
  /** Held notifications that are over before they were told. */
  drop: number[];
  /** Alerts that escalate no further. */
  calm: string[];
}

export const SAMPLE = 10;

const iso = (ms: number) => new Date(ms).toISOString();

export async function cooldownsOf(sql: Sql, pairs: readonly { rule: string; subject: string }[]): Promise<Cooldown[]> {
  if (pairs.length === 0) return [];
  const rows = await sql.query<{ rule: string; twin_id: string; until: Date; rank: number }>(
    `select c.rule, c.twin_id, c.until, c.rank from notify_cooldowns c
     join unnest($1::text[], $2::text[]) as p(rule, twin_id) on p.rule = c.rule and p.twin_id = c.twin_id`,
    [pairs.map((pair) => pair.rule), pairs.map((pair) => pair.subject)],
  );
  return rows.map((row) => ({ rule: row.rule, subject: row.twin_id, untilMs: row.until.getTime(), rank: row.rank }));
}

export async function burstsOf(sql: Sql, rules: readonly string[]): Promise<Burst[]> {
  if (rules.length === 0) return [];
  const rows = await sql.query<BurstRow>(`select ${BURST} from notify_bursts where rule = any($1::text[])`, [rules]);
  return rows.map(burstOf);
}

/** Bursts whose window is over and that have something to be summed up. */
export async function closedBursts(sql: Sql, nowMs: number): Promise<Burst[]> {
  const rows = await sql.query<BurstRow>(
    `select ${BURST} from notify_bursts where closes_at <= $1 and held_back > 0 order by rule limit 100`,
    [iso(nowMs)],
  );
  return rows.map(burstOf);
}

interface BurstRow {
  rule: string;
  opened_at: Date;
  closes_at: Date;
  told: number;
  held_back: number;
  rank: number;
  sample: string[];
}
const BURST = 'rule, opened_at, closes_at, told, held_back, rank, sample';
const burstOf = (row: BurstRow): Burst => ({
  rule: row.rule,
  openedAtMs: row.opened_at.getTime(),
  closesAtMs: row.closes_at.getTime(),
  told: row.told,
  heldBack: row.held_back,
  rank: row.rank,
  sample: row.sample,
});

/** Not on its way either: what a courier has claimed counts as told. */
const HELD = `(n.state = 'waiting' and n.held and n.attempts = 0 and n.owner is null)`;

/** Who has been told, or is about to be, that something goes on in these threads, and not yet that it is over. */
export async function toldOf(sql: Sql, threads: readonly string[]): Promise<Told[]> {
  if (threads.length === 0) return [];
  return await sql.query<Told & Record<string, unknown>>(
    `select n.thread, n.receiver, max(n.rule) as rule, count(*) filter (where not ${HELD})::int as told,
       coalesce(array_agg(n.id order by n.id) filter (where ${HELD}), '{}') as held
     from notifications n
     where n.thread = any($1::text[]) and n.action = 'trigger' and n.state in ('waiting', 'sent')
       and not exists (select from notifications r where r.thread = n.thread and r.receiver = n.receiver
         and r.action = 'resolve' and r.id > n.id)
     group by n.thread, n.receiver`,
    [threads],
  );
}

export async function waitingOf(sql: Sql, receivers: readonly string[]): Promise<Map<string, number>> {
  const rows = await sql.query<{ receiver: string; waiting: number }>(
    `select receiver, count(*)::int as waiting from notifications where state = 'waiting' and receiver = any($1::text[]) group by 1`,
    [receivers],
  );
  return new Map(rows.map((row) => [row.receiver, row.waiting]));
}

const NEW = `x(receiver text, dedup_key text, event_id text, rule text, thread text, action text, twin_id text, kind text,
  severity text, held boolean, next_at timestamptz, payload jsonb)`;
const COLUMNS = 'receiver, dedup_key, event_id, rule, thread, action, twin_id, kind, severity, held, next_at, payload';

const rowsOf = (notifications: readonly NewNotification[]) =>
  JSON.stringify(
    notifications.map((n) => ({
      receiver: n.receiver,
      dedup_key: n.dedupKey,
      event_id: n.eventId,
      rule: n.rule,
      thread: n.thread,
      action: n.action,
      twin_id: n.twinId,
      kind: n.kind,
      severity: n.severity,
      held: n.held,
      next_at: iso(n.nextAtMs),
      payload: n.payload,
    })),
  );

/** One statement, so that all of it is there or nothing; said twice, it is there once. Answers how many are new for each receiver. */
export async function writeDecisions(sql: Sql, d: Decisions, nowMs: number): Promise<Map<string, number>> {
  const rows = await sql.query<{ receiver: string; added: number }>(
    `with added as (
       insert into notifications (${COLUMNS}, state, created_at)
       select ${COLUMNS}, 'waiting', $1::timestamptz from jsonb_to_recordset($2::jsonb) as ${NEW}
       on conflict (receiver, dedup_key) do nothing returning receiver),
     cooled as (
       insert into notify_cooldowns as t (rule, twin_id, until, rank)
       select rule, twin_id, until, rank from jsonb_to_recordset($3::jsonb) as x(rule text, twin_id text, until timestamptz, rank int)
       on conflict (rule, twin_id) do update set until = greatest(t.until, excluded.until),
         rank = case when t.until > $1::timestamptz then greatest(t.rank, excluded.rank) else excluded.rank end),
     burst as (
       insert into notify_bursts as t (rule, opened_at, closes_at, told, held_back, rank, sample)
       select rule, opened_at, closes_at, told, held_back, rank, sample
       from jsonb_to_recordset($4::jsonb) as x(rule text, opened_at timestamptz, closes_at timestamptz, told int, held_back int, rank int, sample jsonb)
       on conflict (rule) do update set
         opened_at = case when ${OVER} then excluded.opened_at else t.opened_at end,
         closes_at = case when ${OVER} then excluded.closes_at else t.closes_at end,
         told = excluded.told + case when ${OVER} then 0 else t.told end,
         held_back = excluded.held_back + case when ${OVER} then 0 else t.held_back end,
         rank = greatest(excluded.rank, case when ${OVER} then 0 else t.rank end),
         sample = case when ${OVER} then excluded.sample when jsonb_array_length(t.sample) >= ${SAMPLE} then t.sample else t.sample || excluded.sample end),
     escalating as (
       insert into notify_escalations (rule, alert_id, step, due_at, event_id, payload)
       select rule, alert_id, step, due_at, event_id, payload
       from jsonb_to_recordset($5::jsonb) as x(rule text, alert_id text, step int, due_at timestamptz, event_id text, payload jsonb)
       on conflict (rule, alert_id) do nothing),
     dropped as (
       update notifications set state = 'dropped', done_at = $1::timestamptz where id = any($6::bigint[]) and state = 'waiting' and owner is null),
     calmed as (delete from notify_escalations where alert_id = any($7::text[]))
     select receiver, count(*)::int as added from added group by 1`,
    [
      iso(nowMs),
      rowsOf(d.notifications),
      JSON.stringify(
        d.cooldowns.map((c) => ({ rule: c.rule, twin_id: c.subject, until: iso(c.untilMs), rank: c.rank })),
      ),
      JSON.stringify(
        d.bursts.map((b) => ({
          rule: b.rule,
          opened_at: iso(b.openedAtMs),
          closes_at: iso(b.closesAtMs),
          told: b.told,
          held_back: b.heldBack,
          rank: b.rank,
          sample: b.sample,
        })),
      ),
      JSON.stringify(
        d.escalations.map((e) => ({
          rule: e.rule,
          alert_id: e.alertId,
          step: e.step,
          due_at: iso(e.dueAtMs),
          event_id: e.eventId,
          payload: e.payload,
        })),
      ),
      d.drop,
      d.calm,
    ],
  );
  return new Map(rows.map((row) => [row.receiver, row.added]));
}

/** A window that is over and has nothing left to be summed up begins anew. */
const OVER = '(t.closes_at <= $1::timestamptz and t.held_back = 0)';

/** Ends a burst and writes its summaries, unless something has been added to it meanwhile. True when it did. */
export async function endBurst(
  sql: Sql,
  burst: Burst,
  summaries: readonly NewNotification[],
  nowMs: number,
): Promise<boolean> {
  const rows = await sql.query(
    `with gone as (
       delete from notify_bursts where rule = $2 and opened_at = $3::timestamptz and held_back = $4 returning 1),
     added as (
       insert into notifications (${COLUMNS}, state, created_at)
       select ${COLUMNS}, 'waiting', $1::timestamptz from jsonb_to_recordset($5::jsonb) as ${NEW} where exists (select from gone)
       on conflict (receiver, dedup_key) do nothing)
     select 1 from gone`,
    [iso(nowMs), burst.rule, iso(burst.openedAtMs), burst.heldBack, rowsOf(summaries)],
  );
  return rows.length > 0;
}

export interface DueEscalation extends Escalation {
  /** Of the alert as it is now; null where it is gone. */
  state: string | null;
  silencedUntilMs: number | null;
}

/** Takes what is due: for `leaseMs` nobody else does. */
export async function takeEscalations(sql: Sql, nowMs: number, leaseMs: number): Promise<DueEscalation[]> {
  const rows = await sql.query<{
    rule: string;
    alert_id: string;
    step: number;
    event_id: string;
    payload: NotificationPayload;
    state: string | null;
    silenced_until: Date | null;
  }>(
    `with due as (
       select rule, alert_id from notify_escalations where due_at <= $1 order by due_at limit 100 for update skip locked),
     taken as (
       update notify_escalations e set due_at = $2 from due where e.rule = due.rule and e.alert_id = due.alert_id returning e.*)
     select t.rule, t.alert_id, t.step, t.event_id, t.payload, a.state, a.silenced_until
     from taken t left join alerts a on a.alert_id = t.alert_id`,
    [iso(nowMs), iso(nowMs + leaseMs)],
  );
  return rows.map((row) => ({
    rule: row.rule,
    alertId: row.alert_id,
    step: row.step,
    dueAtMs: nowMs,
    eventId: row.event_id,
    payload: row.payload,
    state: row.state,
    silencedUntilMs: row.silenced_until?.getTime() ?? null,
  }));
}

/** The step has been told, or waits on: `next` null ends it. */
export async function moveEscalation(
  sql: Sql,
  of: Escalation,
  next: { step: number; dueAtMs: number } | null,
  tell: readonly NewNotification[],
  nowMs: number,
): Promise<void> {
  await sql.query(
    `with added as (
       insert into notifications (${COLUMNS}, state, created_at)
       select ${COLUMNS}, 'waiting', $1::timestamptz from jsonb_to_recordset($2::jsonb) as ${NEW}
       on conflict (receiver, dedup_key) do nothing),
     gone as (delete from notify_escalations where $5::int is null and rule = $3 and alert_id = $4)
     update notify_escalations set step = $5::int, due_at = $6::timestamptz where $5::int is not null and rule = $3 and alert_id = $4`,
    [iso(nowMs), rowsOf(tell), of.rule, of.alertId, next?.step ?? null, next === null ? null : iso(next.dueAtMs)],
  );
}

/** Since when there are notifiers on this database: events from before are nobody's. Written once. */
export async function beginning(sql: Sql, nowMs: number): Promise<number> {
  await sql.query(
    `insert into settings (name, value) values ('notify_since', $1::jsonb) on conflict (name) do nothing`,
    [JSON.stringify({ at: nowMs })],
  );
  const [row] = await sql.query<{ value: { at: number } }>(`select value from settings where name = 'notify_since'`);
  return row.value.at;
}

const TIDY_AT_ONCE = 5_000;

/** What was done long ago, but for who was told of drift that has not ended: they hear of the end. */
export async function tidy(sql: Sql, keepMs: number, nowMs: number): Promise<void> {
  await sql.query(
    `delete from notifications where id in (
       select id from notifications n where created_at < $1 and state <> 'waiting'
         and not exists (select from drift_states s where s.drifting and n.thread = 'models/' || s.model || '~drift~' || s.input)
       order by created_at limit ${TIDY_AT_ONCE})`,
    [iso(nowMs - keepMs)],
  );
  await sql.query(`delete from notify_cooldowns where until < $1`, [iso(nowMs)]);
}

/** Left over from receivers that have gone from the file: given up once they are too old. */
export async function giveUpStrays(sql: Sql, known: readonly string[], beforeMs: number, nowMs: number): Promise<void> {
  await sql.query(
    `update notifications set state = 'dead', done_at = $1, last_error = 'The receiver is not in NOTIFIERS_FILE any more.'
     where state = 'waiting' and not (receiver = any($2::text[])) and created_at < $3`,
    [iso(nowMs), known, iso(beforeMs)],
  );
}
