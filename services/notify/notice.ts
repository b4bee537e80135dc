import type { Severity } from '../../actors/protocol/entry.ts';
import type { AlertBody, EventType, TwinEvent } from '../../actors/protocol/event.ts';
import { parseTwinId } from '../../actors/protocol/twin-id.ts';
import type { DATA_DRIFT } from '../drift/message.ts';

/** Events of twins, and what is told that is of no twin. */
export type NoticeType = EventType | typeof DATA_DRIFT;

/**
 * What an event means to somebody who is told of it: the beginning of something (`trigger`), or that it goes on otherwise
 * (`acknowledge`, `resolve`). What belongs together has one `thread`.
 */
export interface Notice {
  type: NoticeType;
  eventId: string;
  /** Null where it is of no twin. */
  twinId: string | null;
  /** What cooldowns go by: the twin, or the model. */
  subject: string;
  kind: string;
  /** Event time, ms. */
  at: number;
  action: NoticeAction;
  thread: string;
  /** One notification a receiver for each of these. */
  dedupKey: string;
  severity: Severity;
  alertId: string | null;
  /** The new health, where that is what changed. */
  health: string | null;
  title: string;
  text: string;
}

export type NoticeAction = 'trigger' | 'acknowledge' | 'resolve';

/** Types that a rule may name: those that begin something. What follows them goes to whoever was told. */
export const NOTICE_TYPES = [
  'alert.raised',
  'anomaly.detected',
  'maintenance.predicted',
  'maintenance.recorded',
  'health.changed',
  'desired.changed',
  'twin.offline',
  'twin.created',
  'twin.retired',
  'twin.restored',
  'data.drift',
] as const satisfies readonly NoticeType[];

const SEVERITY_OF: Record<string, Severity> = {
  low: 'info',
  medium: 'warning',
  high: 'high',
  critical: 'critical',
  ok: 'info',
  unknown: 'info',
  warning: 'warning',
};

/** Null for events of which nobody is ever told. */
export function noticeOf(event: TwinEvent): Notice | null {
  const { type, body, twinId } = event;
  const begin = { thread: event.eventId, dedupKey: event.eventId, severity: 'info' as Severity, alertId: null };
  const notice = (more: Pick<Notice, 'title'> & Partial<Notice>): Notice => ({
    type,
    eventId: event.eventId,
    twinId,
    subject: twinId,
    kind: parseTwinId(twinId).kind,
    at: event.at,
    action: 'trigger',
    health: null,
    text: '',
    ...begin,
    ...more,
  });
  switch (type) {
    case 'alert.raised':
      return notice(alert(twinId, body as unknown as AlertBody, 'raised', 'trigger'));
    case 'alert.acknowledged':
      return notice(alert(twinId, body as unknown as AlertBody, 'acknowledged', 'acknowledge'));
    case 'alert.cleared':
      return notice(alert(twinId, body as unknown as AlertBody, 'cleared', 'resolve'));
    case 'alert.resolved':
      return notice(alert(twinId, body as unknown as AlertBody, 'resolved', 'resolve'));
    case 'anomaly.detected': {
      const found = body.detector === 'model' ? String(body.prediction) : String(body.field);
      return notice({
        thread: `${twinId}~anomaly~${found}`,
        severity: SEVERITY_OF[String(body.severity)] ?? 'info',
        title: `${twinId}: unusual ${body.field}`,
        text: String(body.reason ?? ''),
      });
    }
    case 'maintenance.predicted': {
      const none = body.action === 'none';
      const hours = Math.round(Number(body.hours));
      return notice({
        action: none ? 'resolve' : 'trigger',
        thread: `${twinId}~maintenance~${body.prediction}`,
        severity: SEVERITY_OF[String(body.priority)] ?? 'info',
        title: none ? `${twinId}: no maintenance needed` : `${twinId}: ${String(body.action).replace('_', ' ')}`,
        text: `${hours.toLocaleString('en-US')} h of useful life predicted by ${body.model}.`,
      });
    }
    case 'maintenance.recorded':
      return notice({ title: `${twinId}: maintenance recorded`, text: textOf(body.work) });
    case 'health.changed':
      return notice({
        action: body.to === 'ok' ? 'resolve' : 'trigger',
        thread: `${twinId}~health`,
        severity: body.to === 'critical' ? 'critical' : (SEVERITY_OF[String(body.to)] ?? 'info'),
        health: String(body.to),
        title: `${twinId}: health is ${body.to}`,
        text: `It was ${body.from}.`,
      });
    case 'twin.offline':
      return notice({
        thread: `${twinId}~offline`,
        severity: 'warning',
        title: `${twinId} is offline`,
        text: textOf(body.reason),
      });
    case 'twin.online':
      return notice({ action: 'resolve', thread: `${twinId}~offline`, title: `${twinId} is online again` });
    case 'desired.changed':
      return notice({ title: `${twinId}: desired values changed`, text: body.by ? `By ${body.by}.` : '' });
    case 'twin.created':
    case 'twin.retired':
    case 'twin.restored':
      return notice({ title: `${twinId}: ${type.slice(5)}` });
    default:
      return null;
  }
}

function alert(twinId: string, body: AlertBody, state: string, action: NoticeAction) {
  const by = body.by === undefined ? '' : ` by ${body.by}`;
  return {
    action,
    thread: body.alertId,
    // The same state of the same alert is told once, whichever event says it.
    dedupKey: `${body.alertId}~${state}`,
    severity: body.severity,
    alertId: body.alertId,
    title: action === 'trigger' ? `${twinId}: ${body.rule}` : `${twinId}: ${body.rule} ${state}${by}`,
    text: body.note === undefined ? body.message : `${body.message} (${body.note})`,
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** What is stored and given to receivers. Plain JSON; nothing in it is secret. */
export interface NotificationPayload {
  rule: string;
  type: NoticeType | 'summary' | 'test';
  action: NoticeAction;
  severity: Severity;
  twin: string | null;
  kind: string | null;
  /** ISO 8601. */
  timestamp: string;
  title: string;
  text: string;
  /** Of the alert, or of whatever goes on. */
  thread: string;
  alert_id: string | null;
  /** 1 for the first step of an escalation, and so on. */
  escalation?: number;
  /** The message as it goes out over MQTT and Kafka. */
  event: Record<string, unknown> | null;
}

/** `message`: what is said of it outside, as `event` of the payload. */
export function payloadOf(notice: Notice, message: NotificationPayload['event'], rule: string): NotificationPayload {
  return {
    rule,
    type: notice.type,
    action: notice.action,
    severity: notice.severity,
    twin: notice.twinId,
    kind: notice.kind,
    timestamp: new Date(notice.at).toISOString(),
    title: notice.title,
    text: notice.text,
    thread: notice.thread,
    alert_id: notice.alertId,
    event: message,
  };
}
