import { text } from './setting.ts';

/** Settings of what goes out: notifications. */
export const EVENTS = {
  NOTIFIERS_FILE: text(
    'a file (JSON)',
    /^[^\0]+$/,
    'events',
    null,
    'Who is told of what, and how: webhook, Slack, PagerDuty and e-mail receivers with their rules (docs/notify.md). Secrets in it are names of environment variables or files. Left out, nobody is notified.',
  ),
} as const;
