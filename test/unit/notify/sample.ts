import type { EventType, TwinEvent } from '../../../actors/protocol/event.ts';
import { type Notifiers, readNotifiers } from '../../../services/notify/notifiers-file.ts';

/** Events as a host delivers them, and notifiers as a file says them. */
let seq = 0;

export function event(type: EventType, body: Record<string, unknown>, more: Partial<TwinEvent> = {}): TwinEvent {
  seq++;
  const twinId = more.twinId ?? 'machine:M1';
  return {
    type,
    body,
    twinId,
    twin: 1,
    shard: 0,
    seq,
    revision: seq,
    eventId: `${twinId}~${seq}~0`,
    at: 1_767_225_600_000,
    receivedAt: 1_767_225_600_000,
    ...more,
  };
}

export function alertOf(
  state: 'raised' | 'acknowledged' | 'cleared' | 'resolved',
  id: string,
  more: Partial<TwinEvent> & { severity?: string; rule?: string } = {},
): TwinEvent {
  const { severity = 'high', rule = 'hot', ...rest } = more;
  return event(`alert.${state}`, { alertId: id, rule, severity, message: 'It is too hot.', value: 99 }, rest);
}

export function notifiersOf(
  receivers: Record<string, unknown>,
  rules: Record<string, unknown>[],
  env: Record<string, string> = {},
): Notifiers {
  return readNotifiers(JSON.stringify({ receivers, rules }), {
    env,
    readFile: () => {
      throw new Error('no files here');
    },
  });
}
