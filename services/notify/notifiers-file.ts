import { SEVERITIES, type Severity } from '../../actors/protocol/entry.ts';
import { SettingsError } from '../../config/settings.ts';
import { Fields, type SecretSources, systemSecrets } from './fields.ts';
import { NOTICE_TYPES } from './notice.ts';
import { isTimeZone, type QuietHours } from './quiet-hours.ts';
import { type ReceiverSettings, readReceiver } from './receiver-settings.ts';
import type { NotifyRule } from './rule.ts';

/** NOTIFIERS_FILE: receivers by name, and rules. docs/notify.md describes it. */
export interface Notifiers {
  receivers: ReadonlyMap<string, ReceiverSettings>;
  rules: readonly NotifyRule[];
  /** Events that are older when they come are passed over: after a long stop nobody wants them any more. */
  maxAgeMs: number;
  /** How long what was sent stays in the list. */
  keepMs: number;
}

export const NAME = /^[A-Za-z0-9._-]{1,64}$/;
const NAME_FORM = '1 to 64 characters of A-Z a-z 0-9 . _ -';
const KIND = /^[a-z][a-z0-9_]{0,30}$/;
const GLOB = /^[A-Za-z0-9._:*?-]{1,160}$/;
const HEALTHS = ['ok', 'warning', 'critical', 'unknown'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const TIME = /^([01]\d|2[0-3]):[0-5]\d$/;
const DAY_S = 86_400;
const MAX_RULES = 200;

/** Throws SettingsError with every fault. */
export function readNotifiers(text: string, sources: SecretSources = systemSecrets): Notifiers {
  const faults: string[] = [];
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new SettingsError(['NOTIFIERS_FILE is not valid JSON.']);
  }
  const file = new Fields(parsed, '', faults, sources);
  file.raw('$schema');
  const maxAgeMs = file.number('max_age_s', 60, 30 * DAY_S, DAY_S) * 1_000;
  const keepMs = file.number('keep_s', 3_600, 366 * DAY_S, 30 * DAY_S) * 1_000;
  const receivers = new Map<string, ReceiverSettings>();
  const named = file.object('receivers');
  if (named === null || named.names.length === 0) file.fault('receivers', 'must name at least one receiver');
  for (const name of named?.names ?? []) {
    if (!NAME.test(name)) named?.fault(JSON.stringify(name), `must be ${NAME_FORM}`);
    const fields = named?.object(name);
    const receiver = fields ? readReceiver(name, fields) : null;
    if (receiver !== null) receivers.set(name, receiver);
  }
  const known = new Set(named?.names ?? []);
  const rules = file.objects('rules').map((fields) => readRule(fields, known));
  if (rules.length > MAX_RULES) file.fault('rules', `must be ${MAX_RULES} at most`);
  const seen = new Set<string>();
  for (const { name } of rules) {
    if (seen.has(name) && name !== '') file.fault('rules', `must have names of their own; ${name} is there twice`);
    seen.add(name);
  }
  file.end();
  if (faults.length > 0) throw new SettingsError(faults.map((fault) => `NOTIFIERS_FILE: ${fault}`));
  return { receivers, rules, maxAgeMs, keepMs };
}

function readRule(fields: Fields, receivers: ReadonlySet<string>): NotifyRule {
  const isReceiver = (word: string) => receivers.has(word);
  const rule: NotifyRule = {
    name: fields.text('name', NAME, NAME_FORM),
    events: fields.words('events', isEvent, `events (${NOTICE_TYPES.join(', ')}, or the part before a dot)`) ?? [],
    kinds: fields.words('kinds', (word) => KIND.test(word), 'kinds'),
    severities: fields.words('severities', isSeverity, SEVERITIES.join(', ')) as Severity[] | null,
    twins: fields.words('twins', (word) => GLOB.test(word), 'twin ids with * and ?'),
    health: fields.words('health', (word) => HEALTHS.includes(word), HEALTHS.join(', ')),
    receivers: fields.words('receivers', isReceiver, 'receivers of this file') ?? [],
    cooldownMs: fields.number('cooldown_s', 0, 7 * DAY_S, 300) * 1_000,
    escalate: fields.objects('escalate').map((step) => {
      const read = {
        afterMs: step.number('after_s', 1, 7 * DAY_S, 0) * 1_000,
        receivers: step.words('receivers', isReceiver, 'receivers of this file') ?? [],
      };
      if (step.raw('after_s') === undefined) step.fault('after_s', 'is missing');
      if (step.raw('receivers') === undefined) step.fault('receivers', 'is missing');
      step.end();
      return read;
    }),
    quiet: readQuiet(fields.object('quiet')),
    group: readGroup(fields),
    followUps: fields.flag('follow_ups', true),
  };
  if (fields.raw('events') === undefined) fields.fault('events', 'is missing');
  if (fields.raw('receivers') === undefined) fields.fault('receivers', 'is missing');
  if (rule.escalate.length > 10) fields.fault('escalate', 'must have 10 steps at most');
  fields.end();
  return rule;
}

const isSeverity = (word: string) => SEVERITIES.includes(word as Severity);
const isEvent = (word: string) =>
  NOTICE_TYPES.some((type) => type === word || type.slice(0, type.indexOf('.')) === word);

function readQuiet(fields: Fields | null): QuietHours | null {
  if (fields === null) return null;
  const minutes = (name: string): number => {
    const [hour, minute] = fields.text(name, TIME, 'a time such as 22:00').split(':');
    return Number(hour) * 60 + Number(minute);
  };
  const timeZone = fields.text('time_zone', /^[A-Za-z0-9_+/-]{1,64}$/, 'a time zone such as Europe/Vienna');
  if (timeZone !== '' && !isTimeZone(timeZone)) fields.fault('time_zone', 'is no time zone that is known here');
  const days = fields.words('days', (word) => DAYS.includes(word), DAYS.join(', ')) ?? DAYS;
  const quiet: QuietHours = {
    timeZone,
    from: minutes('from'),
    to: minutes('to'),
    days: new Set(days.map((day) => DAYS.indexOf(day))),
    pass: new Set((fields.words('pass', isSeverity, SEVERITIES.join(', ')) ?? ['critical']) as Severity[]),
    hold: fields.flag('hold', true),
  };
  fields.end();
  return quiet;
}

/** On unless it is `false`: a storm is the last thing that anybody wants one by one. */
function readGroup(fields: Fields): NotifyRule['group'] {
  if (fields.raw('group') === false) return null;
  const group = fields.object('group');
  const read = {
    above: group?.number('above', 1, 10_000, 20) ?? 20,
    withinMs: (group?.number('within_s', 1, 3_600, 60) ?? 60) * 1_000,
  };
  group?.end();
  return read;
}
