import type { Fields } from './fields.ts';

/** One receiver as the file says it, with its secrets in it: never answered, never logged. Times in ms. */
export type ReceiverSettings = WebhookSettings | SlackSettings | PagerDutySettings | EmailSettings;

interface Receiving {
  name: string;
  /** A delivery that takes longer has failed. */
  timeoutMs: number;
  /** Then it is given up. */
  attempts: number;
  giveUpAfterMs: number;
  /** Notifications that may wait; beyond it new ones are not taken. */
  queue: number;
}

export interface WebhookSettings extends Receiving {
  type: 'webhook';
  url: string;
  /** Key of the signature; null: unsigned. */
  secret: string | null;
  headers: Record<string, string>;
  /** Values that must not appear in an answer or a log. */
  secrets: readonly string[];
}

export interface SlackSettings extends Receiving {
  type: 'slack';
  url: string;
}

export interface PagerDutySettings extends Receiving {
  type: 'pagerduty';
  url: string;
  routingKey: string;
}

export interface EmailSettings extends Receiving {
  type: 'email';
  /** `smtp://user:password@host:port` or `smtps://…`. */
  url: string;
  from: string;
  to: readonly string[];
}

const TYPES = ['webhook', 'slack', 'pagerduty', 'email'] as const;
const PAGERDUTY = 'https://events.pagerduty.com/v2/enqueue';
const ADDRESS =
  /^(?:[^\s<>@"\r\n][^<>@"\r\n]{0,100} <[^\s<>@,"]{1,64}@[^\s<>@,"]{1,190}>|[^\s<>@,"]{1,64}@[^\s<>@,"]{1,190})$/;
const HEADER = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/;
/** What the request itself says. */
const OWN_HEADERS =
  /^(host|connection|content-length|content-type|transfer-encoding|upgrade|te|trailer|expect|x-twinmesh-.*)$/i;

/** Null where it is of no known type; other faults leave an object that is not used. */
export function readReceiver(name: string, fields: Fields): ReceiverSettings | null {
  const type = fields.text('type', /./, TYPES.join(', '));
  const receiving: Receiving = {
    name,
    timeoutMs: fields.number('timeout_s', 0.1, 60, 10) * 1_000,
    attempts: Math.round(fields.number('attempts', 1, 100, 25)),
    giveUpAfterMs: fields.number('give_up_after_s', 10, 7 * 86_400, 86_400) * 1_000,
    queue: Math.round(fields.number('queue', 1, 100_000, 10_000)),
  };
  let settings: ReceiverSettings | null = null;
  switch (type) {
    case 'webhook':
      settings = readWebhook(receiving, fields);
      break;
    case 'slack': {
      const url = fields.secret('url');
      checkUrl(fields, 'url', url, ['https:', 'http:'], true);
      settings = { ...receiving, type, url };
      break;
    }
    case 'pagerduty': {
      const url = fields.text('url', /./, 'a URL', PAGERDUTY);
      checkUrl(fields, 'url', url, ['https:', 'http:'], false);
      settings = { ...receiving, type, url, routingKey: fields.secret('routing_key') };
      break;
    }
    case 'email':
      settings = readEmail(receiving, fields);
      break;
    default:
      if (type !== '') fields.fault('type', `must be one of ${TYPES.join(', ')}`);
      return null;
  }
  fields.end();
  return settings;
}

function readWebhook(receiving: Receiving, fields: Fields): WebhookSettings {
  const { value: url, secret: isSecretUrl } = fields.maybeSecret('url');
  checkUrl(fields, 'url', url, ['https:', 'http:'], isSecretUrl);
  const secret = fields.raw('secret') === undefined ? null : fields.secret('secret');
  const headers: Record<string, string> = {};
  const secrets = [...(isSecretUrl ? [url] : []), ...(secret ? [secret] : [])];
  const given = fields.object('headers');
  for (const name of given?.names ?? []) {
    if (!HEADER.test(name) || OWN_HEADERS.test(name)) {
      given?.fault(JSON.stringify(name), 'is no header that may be set');
      given?.raw(name);
      continue;
    }
    const header = given?.maybeSecret(name);
    if (header === undefined) continue;
    if (!/^[\t\x20-\x7e]{1,4000}$/.test(header.value)) given?.fault(name, 'must be printable ASCII');
    headers[name] = header.value;
    if (header.secret) secrets.push(header.value);
  }
  return { ...receiving, type: 'webhook', url, secret, headers, secrets };
}

function readEmail(receiving: Receiving, fields: Fields): EmailSettings {
  const { value: url, secret } = fields.maybeSecret('url');
  checkUrl(fields, 'url', url, ['smtp:', 'smtps:'], secret);
  return {
    ...receiving,
    type: 'email',
    url,
    from: fields.text('from', ADDRESS, 'an address such as twinmesh@example.com'),
    to: fields.words('to', (word) => ADDRESS.test(word), 'addresses') ?? missing(fields, 'to'),
  };
}

function missing(fields: Fields, name: string): string[] {
  fields.fault(name, 'is missing');
  return [];
}

/** One that stands in the file in plain sight must not carry a password. */
function checkUrl(fields: Fields, name: string, text: string, protocols: readonly string[], secret: boolean): void {
  if (text === '') return;
  const url = URL.canParse(text) ? new URL(text) : null;
  const form = protocols.map((protocol) => `${protocol}//…`).join(' or ');
  if (url === null || !protocols.includes(url.protocol) || url.hostname === '')
    fields.fault(name, `must be a URL of the form ${form}`);
  else if (!secret && url.password !== '')
    fields.fault(name, 'holds a password: name a variable { "env": … } or a file { "file": … } that holds the URL');
}

/** What must not leave in an error of a receiver. */
export function secretsOf(settings: ReceiverSettings): string[] {
  const parts = (text: string) => {
    const url = new URL(text);
    return [text, url.pathname.length > 1 ? url.pathname : '', decodeURIComponent(url.password), url.password];
  };
  switch (settings.type) {
    case 'webhook':
      return settings.secrets.flatMap((secret) => (URL.canParse(secret) ? parts(secret) : [secret])).filter(isLong);
    case 'slack':
      return parts(settings.url).filter(isLong);
    case 'pagerduty':
      return [settings.routingKey];
    case 'email':
      return parts(settings.url).filter(isLong);
  }
}

const isLong = (text: string) => text.length > 3;
