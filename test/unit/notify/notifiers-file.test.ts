import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SettingsError } from '../../../config/settings.ts';
import { readNotifiers } from '../../../services/notify/notifiers-file.ts';
import { quietUntil } from '../../../services/notify/quiet-hours.ts';
import { secretsOf } from '../../../services/notify/receiver-settings.ts';
import { matchesGlob } from '../../../services/notify/rule.ts';

const SECRETS = {
  env: {
    CHAT: 'https://hooks.example.com/T1/B2/abcdef',
    KEY: 'k'.repeat(32),
    MAIL: 'smtp://me:pa%20ss@mail.example.com',
  },
  readFile: (path: string) => {
    if (path !== '/run/secrets/pd') throw new Error('no such file');
    return ' routing-key-1234\n';
  },
};

function faultsOf(file: unknown): readonly string[] {
  try {
    readNotifiers(typeof file === 'string' ? file : JSON.stringify(file), SECRETS);
    return [];
  } catch (error) {
    if (error instanceof SettingsError) return error.faults;
    throw error;
  }
}

describe('the file of notifiers', () => {
  const good = {
    receivers: {
      chat: { type: 'slack', url: { env: 'CHAT' } },
      'on-call': { type: 'pagerduty', routing_key: { file: '/run/secrets/pd' } },
      erp: { type: 'webhook', url: 'https://erp.example.com/in', secret: { env: 'KEY' }, headers: { 'x-tenant': '7' } },
      mail: { type: 'email', url: { env: 'MAIL' }, from: 'Plant <plant@example.com>', to: ['ops@example.com'] },
    },
    rules: [{ name: 'all', events: ['alert'], receivers: ['chat', 'erp'] }],
  };

  it('is read, secrets from where they are', () => {
    const { receivers, rules } = readNotifiers(JSON.stringify(good), SECRETS);
    expect(receivers.get('on-call')).toMatchObject({ routingKey: 'routing-key-1234', timeoutMs: 10_000 });
    expect(receivers.get('erp')).toMatchObject({ secret: SECRETS.env.KEY, headers: { 'x-tenant': '7' } });
    expect(rules).toMatchObject([
      { name: 'all', cooldownMs: 300_000, group: { above: 20, withinMs: 60_000 }, followUps: true, quiet: null },
    ]);
    const mail = receivers.get('mail');
    expect(mail && secretsOf(mail)).toContain('pa ss');
  });

  it('of the example is one', () => {
    const text = readFileSync(new URL('../../../deploy/notifiers.example.json', import.meta.url), 'utf8');
    const names = [...text.matchAll(/"env": "(\w+)"/g)].map((match) => match[1]);
    const env = Object.fromEntries(names.map((name) => [name, SECRETS.env.CHAT]));
    const { rules } = readNotifiers(text.replaceAll('"SMTP_URL"', '"MAIL"'), {
      env: { ...env, MAIL: SECRETS.env.MAIL },
      readFile: () => 'secret',
    });
    expect(rules.length).toBeGreaterThan(1);
  });

  it('tells all its faults at once, and no secret', () => {
    const faults = faultsOf({
      receivers: {
        chat: { type: 'slack', url: 'https://hooks.example.com/T1/B2/very-secret' },
        none: { type: 'pigeon' },
        'bad name': { type: 'webhook', url: 'ftp://x' },
        erp: { type: 'webhook', url: 'https://user:very-secret@erp.example.com', headers: { Host: 'x' }, speed: 3 },
        pd: { type: 'pagerduty', routing_key: { env: 'NOT_SET' }, timeout_s: 600 },
        mail: { type: 'email', url: { file: '/nowhere' }, from: 'a@b\r\nBcc: c@d', to: [] },
      },
      rules: [
        { name: 'r', events: ['alert.cleared'], receivers: ['nobody'], twins: ['machine:(.*)'], kinds: 'machine' },
        {
          name: 'r',
          events: ['alert'],
          receivers: ['pd'],
          quiet: { time_zone: 'Mars/Base', from: '25:00', to: '7:00' },
        },
        {
          events: ['alert'],
          receivers: ['pd'],
          escalate: [{ receivers: ['pd'] }],
          cooldown_s: -1,
          group: { above: 0 },
        },
      ],
      whatever: 1,
    }).join('\n');
    for (const expected of [
      'receivers.chat.url must not stand in this file',
      'receivers.none.type must be one of',
      'receivers."bad name" must be',
      'receivers.bad name.url must be a URL',
      'receivers.erp.url holds a password',
      '"Host" is no header',
      'receivers.erp.speed is not known',
      'receivers.pd.routing_key names the environment variable NOT_SET, which is not set',
      'receivers.pd.timeout_s must be a number from 0.1 to 60',
      'receivers.mail.url names the file /nowhere, which cannot be read',
      'receivers.mail.from must be',
      'receivers.mail.to must be a list',
      'rules[0].events must be a list',
      'rules[0].receivers must be a list',
      'rules[0].twins must be a list',
      'rules[0].kinds must be a list',
      'rules must have names of their own; r is there twice',
      'rules[1].quiet.time_zone is no time zone',
      'rules[1].quiet.from must be a time',
      'rules[2].name is missing',
      'rules[2].escalate[0].after_s is missing',
      'rules[2].cooldown_s must be a number',
      'rules[2].group.above must be a number',
      'whatever is not known',
    ])
      expect(faults).toContain(expected);
    expect(faults).not.toContain('very-secret');
  });

  it.each(['{', '[]', 'null', '{"receivers":[]}', '{"receivers":{"a":null},"rules":{}}', '{"__proto__":{"a":1}}'])(
    'refuses %s',
    (text) => expect(faultsOf(text).length).toBeGreaterThan(0),
  );
});

describe('twins of a rule', () => {
  it.each([
    ['machine:*', 'machine:M1', true],
    ['machine:*', 'mote:M1', false],
    ['*:LINE?_*', 'machine:LINE2_7', true],
    ['*:LINE?_*', 'machine:LINE22_7', false],
    ['machine:M1', 'machine:M10', false],
    ['*a*b', 'xaxxabab', true],
    ['', 'x', false],
  ])('%s and %s: %s', (glob, twinId, matches) => expect(matchesGlob(glob, twinId)).toBe(matches));

  it('are found in no time, whatever the pattern', () => {
    expect(matchesGlob(`${'*a'.repeat(70)}b`, 'a'.repeat(160))).toBe(false);
  });
});

describe('quiet hours', () => {
  const quiet = {
    timeZone: 'Europe/Vienna',
    from: 22 * 60,
    to: 7 * 60,
    days: new Set([0, 1, 2, 3, 4, 5, 6]),
    pass: new Set([]),
    hold: true,
  } as const;
  const at = (iso: string) => Date.parse(iso);
  const until = (of: Parameters<typeof quietUntil>[0], iso: string) => {
    const end = quietUntil(of, at(iso));
    return end === null ? null : new Date(end).toISOString();
  };

  it.each([
    ['2026-01-15T21:30:30Z', '2026-01-16T06:00:00.000Z'],
    ['2026-01-15T05:59:59.999Z', '2026-01-15T06:00:00.000Z'],
    ['2026-01-15T06:00:00Z', null],
    ['2026-01-15T20:59:59Z', null],
    // The night in which the clocks go forward, and the one in which they go back.
    ['2026-03-28T22:00:00Z', '2026-03-29T05:00:00.000Z'],
    ['2026-10-24T22:00:00Z', '2026-10-25T06:00:00.000Z'],
  ])('over midnight: %s until %s', (now, end) => expect(until(quiet, now)).toBe(end));

  it('of a day begin on it', () => {
    const friday = { ...quiet, days: new Set([5]) };
    expect(until(friday, '2026-01-16T23:00:00Z')).toBe('2026-01-17T06:00:00.000Z');
    expect(until(friday, '2026-01-17T03:00:00Z')).toBe('2026-01-17T06:00:00.000Z');
    expect(until(friday, '2026-01-17T23:00:00Z')).toBe(null);
    expect(until(friday, '2026-01-16T03:00:00Z')).toBe(null);
  });

  it('of whole days join', () => {
    const weekend = { ...quiet, from: 0, to: 0, days: new Set([0, 6]) };
    expect(until(weekend, '2026-01-17T12:00:00Z')).toBe('2026-01-18T23:00:00.000Z');
    expect(until(weekend, '2026-01-19T12:00:00Z')).toBe(null);
  });
});
