import type { Severity } from '../../actors/protocol/entry.ts';
import type { SlackSettings } from '../notify/receiver-settings.ts';
import { post } from './post.ts';
import type { Receiver } from './receiver.ts';

/** Slack's incoming webhook, and what speaks like it (Mattermost, Rocket.Chat). It has no key for repetitions: one may show twice. */
export function slack({ url }: SlackSettings): Receiver {
  return {
    send({ payload, nowMs, signal }) {
      const { severity, action, title, text, rule, twin, timestamp } = payload;
      const colour = action === 'trigger' ? COLOURS[severity] : '#2eb67d';
      const mark = action === 'trigger' ? severity.toUpperCase() : action === 'resolve' ? 'RESOLVED' : 'ACKNOWLEDGED';
      const fields = [
        ...(twin === null ? [] : [{ title: 'Twin', value: escaped(twin), short: true }]),
        { title: 'Rule', value: escaped(rule), short: true },
      ];
      const body = JSON.stringify({
        text: `*${mark}* ${escaped(title)}`,
        attachments: [
          {
            color: colour,
            fallback: escaped(title),
            text: escaped(text),
            fields,
            ts: Math.floor(Date.parse(timestamp) / 1_000),
          },
        ],
      });
      return post({ url, body, nowMs, signal });
    },
    close() {},
  };
}

const COLOURS: Record<Severity, string> = { info: '#4a90d9', warning: '#ecb22e', high: '#e8912d', critical: '#e01e5a' };

/** Slack's own three: without them a text could call everybody (`<!channel>`) or hide where a link leads. */
function escaped(text: string): string {
  return text.slice(0, 2_900).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
