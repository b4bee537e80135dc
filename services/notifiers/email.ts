import { createHash } from 'node:crypto';
import nodemailer from 'nodemailer';
import type { NotificationPayload } from '../notify/notice.ts';
import type { EmailSettings } from '../notify/receiver-settings.ts';
import { type Receiver, Undelivered } from './receiver.ts';

/** Plain text over SMTP. The Message-ID follows from the notification: servers and readers that look at it drop a repetition. */
export function email({ url, from, to, timeoutMs }: EmailSettings): Receiver {
  const { protocol, hostname, port, username, password, searchParams } = new URL(url);
  const secure = protocol === 'smtps:';
  const transport = nodemailer.createTransport({
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? (secure ? 465 : 587) : Number(port),
    secure,
    // A password goes over an encrypted connection, unless the file says that this one needs none.
    requireTLS: !secure && username !== '' && searchParams.get('tls') !== 'off',
    ignoreTLS: !secure && searchParams.get('tls') === 'off',
    ...(username === '' ? {} : { auth: { user: decodeURIComponent(username), pass: decodeURIComponent(password) } }),
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    // A mail is text that we made: nothing in it may make the library read a file or fetch an address.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return {
    async send({ payload, key, signal }) {
      const sent = transport.sendMail({
        from,
        to: [...to],
        subject: subjectOf(payload),
        text: textOf(payload),
        messageId: `<${createHash('sha256').update(key).digest('hex').slice(0, 40)}@twinmesh>`,
        headers: {
          'X-Twinmesh-Delivery': key.replace(/[^\x21-\x7e]/g, '_').slice(0, 900),
          'Auto-Submitted': 'auto-generated',
        },
      });
      try {
        await Promise.race([sent, aborted(signal)]);
      } catch (error) {
        sent.catch(() => undefined);
        throw asUndelivered(error);
      }
    },
    close: () => transport.close(),
  };
}

function subjectOf({ severity, action, title }: NotificationPayload): string {
  const mark = action === 'trigger' ? severity : action === 'resolve' ? 'resolved' : 'acknowledged';
  return `[twinmesh ${mark}] ${title}`.replace(/[\p{Cc}\s]+/gu, ' ').slice(0, 200);
}

function textOf({ title, text, rule, twin, timestamp, severity, thread }: NotificationPayload): string {
  const lines = [title, '', ...(text === '' ? [] : [text, '']), `severity  ${severity}`];
  if (twin !== null) lines.push(`twin      ${twin}`);
  return [...lines, `time      ${timestamp}`, `rule      ${rule}`, `about     ${thread}`, ''].join('\n');
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** 5xx of SMTP is for good, but for a login that somebody may mend. */
function asUndelivered(error: unknown): unknown {
  const { responseCode, code, message } = error as { responseCode?: number; code?: string; message?: string };
  if (typeof responseCode !== 'number') return error;
  return new Undelivered(String(message), !(responseCode >= 500 && responseCode < 600) || code === 'EAUTH');
}
