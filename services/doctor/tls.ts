import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { Check, Tell } from './check.ts';

/** TLS files: readable, in their time, and a key that belongs to its certificate. */
const SOON_DAYS = 21;
const DAY_MS = 86_400_000;

export const tls: Check = {
  part: 'tls',
  applies: ({ tlsCaFile, tlsCertFile, tlsKeyFile }) => (tlsCaFile ?? tlsCertFile ?? tlsKeyFile) !== null,
  look({ settings, clock }, tell) {
    const authorities = certificates('TLS_CA_FILE', settings.tlsCaFile, tell);
    const own = certificates('TLS_CERT_FILE', settings.tlsCertFile, tell);
    for (const [setting, found] of [
      ['TLS_CA_FILE', authorities],
      ['TLS_CERT_FILE', own],
    ] as const)
      for (const certificate of found) inTime(setting, certificate, clock.now(), tell);
    if (settings.tlsKeyFile !== null && own.length > 0) keyOf(own[0], settings.tlsKeyFile, tell);
  },
};

function certificates(setting: string, file: string | null, tell: Tell): X509Certificate[] {
  if (file === null) return [];
  const text = textOf(setting, file, tell);
  if (text === null) return [];
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  try {
    if (blocks.length === 0) throw new Error('it holds no certificate in PEM form');
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    tell.fault(`${setting} (${file}): ${messageOf(error)}`, 'Give it certificates in PEM form.');
    return [];
  }
}

function inTime(setting: string, certificate: X509Certificate, now: number, tell: Tell): void {
  const from = Date.parse(certificate.validFrom);
  const to = Date.parse(certificate.validTo);
  const name = `${setting}: ${certificate.subject.replaceAll('\n', ', ')}`;
  const until = new Date(to).toISOString().slice(0, 10);
  if (now > to) tell.fault(`${name} expired on ${until}`, 'Issue it anew and restart the nodes.');
  else if (now < from)
    tell.fault(`${name} is not valid before ${new Date(from).toISOString()}`, 'Look at the clock of this machine.');
  else if (to - now < SOON_DAYS * DAY_MS) tell.warning(`${name} expires on ${until}`, 'Issue it anew before that.');
  else tell.ok(`${name} is valid until ${until}`);
}

function keyOf(certificate: X509Certificate, file: string, tell: Tell): void {
  const text = textOf('TLS_KEY_FILE', file, tell);
  if (text === null) return;
  try {
    if (certificate.checkPrivateKey(createPrivateKey(text))) tell.ok('TLS_KEY_FILE belongs to TLS_CERT_FILE');
    else tell.fault('TLS_KEY_FILE is the key of another certificate', 'Give both files of one pair.');
  } catch {
    tell.fault(`TLS_KEY_FILE (${file}) holds no private key that can be read`, 'Give it a PEM key without passphrase.');
  }
}

function textOf(setting: string, file: string, tell: Tell): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    tell.fault(`${setting} (${file}) cannot be read: ${code}`, 'Give the path of a file that this user may read.');
    return null;
  }
}
