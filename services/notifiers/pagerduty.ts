import { createHash } from 'node:crypto';
import type { Severity } from '../../actors/protocol/entry.ts';
import type { PagerDutySettings } from '../notify/receiver-settings.ts';
import { post } from './post.ts';
import type { Receiver } from './receiver.ts';

/** PagerDuty's Events API v2. What belongs together has one dedup_key, so that a repetition changes nothing there. */
export function pagerduty({ url, routingKey }: PagerDutySettings): Receiver {
  return {
    send({ payload, nowMs, signal }) {
      const { severity, action, title, text, thread, rule, twin, kind, timestamp, type } = payload;
      const event = { routing_key: routingKey, event_action: action, dedup_key: dedupKeyOf(thread) };
      const what = {
        payload: {
          summary: (text === '' ? title : `${title}: ${text}`).slice(0, 1_024),
          source: twin ?? 'twinmesh',
          severity: SEVERITY[severity],
          timestamp,
          component: twin ?? undefined,
          group: kind ?? undefined,
          class: type,
          custom_details: { rule, severity, ...(payload.event ?? {}) },
        },
      };
      return post({ url, body: JSON.stringify(action === 'trigger' ? { ...event, ...what } : event), nowMs, signal });
    },
    close() {},
  };
}

const SEVERITY: Record<Severity, string> = { info: 'info', warning: 'warning', high: 'error', critical: 'critical' };
const MAX_KEY = 255;

function dedupKeyOf(thread: string): string {
  return thread.length <= MAX_KEY ? thread : createHash('sha256').update(thread).digest('hex');
}
